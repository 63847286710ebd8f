"""Two dates of one place and a mask of what changed between them: the folders A, B and label of change detection sets.

The three folders hold files of the same names, either directly below the root or below train/, val/ and test/. Masks
are binary and stored as 0/1 or as 0/255; code that expects one and gets the other sees no change at all, so a set that
mixes both is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import SPLITS, InputError, Mask, Sample, map_labels
from diffmatch.readers.image import ENDINGS, by_stem, colours, opened
from diffmatch.readers.masks import Palettes
from diffmatch.readers.masks import read as read_mask
from diffmatch.readers.places import same_place

FOLDERS = ("A", "B", "label")


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of both dates and of the mask, all of one size."""

    before: Path
    after: Path
    label: Path


def folders(root: Path) -> dict[str, Path]:
    """Where A, B and label lie: `{"": root}`, or one folder by split; empty if nowhere."""
    if (root / "A").is_dir():
        return {"": root}
    return {split: root / split for split in SPLITS if (root / split / "A").is_dir()}


def listing(folder: Path) -> dict[str, Pair]:
    """The pairs of a folder by name without ending, in the names' order. No file is opened.

    Raises:
        InputError: A, B or label is missing or empty, or lacks a file that another of them has.
    """
    files = {name: by_stem(folder / name) for name in FOLDERS}
    for name, images in files.items():
        if not images:
            raise InputError(
                f"{folder / name}: holds no images ({', '.join(ENDINGS)}); A, B and label must lie side by side, copy "
                "the set again"
            )
    stems = sorted(set().union(*files.values()))
    for name, images in files.items():
        if missing := [stem for stem in stems if stem not in images]:
            owner = next(other for other in FOLDERS if missing[0] in files[other])
            raise InputError(
                f"{files[owner][missing[0]]}: has no counterpart in {name}/ ({len(missing)} missing there); "
                "A, B and label must hold the same names, copy the set again"
            )
    return {stem: Pair(*(files[name][stem] for name in FOLDERS)) for stem in stems}


class Encoding:
    """What `changed` is stored as, 1 or 255; one set has one of them.

    The first mask with a change decides, masks without a change fit both. Each loading process decides for itself.
    """

    def __init__(self) -> None:
        self.first: dict[int, Path] = {}
        self.palettes = Palettes({0: (0, 0, 0), 1: (255, 255, 255), 255: (255, 255, 255)})

    def decoded(self, path: Path, mask: bool) -> NDArray[Any]:
        """A whole image file.

        Raises:
            InputError: unreadable, a mask of no class numbers or with another's palette, or a photograph of more than
                8 bit.
        """
        if mask:
            drawn = read_mask(path)
            self.palettes.check(drawn)
            return drawn.values
        with opened(path) as image:
            return colours(image, path)

    def mask(self, raw: NDArray[Any], path: Path) -> Mask:
        """0 unchanged, 1 changed; shape as given.

        Raises:
            InputError: a value other than 0, 1 and 255, or 1 here and 255 there; a file of each is named.
        """
        mask = map_labels(raw, {0: 0, 1: 1, 255: 1}, path)
        for value in np.unique(raw[mask == 1]):
            self.first.setdefault(int(value), path)
        if len(self.first) > 1:
            raise InputError(
                f"{self.first[1]}: changed is stored as 1, but {self.first[255]} has it as 255; "
                "a set keeps to one of them: multiply or divide the masks of one kind by 255"
            )
        return mask


Decode = Callable[[Path, bool], NDArray[Any]]
"""(file, whether it is a mask) -> (H, W, 3) uint8 colours, or (H, W) raw mask values."""


def read(pair: Pair, encoding: Encoding, mask: bool = True, decode: Decode | None = None) -> Sample:
    """Image (2, 3, H, W) in [0, 1] and mask (H, W), 0 unchanged and 1 changed.

    Args:
        mask: if false, the mask's file is not opened.
        decode: reads a file, without it the whole (`Encoding.decoded`); one that reads a part must read the same part
            of all three.

    Raises:
        InputError: unreadable files, sizes or places that differ, values that are no binary mask's.
    """
    decode = decode or encoding.decoded
    before, after = decode(pair.before, False), decode(pair.after, False)
    _same_size(after, pair.after, before, pair.before)
    same_place(pair.after, pair.before)
    image = np.stack([before, after]).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    if not mask:
        return Sample(image)
    raw = decode(pair.label, True)
    _same_size(raw, pair.label, before, pair.before)
    same_place(pair.label, pair.before)
    return Sample(image, encoding.mask(raw, pair.label))


def _same_size(pixels: NDArray[Any], path: Path, before: NDArray[Any], before_path: Path) -> None:
    if pixels.shape[:2] != before.shape[:2]:
        sizes = [f"{a.shape[1]} x {a.shape[0]}" for a in (pixels, before)]
        raise InputError(
            f"{path}: {sizes[0]} pixels, but {before_path} has {sizes[1]}; both dates and the mask must be of one size"
        )
