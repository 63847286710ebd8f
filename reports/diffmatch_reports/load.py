"""A run folder as the reports see it. What is missing or unreadable is a note beside the rest, not an end."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from diffmatch.domain import Card, InputError
from diffmatch.records import packed
from diffmatch.records.comparable import Conditions
from diffmatch.records.counts import Counts
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.records.select import select_evaluation
from diffmatch.scoring.metrics import majority, summary

SPLITS = ("test", "val", "unlabeled")
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, InputError)
MANY_CLASSES = 8

Series = dict[int, float]
"""A curve: step -> value."""


@dataclass(frozen=True)
class Score:
    """One evaluation, its counts, and the metrics of answering the most labelled class everywhere on the same items."""

    record: EvaluationRecord
    counts: Counts
    baseline: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """Arrays of one file under samples/: image (dates, H, W) or (dates, H, W, 3), truth (H, W), steps (S, H, W)."""

    title: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    steps: NDArray[np.uint8]


@dataclass
class RunView:
    """Everything that the reports show of one run.

    Attributes:
        scores: the headline evaluation (last checkpoint) by split, where it exists.
        evaluations: all evaluations, by name.
        curves: name -> class ("" for a curve without classes) -> curve; empty where nothing was logged.
        problems: what could not be read, in words.
    """

    folder: Path
    record: RunRecord
    card: Card
    scores: dict[str, Score] = field(default_factory=dict)
    evaluations: list[EvaluationRecord] = field(default_factory=list)
    curves: dict[str, dict[str, Series]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def metrics(self, split: str) -> dict[str, Any]:
        """The headline numbers of a split; empty where it was not scored."""
        score = self.scores.get(split)
        return score.record.metrics if score else self.record.metrics.get(split, {})

    @cached_property
    def labelled_pixels(self) -> list[int]:
        return [self.record.labels.pixels.get(name, 0) for name in self.card.names]

    @property
    def majority_class(self) -> str:
        return self.card.names[int(np.argmax(self.labelled_pixels))]

    @property
    def protocol(self) -> str:
        """The protocol of the headline; the card's default where the run was not scored."""
        score = self.scores.get("test")
        return score.record.protocol if score else self.card.protocols[0].name

    @cached_property
    def conditions(self) -> Conditions:
        """What a run must share with this one to be set against it."""
        return Conditions.of(self.record, self.protocol)

    def ranks(self) -> tuple[list[str], list[str]]:
        """Names of the head and the tail classes."""
        head, tail = self.card.ranked(self.labelled_pixels)
        return [self.card.names[c] for c in head], [self.card.names[c] for c in tail]

    def spotlight(self) -> list[str]:
        """The classes that get a panel of their own: all of a few, head and tail of many."""
        if len(self.card.classes) <= MANY_CLASSES:
            return self.card.names
        head, tail = self.ranks()
        return list(dict.fromkeys(head + tail))

    def series(self, name: str) -> dict[str, Series]:
        """A curve by class ("" for curves without classes); empty where it was not logged."""
        return self.curves.get(name, {})

    def slim(self) -> RunView:
        """The same run without counts, curves and samples: what many runs side by side need in memory."""
        bare = {split: replace(score, counts=Counts(0)) for split, score in self.scores.items()}
        return replace(self, scores=bare, curves={}, samples=[])


def load_run(folder: RunFolder) -> RunView:
    """Read a run folder.

    Raises:
        InputError: run.json or the card in it cannot be read; everything else that is missing becomes a note.
    """
    record = folder.record()
    try:
        card = _card(json.dumps(record.card))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder.record_path}: the card cannot be read ({where}: {first['msg']})") from error
    run = RunView(folder.path, record, card)
    run.evaluations, unreadable = folder.readable_evaluations()
    run.problems += [f"An evaluation could not be read ({problem})." for problem in unreadable]
    for split in SPLITS:
        headline = select_evaluation(record, run.evaluations, split=split)
        if headline is None:
            continue
        try:
            run.scores[split] = _score(run, headline, folder.counts(headline.name))
        except InputError as error:
            run.problems.append(f"An evaluation could not be read ({error}).")
    run.curves = _curves(folder.path / "curves.csv", run.problems)
    for path in folder.samples():
        try:
            run.samples.append(_sample(path))
        except UNREADABLE as error:
            run.problems.append(f"samples/{path.name} could not be read ({_brief(error)}).")
    return run


def _score(run: RunView, evaluation: EvaluationRecord, counts: Counts) -> Score:
    """The evaluation beside its baseline, scored by the same protocol."""
    baseline = majority(counts, int(np.argmax(run.labelled_pixels)))
    empty = run.card.protocol(evaluation.protocol).empty
    return Score(evaluation, counts, summary(baseline, run.card, run.labelled_pixels, empty=empty))


@lru_cache(maxsize=64)
def _card(text: str) -> Card:
    """Many runs share a card: it is read once."""
    return Card.model_validate_json(text)


def _curves(path: Path, problems: list[str]) -> dict[str, dict[str, Series]]:
    """Complete rows with finite numbers; of two rows of one step the later one."""
    curves: dict[str, dict[str, Series]] = {}
    if not packed.is_file(path):
        return curves
    try:
        for row in Curves.read(path):
            try:
                step, value = int(row["step"]), float(row["value"])
            except ValueError:
                continue
            if math.isfinite(value):
                curves.setdefault(row["name"], {}).setdefault(row["class"], {})[step] = value
    except UNREADABLE as error:
        problems.append(f"curves.csv could not be read ({_brief(error)}).")
        return {}
    return curves


def _sample(path: Path) -> Sample:
    with np.load(io.BytesIO(packed.read_bytes(path)), allow_pickle=False) as data:
        image, truth, steps = data["image"], data["truth"], data["steps"]
        title = str(data["title"]) if "title" in data else path.stem
    dated = image if image.ndim == 4 else image[None]
    if dated.shape[-1] == 1 and dated.ndim == 4:
        dated = dated[..., 0]
    if dated.shape[1:3] != truth.shape or steps.shape[1:] != truth.shape:
        raise ValueError(f"shapes differ: image {image.shape}, truth {truth.shape}, steps {steps.shape}")
    return Sample(title, dated, truth, steps)


def _brief(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
