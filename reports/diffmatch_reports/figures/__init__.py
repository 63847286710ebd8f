"""The paper's figures from run records: vector and PNG, readable in grey, each with a caption of what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from diffmatch.domain import InputError
from diffmatch.shared.files import write_atomically
from diffmatch_reports.figures import classes, pictures, pool, training
from diffmatch_reports.figures.comparison import Comparison, compare
from diffmatch_reports.figures.style import STYLE
from diffmatch_reports.load import RunView

__all__ = ["FIGURES", "Kind", "draw", "kind", "save"]

FORMATS = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
"""What a figure is saved as, and the metadata that would make two savings differ."""


@dataclass(frozen=True)
class Kind:
    """One of the paper's figures.

    Attributes:
        split: what it is drawn from.
        usable: whether a run has what the figure needs.
        needs, remedy: the same in words, and how to get it.
    """

    number: int
    title: str
    split: Literal["test", "unlabeled"]
    paint: Callable[[Comparison], Figure]
    usable: Callable[[RunView], bool]
    needs: str
    remedy: str


_POOL = pool.usable, "an evaluation on the unlabelled pool", "`diffmatch evaluate RUN --split unlabeled` makes one"
_CLASSES = classes.usable, "test numbers by class", "`diffmatch evaluate RUN` makes them"
_AUDITS = training.usable, "audits in curves.csv", "train a method that uses the pool, with train.audits above 0"
_SAMPLES = pictures.usable, "pictures under samples/", "train with eval.samples above 0"
_STEPS = pictures.stepwise, "pictures of several sampling steps", "train a diffusion method with eval.samples above 0"

FIGURES: dict[int, Kind] = {
    kind.number: kind
    for kind in (
        Kind(1, "Pseudo-labels of head and tail classes", "unlabeled", pool.label_counts, *_POOL),
        Kind(4, "Calibration of the pseudo-labels", "unlabeled", pool.reliability, *_POOL),
        Kind(5, "Confusion of the pseudo-labels", "unlabeled", pool.confusions, *_POOL),
        Kind(6, "Performance by class, relative to the best method", "test", classes.normalised, *_CLASSES),
        Kind(8, "Pseudo-labels through training", "unlabeled", training.label_counts, *_AUDITS),
        *(Kind(number, "Predictions on the test split", "test", pictures.grid, *_SAMPLES) for number in (9, 11, 12, 13)),
        Kind(10, "Prediction after each sampling step", "test", pictures.trajectory, *_STEPS),
    )
}
"""The figures that records can draw. 9, 11, 12 and 13 are one grid, in the paper of PASCAL VOC, WHU-CD, ACDC and Synapse; 2, 7, 14 and 15
are drawings of the idea, 3 is not a figure of results."""


def kind(number: int) -> Kind:
    """One of `FIGURES`.

    Raises:
        InputError: records cannot draw that number.
    """
    if number not in FIGURES:
        raise InputError(f"no figure {number}: from records {', '.join(map(str, sorted(FIGURES)))} can be drawn")
    return FIGURES[number]


def draw(number: int, runs: Sequence[RunView]) -> Figure:
    """One of the paper's figures. Runs that lack what it needs are named in its caption.

    Args:
        number: a key of `FIGURES`.
        runs: methods and their seeds, in the order in which they stand in the figure.

    Raises:
        InputError: unknown number, runs that may not stand side by side, or none that has what is needed.
    """
    asked = kind(number)
    found = compare(asked.title, asked.split, runs, asked.usable, asked.needs, asked.remedy)
    with matplotlib.rc_context(STYLE):
        return asked.paint(found)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.pdf, .svg and .png (the same bytes for the same figure), folders created, and return their paths."""
    paths = []
    for form, metadata in FORMATS.items():
        buffer = BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(buffer, format=form, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{form}")
        content = buffer.getvalue()
        write_atomically(path, lambda handle, content=content: handle.write(content))  # type: ignore[misc]
        paths.append(path)
    return paths
