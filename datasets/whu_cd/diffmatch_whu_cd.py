"""WHU-CD: changed buildings in two aerial photographs of Christchurch, 2012 and 2016."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from diffmatch.domain import SPLITS, InputError, Item, Sample, SplitName
from diffmatch.invented.aerial import write_patches
from diffmatch.readers import pairs
from diffmatch.readers.change import PATCH, ChangeCard, ChangeDetection
from diffmatch.readers.image import size
from diffmatch.readers.lists import installed
from diffmatch.readers.pairs import Pair
from diffmatch_whu_cd_scene import find, grid, window
from diffmatch_whu_cd_scene import size as scene_size

GRID, PADDED = 7434, 7620
VAL, TEST = 743, 744

WHERE = (
    "get the change detection scenes from https://gpcv.whu.edu.cn/data/building_dataset.html so that "
    "DIR/before/before.tif, "
    "DIR/after/after.tif and 'DIR/change label/change_label.tif' exist, or the 256-pixel patches that SemiCD and "
    "UniMatch link to "
    "(DIR/A, DIR/B, DIR/label)"
)


class WHUCD(ChangeDetection):
    """WHU-CD: changed buildings in two aerial photographs of Christchurch, 2012 and 2016.

    Dataset features:

    * one scene of 32,507 x 15,354 pixels, 0.2 m a pixel
    * 7,434 pairs of patches of 256 x 256, a grid of 59 rows and 126 columns: 5,947 to train, 743 for validation, 744
      for test
    * ids are the community's, `whucd_00001` to `whucd_07434`

    Dataset format:

    * patches: `A/`, `B/` and `label/` with files of the same names, as SemiCD and UniMatch hand them out (no division
      of their own)
    * divided patches: the same three folders below `train/`, `val/` and `test/`
    * scenes: `before/before.tif`, `after/after.tif` and `change label/change_label.tif`, cut into the same grid of
      patches as they are read
    * photographs: 3 channels; masks: 1 channel, unchanged 0, changed 1 or 255

    Dataset classes:

    0. unchanged
    1. changed

    If you use this dataset in your research, please cite the following paper:

    * Ji, Wei and Lu, Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial and Satellite
      Imagery Data Set, IEEE TGRS 57(1), 2019, https://doi.org/10.1109/TGRS.2018.2858817

    Dataset licence:

    * research use with citation; the terms stand on the authors' page

    Args:
        root: the folder with `A/`, with `train/A/`, or with `before/before.tif`.

    Raises:
        InputError: none of them is there.
    """

    card = ChangeCard(
        version=1,
        name="whu_cd",
        title="WHU-CD building change",
        modality="aerial photographs on two dates",
        licence="research use with citation; the terms stand on the authors' page",
        citation="Ji, Wei and Lu, Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial "
        "and Satellite Imagery Data Set, IEEE Transactions on Geoscience and Remote Sensing 57(1), 2019",
        source=WHERE,
        note="train, validation and test patches are neighbours in one scene",
    )
    sizes: ClassVar = {"5%": 297, "10%": 594, "20%": 1189, "40%": 2378}
    families: ClassVar = {
        "2229e12b8c92cdeed32ae62decda8feb057ec6285f430de054a4f999358e098d": "unimatch",
        "4010acd7b87ae59cfbcea360ce576882257c1939e4c49a3ba775ffb5cac1b50b": "unimatch",
        "10bbaad342e9cd5019f6d67484d95c6ecee8463e7970728fc7de0ab8b66a28a1": "unimatch",
        "59186565164102dc3fbcaf2f2886c55c3fd87391c50d4ede691126905ade8378": "unimatch",
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.scene = None if self.folders else find(root)
        self.repeated = 0
        if not self.scene and not self.folders.keys() & {"", "train"}:
            raise InputError(f"{root}: neither A/, train/A/ nor before/before.tif is there; {WHERE}")

    @property
    def layout(self) -> str:
        if self.scene:
            height, width = self._scene_size
            return f"scenes of {width} x {height}, cut into {height // PATCH} rows of {width // PATCH} patches"
        return (
            "patches in A, B, label"
            if "" in self.folders
            else f"patches in A, B, label below {', '.join(self.folders)}"
        )

    def remarks(self) -> list[str]:
        remarks = []
        counts = {split: len(items) for split, items in self.items.items()}
        total = sum(counts.values())
        if total == GRID:
            remarks.append("7,434 patches: the whole-patch grid of SemiCD and UniMatch")
        elif total == PADDED:
            remarks.append(
                "7,620 patches: the padded grid (6,096 / 762 / 762), another dataset; not comparable with results on "
                "7,434 patches"
            )
        else:
            remarks.append(
                f"{total:,} patches, neither 7,434 (SemiCD, UniMatch) nor 7,620 (padded): comparable only with runs "
                "on these files"
            )
        if self.repeated:
            remarks.append(f"{self.repeated} patches of train/ are in val/ or test/ too and are left out of train")
        elif counts["train"] == GRID - VAL:
            remarks.append(
                "train/ holds 6,691 = 5,947 + 744 patches: a shared archive with test patches among them; look for "
                "equal files"
            )
        if ("" in self.folders or self.scene) and not installed(self):
            own = self.root / "list"
            remarks.append(
                "no community lists installed: validation and test are this plugin's seeded tenths; install lists with "
                f"`diffmatch splits whu_cd --from {own if own.is_dir() else 'DIR'}`"
            )
        return remarks + ([] if self.scene else self.remark_on_size(size(self.items["train"][0].ref.before)))

    def read(self, item: Item, mask: bool = True) -> Sample:
        if not self.scene:
            return super().read(item, mask)
        top, left = item.ref
        return pairs.read(self.scene, self.encoding, mask, partial(window, top=top, left=left))

    def files(self) -> Iterable[Path]:
        return [self.scene.before, self.scene.after, self.scene.label] if self.scene else super().files()

    @cached_property
    def _scene_size(self) -> tuple[int, int]:
        assert self.scene is not None
        return scene_size(self.scene.before, self.scene.after, self.scene.label)

    @cached_property
    def items(self) -> dict[SplitName, list[Item]]:
        if self.scene:
            places = grid(*self._scene_size)
            return _divided([Item(f"whucd_{n:05d}", f"whucd_{n:05d}", place) for n, place in enumerate(places, 1)])
        listings = {split: pairs.listing(folder) for split, folder in self.folders.items()}
        if "" in listings:
            return _divided([Item(name, name, pair) for name, pair in listings[""].items()])
        self.repeated = _leave_out(listings)
        return {split: [Item(name, name, pair) for name, pair in listings.get(split, {}).items()] for split in SPLITS}

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Patches in A, B, label, invented, with masks of one bit.

        297 for the 5 % budget, 297 x size more to train on, 74 x size for val and test each.

        With community lists installed the names are theirs, else numbers are drawn.
        """
        rng = np.random.default_rng(seed)
        family = next((f for f in installed(cls) if f.budget == "5%" and f.labelled), None)
        if family:
            rest = [sorted(ids or ()) for ids in (family.unlabelled, family.val, family.test)]
            chosen = [rng.permutation(ids)[: n * size] for ids, n in zip(rest, (297, 74, 74), strict=True)]
            names = sorted({*(family.labelled or ()), *(str(name) for part in chosen for name in part)})
        else:
            numbers = rng.choice(GRID, min(297 + 447 * size, GRID), replace=False) + 1
            names = sorted(f"whucd_{n:05d}" for n in numbers)
        write_patches(root, names, seed, one_bit=True)


def _divided(items: list[Item]) -> dict[SplitName, list[Item]]:
    """80 / 10 / 10 in the published proportion, the same for the same items. Installed lists take its place."""
    order = np.random.default_rng(0).permutation(len(items))
    test, val = (len(items) * share // GRID for share in (TEST, VAL))
    place: dict[int, SplitName] = dict.fromkeys(order[:test].tolist(), "test")
    place |= dict.fromkeys(order[test : test + val].tolist(), "val")
    divided: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
    for i, item in enumerate(items):
        divided[place.get(i, "train")].append(item)
    return divided


def _leave_out(listings: dict[str, dict[str, Pair]]) -> int:
    """Take out of train what val or test holds too (a shared archive does), and count it.

    Raises:
        InputError: two different images under one name.
    """
    count = 0
    for split in ("val", "test"):
        for name in sorted(listings.get("train", {}).keys() & listings.get(split, {}).keys()):
            ours, theirs = listings["train"].pop(name).before, listings[split][name].before
            if not filecmp.cmp(ours, theirs, shallow=False):
                raise InputError(f"{ours}: differs from {theirs}, but names are ids; rename the files of one folder")
            count += 1
    return count
