"""Counts of a scored split: integers and sums, never pixels, as a record keeps them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffmatch.records import packed
from diffmatch.shared.files import write_atomically

BINS = 15
CONFIDENCE_UNIT = 1 << 20
"""Confidences are summed as integers of this unit, so that sums do not depend on the order of ranks or batches."""

SURFACE = ("hd95_voxel", "asd_voxel", "hd95_mm", "asd_mm")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COUNT, CORRECT, CONFIDENCE = 0, 1, 2
"""Rows of a reliability array."""


@dataclass
class Counts:
    """Everything that is kept of a scored split with C classes.

    Attributes:
        confusion: (C, C), rows truth, columns prediction, void left out.
        cases: case id -> (3, C) true positives, false positives, false negatives.
        surface: case id -> (4, C) distances named by `SURFACE`, NaN where undefined.
        top: (3, BINS) count, correct, confidence sum (in 1 / CONFIDENCE_UNIT) of the predicted class.
        per_class: (3, C, BINS) the same for each class's probability against "the truth is this class".
        foreground: (3, BINS) as `top`, without pixels that are background in truth and prediction.
        accepted: (C, C) as `confusion`, only pixels whose pseudo-label would have been trained on (the unlabelled pool;
            zero elsewhere).
    """

    classes: int
    confusion: Ints = field(init=False)
    top: Ints = field(init=False)
    per_class: Ints = field(init=False)
    foreground: Ints = field(init=False)
    accepted: Ints = field(init=False)
    cases: dict[str, Ints] = field(default_factory=dict)
    surface: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        c = self.classes
        self.confusion = np.zeros((c, c), np.int64)
        self.accepted = np.zeros((c, c), np.int64)
        self.top = np.zeros((3, BINS), np.int64)
        self.foreground = np.zeros((3, BINS), np.int64)
        self.per_class = np.zeros((3, c, BINS), np.int64)

    def merge(self, other: Counts) -> Counts:
        """Add another rank's or batch's counts in place.

        The same case in both adds up, because a case's slices may be spread.
        """
        for name in ("confusion", "accepted", "top", "per_class", "foreground"):
            getattr(self, name).__iadd__(getattr(other, name))
        for case, rows in other.cases.items():
            self.cases[case] = self.cases[case] + rows if case in self.cases else rows
        self.surface.update(other.surface)
        return self

    def save(self, path: Any) -> None:
        """Write as .npz, cases in sorted order, atomically."""
        names = sorted(self.cases)
        arrays: dict[str, NDArray[Any]] = {
            "confusion": self.confusion,
            "accepted": self.accepted,
            "reliability_top": self.top,
            "reliability_class": self.per_class,
            "reliability_foreground": self.foreground,
            "case_ids": np.array(names, dtype=np.str_),
            "case_counts": np.stack([self.cases[n] for n in names])
            if names
            else np.zeros((0, 3, self.classes), np.int64),
        }
        if self.surface:
            arrays["surface_ids"] = np.array(sorted(self.surface), dtype=np.str_)
            arrays["surface"] = np.stack([self.surface[n] for n in sorted(self.surface)])

        def write(handle: BinaryIO) -> None:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> Counts:
        """Read what `save` wrote, on disk or in a packed study."""
        with np.load(io.BytesIO(packed.read_bytes(path)), allow_pickle=False) as data:
            counts = cls(len(data["confusion"]))
            counts.confusion, counts.accepted = data["confusion"], data["accepted"]
            counts.top, counts.per_class = data["reliability_top"], data["reliability_class"]
            counts.foreground = data["reliability_foreground"]
            counts.cases = dict(zip(data["case_ids"].tolist(), data["case_counts"], strict=True))
            if "surface" in data:
                counts.surface = dict(zip(data["surface_ids"].tolist(), data["surface"], strict=True))
        return counts
