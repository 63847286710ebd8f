"""LEVIR-CD: buildings that appeared or went between two Google Earth photographs of Texas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import SPLITS, InputError, Item, Sample, SplitName
from diffmatch.invented.aerial import write_patches
from diffmatch.readers import pairs
from diffmatch.readers.change import ChangeCard, ChangeDetection
from diffmatch.readers.image import size
from diffmatch.readers.lists import installed
from diffmatch.readers.pairs import Pair

ACROSS = 4
"""Patches along a side of an image."""
PUBLISHED = {"train": 7120, "val": 1024, "test": 2048}

WHERE = (
    "get it from https://justchenhao.github.io/LEVIR/ and unpack it so that DIR/train/A/train_1.png, DIR/train/B, "
    "DIR/train/label exist, "
    "val and test beside them (or take the 256-pixel patches that SemiCD and UniMatch link to: DIR/A/train_1_1.png, "
    "DIR/B, DIR/label)"
)


@dataclass(frozen=True, slots=True)
class Patch:
    """Files, and which part of them: (row, column, side in pixels), None for the whole."""

    pair: Pair
    part: tuple[int, int, int] | None = None


# torchgeo.datasets.LEVIRCD reads this set too: whole images of one layout, neither patches nor the community's ids.
# A test holds its pixels against these.
class LEVIRCD(ChangeDetection):
    """LEVIR-CD: buildings that appeared or went between two Google Earth photographs of Texas.

    Dataset features:

    * 637 pairs of images of 1024 x 1024 pixels, 0.5 m a pixel, 5 to 14 years apart
    * an image counts as 16 patches of 256 x 256: 7,120 to train, 1,024 for validation, 2,048 for test
    * an item is a patch and has the same id in both layouts; the 16 patches count from 1, row by row (the community's
      lists show the range 1 to 16, not the order)

    Dataset format:

    * `A/`, `B/`, `label/` (earlier, later, mask) directly below the root or below `train/`, `val/` and `test/`
    * images: `train_100.png`, 1024 pixels a side, as the authors hand them out; patches are cut as they are read
    * patches: `train_100_10.png`, 256 pixels a side, as SemiCD and UniMatch prepare them
    * photographs: 3 channels; masks: 1 channel, unchanged 0, changed 255

    Dataset classes:

    0. unchanged
    1. changed

    If you use this dataset in your research, please cite the following paper:

    * Chen and Shi, A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image Change
      Detection, Remote Sensing 12(10), 2020, https://doi.org/10.3390/rs12101662

    Dataset licence:

    * academic use only; the terms stand on the authors' page

    Args:
        root: the folder with `A/` or with `train/A/`.

    Raises:
        InputError: neither is there.
    """

    card = ChangeCard(
        version=1,
        name="levir_cd",
        title="LEVIR-CD building change",
        modality="satellite and aerial photographs on two dates",
        licence="academic use only; the terms stand on the authors' page",
        citation="Chen and Shi, A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image "
        "Change Detection, Remote Sensing 12(10), 2020",
        source=WHERE,
        note="an image of 1024 pixels counts as 16 patches, labelled ones too",
    )
    sizes: ClassVar = {"5%": 356, "10%": 712, "20%": 1424, "40%": 2848}
    families: ClassVar = {
        "94ec317207740c91ee71e0246607350391590e82884566157f078a4001a87be5": "unimatch",
        "0c3ac07190860c05732ea803f2bf4545ce92b03a8d33ce2752d851c6285c0997": "unimatch",
        "81608ce8559146361e2a41e30988c5485317f76bc4b12cca054a1d89a1004070": "unimatch",
        "d5ca1d59223b57143231bf5edab41fa4e2ea47c69f228f55255bcba28b988939": "unimatch",
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if not self.folders:
            raise InputError(f"{root}: neither A/ nor train/A/ is there; {WHERE}")

    @property
    def layout(self) -> str:
        kind = "images, 16 patches each," if self.items["train"][0].ref.part else "patches"
        return f"{kind} in A, B, label" + ("" if "" in self.folders else f" below {', '.join(self.folders)}")

    def remarks(self) -> list[str]:
        counts = {split: len(items) for split, items in self.items.items()}
        remarks = ["7,120 / 1,024 / 2,048 patches: the whole set"]
        if counts != PUBLISHED:
            here = " / ".join(f"{count:,}" for count in counts.values())
            remarks = [
                f"{here} patches, the whole set has 7,120 / 1,024 / 2,048: comparable only with runs on these files"
            ]
        first: Patch = self.items["train"][0].ref
        return remarks + self.remark_on_size((first.part[2],) * 2 if first.part else size(first.pair.before))

    def read(self, item: Item, mask: bool = True) -> Sample:
        patch: Patch = item.ref
        if patch.part is None:
            return pairs.read(patch.pair, self.encoding, mask)
        row, column, side = patch.part

        def cut(path: Path, of_mask: bool) -> NDArray[Any]:
            whole = self.cache.array(
                str(path.relative_to(self.root).with_suffix("")), lambda: self.encoding.decoded(path, of_mask)
            )
            if whole.shape[:2] != (side * ACROSS, side * ACROSS):
                have, want = f"{whole.shape[1]} x {whole.shape[0]}", f"{side * ACROSS} x {side * ACROSS}"
                raise InputError(f"{path}: {have} pixels, other images of this set have {want}; copy it again")
            return np.asarray(whole[row * side : (row + 1) * side, column * side : (column + 1) * side])

        return pairs.read(patch.pair, self.encoding, mask, cut)

    @cached_property
    def items(self) -> dict[SplitName, list[Item]]:
        items: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
        kinds: dict[bool, Path] = {}
        side = 0
        for split, name, pair in self._pairs():
            image = re.match(r"[A-Za-z]+_\d+", name)
            whole = image is not None and image[0] == name
            kinds.setdefault(whole, pair.before)
            if len(kinds) > 1:
                raise InputError(
                    f"{kinds[True]}: a whole image beside the patch {kinds[False].name}; keep images or patches, not "
                    "both"
                )
            if whole:
                side = side or _side(pair.before)
                parts = ((row, column, side) for row in range(ACROSS) for column in range(ACROSS))
                items[split] += [Item(f"{name}_{n}", name, Patch(pair, part)) for n, part in enumerate(parts, 1)]
            else:
                items[split].append(Item(name, image[0] if image else name, Patch(pair)))
        if not items["train"]:
            raise InputError(f"{self.root}: no training pairs are there; {WHERE}")
        return items

    def _pairs(self) -> Iterator[tuple[SplitName, str, Pair]]:
        """Split, name and files, by number: image 2 comes before image 10, in images and patches alike.

        Raises:
            InputError: all in one folder, and a name does not say to which split it belongs.
        """
        for folder, root in self.folders.items():
            for name, pair in sorted(
                pairs.listing(root).items(), key=lambda entry: [int(n) for n in re.findall(r"\d+", entry[0])]
            ):
                split = folder or name.split("_")[0]
                known: dict[str, SplitName] = {name: name for name in SPLITS}
                if split not in known:
                    raise InputError(
                        f"{pair.before}: where no folders divide, names must begin with train_, val_ or test_"
                    )
                yield known[split], name, pair

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Patches in A, B, label, invented, with masks of 0 and 255.

        356 for the 5 % budget, 356 x size more to train on, 40 x size for val and test each.

        With community lists installed the names are theirs, else numbers are drawn.
        """
        rng = np.random.default_rng(seed)
        family = next((f for f in installed(cls) if f.budget == "5%" and f.labelled), None)
        names = list(family.labelled or ()) if family else []
        listed = (family.unlabelled, family.val, family.test) if family else (None, None, None)
        counts = (356 * size + 356 - len(names), 40 * size, 40 * size)
        for split, ids, count in zip(SPLITS, listed, counts, strict=True):
            pool = sorted(ids) if ids else [f"{split}_{i // 16 + 1}_{i % 16 + 1}" for i in range(PUBLISHED[split])]
            names += [str(name) for name in rng.permutation(pool)[:count]]
        write_patches(root, names, seed)


def _side(path: Path) -> int:
    """Pixels along a patch of a whole image.

    Raises:
        InputError: the image is no square of 4 x 4 equal patches.
    """
    height, width = size(path)
    if height != width or height % ACROSS:
        raise InputError(
            f"{path}: {width} x {height} pixels give no {ACROSS} x {ACROSS} equal patches; take the 1024-pixel images"
        )
    return height // ACROSS
