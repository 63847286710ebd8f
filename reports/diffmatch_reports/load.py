"""A run folder as the reports see it. What is missing or unreadable is a note beside the rest, not an end."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from diffmatch.domain import Card, InputError
from diffmatch.metrics import Counts, majority, summary
from diffmatch.runs import Curves, EvaluationRecord, RunFolder, RunRecord

SPLITS = ("test", "val", "unlabeled")
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
MANY_CLASSES = 8


@dataclass(frozen=True)
class Score:
    """One evaluation, its counts, and what answering the most labelled class everywhere would have scored on the same items."""

    record: EvaluationRecord
    counts: Counts
    baseline: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """Arrays of one file under samples/: image uint8 (dates, H, W) or (dates, H, W, 3), truth (H, W), steps (S, H, W)."""

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
        curves: step, name, class, value; empty where nothing was logged.
        problems: what could not be read, in words.
    """

    folder: Path
    record: RunRecord
    card: Card
    scores: dict[str, Score] = field(default_factory=dict)
    evaluations: list[EvaluationRecord] = field(default_factory=list)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
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
        """Of the headline; of a run that was never scored, the one that it would have been scored by."""
        score = self.scores.get("test")
        return score.record.protocol if score else (self.record.settings.get("eval", {}).get("protocol") or self.card.protocols[0].name)

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

    def series(self, name: str) -> pd.DataFrame:
        """A curve as a table, one row per step and one column per class ("" for curves without classes)."""
        if self.curves.empty:
            return pd.DataFrame()
        rows = self.curves[self.curves["name"] == name]
        return rows.pivot_table(index="step", columns="class", values="value", aggfunc="last")


def load_run(folder: RunFolder) -> RunView:
    """Read a run folder.

    Raises:
        InputError: run.json or the card in it cannot be read; everything else that is missing becomes a note.
    """
    record = folder.record()
    try:
        card = Card.model_validate(record.card)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{folder.record_path}: the card cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']})") from error
    run = RunView(folder.path, record, card)
    try:
        run.evaluations = [evaluation for evaluation, _ in folder.evaluations()]
        for split in SPLITS:
            if found := folder.evaluation(split):
                absent = card.protocol(found[0].protocol).empty
                baseline = summary(majority(found[1], int(np.argmax(run.labelled_pixels))), card, run.labelled_pixels, empty=absent)
                run.scores[split] = Score(*found, baseline)
    except (*UNREADABLE, InputError) as error:
        run.problems.append(f"The evaluations could not be read ({_brief(error)}).")
    run.curves = _curves(folder.path / "curves.csv", run.problems)
    for path in folder.samples():
        try:
            run.samples.append(_sample(path))
        except UNREADABLE as error:
            run.problems.append(f"samples/{path.name} could not be read ({_brief(error)}).")
    return run


def _curves(path: Path, problems: list[str]) -> pd.DataFrame:
    columns = list(Curves.FIELDS)
    if not path.exists():
        return pd.DataFrame(columns=columns)
    try:
        frame = pd.DataFrame(Curves.read(path), columns=columns)
    except UNREADABLE as error:
        problems.append(f"curves.csv could not be read ({_brief(error)}).")
        return pd.DataFrame(columns=columns)
    for column in ("step", "value"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame.replace([np.inf, -np.inf], np.nan).dropna(subset=["step", "value"])


def _sample(path: Path) -> Sample:
    with np.load(path, allow_pickle=False) as data:
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
