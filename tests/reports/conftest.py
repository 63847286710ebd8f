"""A run folder as a training would leave it, made with the real record classes from simulated predictions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffmatch.domain import Card, ClassInfo, ForegroundThirds, Protocol
from diffmatch.records.counts import BINS, CONFIDENCE_UNIT, Counts
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import DataId, EvaluationRecord, Labels, RunRecord, SplitId
from diffmatch.scoring.metrics import summary
from diffmatch_reports import write_report
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.paper_cells import Source

CARD = Card(
    version=1,
    name="acdc",
    title="ACDC cardiac MRI",
    modality="MRI",
    classes=(
        ClassInfo(name="background", color=(0, 0, 0)),
        ClassInfo(name="RV", color=(0, 114, 178)),
        ClassInfo(name="Myo", color=(0, 158, 115)),
        ClassInfo(name="LV", color=(230, 159, 0)),
    ),
    channels=1,
    label_unit="cases",
    budgets=("1", "3", "7"),
    protocols=(
        Protocol(name="volume", title="volumes", mode="volume"),
        Protocol(name="slice", title="slices", mode="image"),
    ),
    metric="mean_dice",
    head_tail=ForegroundThirds(),
    foreground_calibration=True,
    licence="research only",
    citation="Bernard et al. 2018",
    source="https://example.org/acdc, unpacked into acdc/",
)
VOID = {"meta", "link", "br", "img", "input", "hr"}
LABELLED = {"background": 940_000, "RV": 21_000, "Myo": 16_500, "LV": 22_500}
SIDE = 40


def truth_map(rng: np.random.Generator) -> np.ndarray:
    """A ring of myocardium around the left ventricle, the right one beside it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    cy, cx, r = rng.uniform(15, 24), rng.uniform(18, 26), rng.uniform(3.5, 5.5)
    distance = np.hypot(y - cy, x - cx)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[np.hypot((y - cy) / 1.3, x - cx + 10) < r] = 1
    mask[distance < r + 2.2] = 2
    mask[distance < r] = 3
    return mask


def probabilities(truth: np.ndarray, rng: np.random.Generator, skill: float) -> np.ndarray:
    """(C, H, W): overconfident scores that favour the background."""
    noise = rng.normal(0, 1, (4, SIDE // 4, SIDE // 4)).repeat(4, 1).repeat(4, 2)
    scores = (
        noise * 1.6 + skill * (np.arange(4)[:, None, None] == truth) + np.array([1.2, 0.1, -0.4, 0.1])[:, None, None]
    )
    odds = np.exp(1.4 * scores)
    return odds / odds.sum(0)


def score(skill: float, seed: int, cases: int, surface: bool, pool: bool = False) -> Counts:
    """Counts of `cases` simulated volumes of one slice each."""
    rng = np.random.default_rng(seed)
    counts = Counts(4)
    for number in range(cases):
        truth = truth_map(rng)
        probs = probabilities(truth, rng, skill)
        labels, confidence = probs.argmax(0), probs.max(0)
        confusion = np.zeros((4, 4), np.int64)
        np.add.at(confusion, (truth.ravel(), labels.ravel()), 1)
        counts.confusion += confusion
        tp = np.diag(confusion)
        counts.cases[f"patient{number:03d}"] = np.stack([tp, confusion.sum(0) - tp, confusion.sum(1) - tp])
        for target, where in ((counts.top, np.ones_like(truth, bool)), (counts.foreground, (truth > 0) | (labels > 0))):
            fill(target, confidence[where], (labels == truth)[where])
        for c in range(4):
            fill(counts.per_class[:, c], probs[c].ravel(), (truth == c).ravel())
        if surface:
            distances = np.full((4, 4), np.nan)
            distances[:, 1:] = rng.uniform([[2], [0.5], [3], [0.8]], [[9], [2], [14], [3]], (4, 3))
            if number < 3:
                distances[:, 2] = np.nan
            counts.surface[f"patient{number:03d}"] = distances
        if pool:
            np.add.at(counts.accepted, (truth[confidence > 0.95], labels[confidence > 0.95]), 1)
    return counts


def fill(target: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> None:
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for row, weight in enumerate(
        (np.ones_like(bins), correct.astype(int), np.round(confidence * CONFIDENCE_UNIT).astype(int))
    ):
        np.add.at(target[row], bins, weight)


def evaluation(split: str, metrics: dict[str, Any], **changes: Any) -> EvaluationRecord:
    which = {"checkpoint": "last", "step": 600, "selection": "last checkpoint", "split": split, "protocol": "volume"}
    how = {"steps": 3, "draws": 1, "seconds": 21.4, "images_per_second": 17.9, "environment": {}}
    base: dict[str, Any] = {**which, **how, "metrics": metrics}
    return EvaluationRecord(**(base | changes))


def curves(path: Path, rng: np.random.Generator) -> None:
    log = Curves(path)
    truth = np.array([37_000, 1150, 900, 950])
    for step in range(0, 601, 10):
        decay = np.exp(-step / 200)
        unsup, sup = 0.2 + 0.3 * decay * rng.uniform(0.7, 1.3), 0.1 + 1.4 * decay * rng.uniform(0.9, 1.1)
        rows: list[tuple[int, str, str, float | int]] = [
            (step, "loss/supervised", "", sup),
            (step, "loss/unsupervised", "", unsup),
        ]
        rows += [
            (step, "loss/total", "", sup + unsup),
            (step, "lr", "", 0.01 * (1 - step / 601) ** 0.9),
            (step, "images_per_second", "", rng.uniform(28, 33)),
        ]
        for c, name in enumerate(CARD.names):
            made = truth[c] * 3 * (1 - (0.8 * decay if c else -0.05 * decay)) * rng.uniform(0.9, 1.1)
            rows += [
                (step, "pseudo/count", name, int(made)),
                (step, "pseudo/accepted", name, int(made * (0.9 - 0.6 * decay * (c > 0)))),
            ]
            if step % 50 == 0:
                predicted = int(truth[c] * (1 - (0.75 * decay if c else -0.06 * decay)))
                correct = int(predicted * (0.97 - 0.4 * decay * (c > 0)))
                rows += [
                    (step, f"audit/{key}", name, v)
                    for key, v in (
                        ("predicted", predicted),
                        ("truth", int(truth[c])),
                        ("correct", correct),
                        ("accepted", correct),
                    )
                ]
        log.append(rows)


def write(
    path: Path,
    *,
    method: str = "diffmatch",
    seed: int = 0,
    sha: str = "ab12cd34" * 8,
    status: str = "done",
    fabricated: bool = True,
    preset: str = "quick",
    skill: float = 4.0,
    full: bool = True,
    light: bool = False,
    title: str = "patient001, slice 5",
    **changes: Any,
) -> RunFolder:
    """Write a run folder. `full=False` writes run.json alone, like an early failure; `light=True` the test scores."""
    folder = RunFolder(path).create()
    labelled = [LABELLED[name] for name in CARD.names]
    slices = [f"patient{n:03d}_{s}" for n in (2, 9, 31) for s in range(10)]
    sizes = {"labelled": 30, "unlabelled": 1282, "val": 20, "test": 40}
    record = RunRecord(
        schema=1,
        status=status,
        reason="loss is not finite at step 17" if status == "failed" else None,
        dataset="acdc",
        method=method,
        seed=seed,
        preset=preset,
        overrides={"train.steps": 600},
        labels=Labels(budget="3", unit="cases", items=slices, pixels=LABELLED),
        split=SplitId(family="unimatch", sha256=sha, counts=sizes),
        data=DataId(root="data/acdc", fabricated=fabricated, fingerprint="77aa88bb" * 8),
        card=CARD.model_dump(mode="json"),
        settings={
            "train": {"steps": 600, "batch": 4, "lr": 0.01},
            "network": {"decoder": "unet", "encoder": "plain8", "weights": "none", "stride": 2, "dim": 32},
            "data": {"crop": 64, "resize": 96},
            "diffusion": {"steps": 3, "codec": "bits"},
            "method": {"threshold": 0.95},
        },
        hash="0f3a9c21",
        parameters={"total": 14_230_112, "denoiser": 1_204_551},
        timing={"train_seconds": 131.2, "train_images_per_second": 36.6, "evaluate_seconds": 21.4},
        environment={
            "python": "3.11.7",
            "device": "cpu",
            "cores": 2,
            "packages": {"torch": "2.11.0"},
            "command": ["diffmatch", "bench", "acdc"],
            "git": {"commit": "1234567890abcdef", "dirty": True},
        },
        warnings=["Class Myo has no pixel in 4 of 30 labelled slices."] if full else [],
    )
    if full:
        for split, cases, surface in (("test", 40, True), ("unlabeled", 70, False))[: 1 if light else 2]:
            counts = score(skill, seed + (split == "test"), cases, surface, pool=split == "unlabeled")
            metrics = summary(counts, CARD, labelled)
            record.metrics[split] = metrics
            folder.write_evaluation(evaluation(split, metrics), counts)
    if full and not light:
        fewer = score(skill - 0.4, seed, 40, False)
        folder.write_evaluation(evaluation("test", summary(fewer, CARD, labelled), steps=1), fewer)
        folder.write_evaluation(
            evaluation("test", summary(fewer, CARD, labelled), checkpoint="val", selection="best on val", step=450),
            fewer,
        )
        rng = np.random.default_rng(seed)
        curves(path / "curves.csv", rng)
        (path / "samples").mkdir(exist_ok=True)
        for number in range(3):
            truth = truth_map(rng)
            image = np.clip(np.array([40, 150, 90, 200])[truth] + rng.normal(0, 18, truth.shape), 0, 255).astype(
                np.uint8
            )
            steps = np.stack([probabilities(truth, rng, s).argmax(0) for s in (1.0, 2.0, 3.0)]).astype(np.uint8)
            truth[:2] = 255
            np.savez(path / "samples" / f"{number}.npz", image=image, truth=truth, steps=steps, title=np.array(title))
    folder.write(record.model_copy(update=changes))
    return folder


class Page(HTMLParser):
    """A well-formedness check that also collects tables (as rows of (text, data-value)) and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html, self.stack, self.ids = html, [], []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.stack.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value)
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("data-value")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.stack or "script" in self.stack:
            return
        self.text += data
        if "caption" in self.stack:
            self.captions[-1] += data
        elif self.stack and ("td" in self.stack or "th" in self.stack):
            row = self.tables[-1][-1]
            row[-1] = (row[-1][0] + data, row[-1][1])

    def table(self, caption: str) -> list[list[tuple[str, str | None]]]:
        return next(t for t, c in zip(self.tables, self.captions, strict=True) if caption in c)


@pytest.fixture
def parse() -> type[Page]:
    """`parse(html)`: a page taken apart."""
    return Page


@pytest.fixture
def page(tmp_path: Path) -> Callable[[list[RunFolder]], Page]:
    """`page(runs)`: the first page of their report."""
    return lambda runs: Page(write_report(runs, tmp_path / "report").page.read_text())


@pytest.fixture(scope="session")
def write_run() -> Callable[..., RunFolder]:
    """`write_run(path, **changes)`: a run folder at a path."""
    return write


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Write the n-th run under a folder of its own."""
    numbers = itertools.count(1)
    return lambda **changes: write(tmp_path / "runs" / str(next(numbers)), **changes)


@pytest.fixture
def make_view(make_run: Callable[..., RunFolder]) -> Callable[..., RunView]:
    """`make_view(confusion, **changes)`: a run as reports read it, with that confusion of the unlabelled pool."""

    def make(confusion: list[list[int]] | None = None, **changes: Any) -> RunView:
        run = load_run(make_run(**changes))
        if confusion is not None:
            counts = Counts(4)
            counts.confusion = np.array(confusion)
            run.scores["unlabeled"] = replace(run.scores["unlabeled"], counts=counts)
        return run

    return make


@pytest.fixture
def make_evaluation() -> Callable[..., EvaluationRecord]:
    return evaluation


@pytest.fixture
def source(make_run: Callable[..., RunFolder]) -> Callable[..., Source]:
    """`source(value, tail, **record fields)`: a finished run whose test numbers are these."""

    def make(value: float, tail: float = 0.5, protocol: str = "volume", **changes: Any) -> Source:
        folder = make_run(seed=changes.pop("seed", 0), method=changes.pop("method", "diffmatch"))
        record, (score, _) = folder.record(), folder.evaluation("test") or pytest.fail("no headline")
        rare = {"classes": changes.pop("rare", []), "value": tail}
        metrics = score.metrics | {"primary": {"name": "mean_dice", "value": value, "n_valid": 3}, "tail": rare}
        split = record.split.model_copy(update={"family": "ssl4mis"} | changes.pop("split", {}))
        data = record.data.model_copy(update={"fabricated": changes.pop("fabricated", False)})
        record = record.model_copy(update={"split": split, "data": data, **changes})
        return Source(folder.path, record, score.model_copy(update={"metrics": metrics, "protocol": protocol}))

    return make
