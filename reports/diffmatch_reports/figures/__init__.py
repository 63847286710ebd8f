"""The paper's figures from run records: vector and PNG, readable in grey, each with a caption of what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from diffmatch.domain import InputError
from diffmatch.shared.files import write_atomically
from diffmatch_reports.figures import pictures, plots
from diffmatch_reports.figures.comparison import Comparison, Need, compare, together
from diffmatch_reports.figures.drawing import STYLE
from diffmatch_reports.load import RunView

__all__ = ["FIGURES", "Kind", "draw", "kind", "save", "together"]

FORMATS = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
"""What a figure is saved as, and the metadata that would make two savings differ."""


@dataclass(frozen=True)
class Kind:
    """One of the paper's figures: what it is drawn from, what it needs of a run, and who draws it."""

    number: int
    title: str
    split: Literal["test", "unlabeled"]
    paint: Callable[[Comparison], Figure]
    need: Need


_POOL = Need(
    lambda run: "unlabeled" in run.scores and bool(run.scores["unlabeled"].counts.confusion.any()),
    "an evaluation on the unlabelled pool",
    "`diffmatch evaluate RUN --split unlabeled` makes one",
)
_CLASSES = Need(
    lambda run: bool(run.metrics("test").get("per_class")),
    "test numbers by class",
    "`diffmatch evaluate RUN` makes them",
)
_AUDITS = Need(
    lambda run: bool(run.series("audit/predicted") and run.series("audit/truth")),
    "audits in curves.csv",
    "train a method that uses the pool, with train.audits above 0",
)
_SAMPLES = Need(lambda run: bool(run.samples), "pictures under samples/", "train with eval.samples above 0")
_STEPS = Need(
    lambda run: any(len(sample.steps) > 1 for sample in run.samples),
    "pictures of several sampling steps",
    "train a diffusion method with eval.samples above 0",
)
_KINDS = (
    Kind(1, "Pseudo-labels of head and tail classes", "unlabeled", plots.pool_counts, _POOL),
    Kind(4, "Calibration of the pseudo-labels", "unlabeled", plots.pool_calibration, _POOL),
    Kind(5, "Confusion of the pseudo-labels", "unlabeled", plots.pool_confusion, _POOL),
    Kind(6, "Performance by class, relative to the best method", "test", plots.relative_scores, _CLASSES),
    Kind(8, "Pseudo-labels through training", "unlabeled", plots.pool_over_steps, _AUDITS),
    *(Kind(n, "Predictions on the test split", "test", pictures.grid, _SAMPLES) for n in (9, 11, 12, 13)),
    Kind(10, "Prediction after each sampling step", "test", pictures.trajectory, _STEPS),
)
FIGURES = {kind.number: kind for kind in _KINDS}
"""The figures that records can draw. 9, 11, 12 and 13 are one grid: in the paper of PASCAL VOC, WHU-CD, ACDC, Synapse.
The paper's 2, 7, 14 and 15 are drawings of the idea, its 3 is not a figure of results."""


def kind(number: int) -> Kind:
    """One of `FIGURES`.

    Raises:
        InputError: records cannot draw that number.
    """
    if number not in FIGURES:
        raise InputError(f"no figure {number}: from records {', '.join(map(str, sorted(FIGURES)))} can be drawn")
    return FIGURES[number]


def draw(number: int, runs: Sequence[RunView], apart: Sequence[str] = ()) -> Figure:
    """One of the paper's figures. Runs that lack what it needs, or are not comparable, are named in its caption.

    Args:
        number: a key of `FIGURES`.
        runs: methods and their seeds, in the order in which they stand in the figure.
        apart: what was left out of `runs` because it is not comparable, in words.

    Raises:
        InputError: unknown number, no two runs that may stand side by side, or none that has what is needed.
    """
    figure = kind(number)
    with matplotlib.rc_context(STYLE):
        return figure.paint(compare(figure.title, figure.split, runs, figure.need, apart))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.pdf, .svg and .png (the same bytes for the same figure), folders created, and return their paths."""
    paths = []
    for form, metadata in FORMATS.items():
        path = stem.with_name(f"{stem.name}.{form}")
        with matplotlib.rc_context(STYLE):
            write_atomically(path, partial(figure.savefig, format=form, metadata=metadata))
        paths.append(path)
    return paths
