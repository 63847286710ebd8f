"""COCO 2017 with 81 classes: background and the 80 things."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from diffmatch.domain import (
    VOID,
    Cache,
    Card,
    ClassInfo,
    InputError,
    Item,
    Mask,
    Protocol,
    Sample,
    SplitName,
    TopBottom,
)
from diffmatch.readers import image, masks
from diffmatch.readers.photographs import RECIPE, Photographs
from diffmatch_coco_instances import PAINTING, Instances, opened
from diffmatch_coco_phantom import write
from diffmatch_coco_things import THINGS

NAMES = [name for _, name, _ in THINGS]
LABELS = {**{index: index for index in range(len(THINGS) + 1)}, VOID: VOID}
FOLDERS: dict[SplitName, str] = {"train": "train2017", "test": "val2017"}
FULL = {"train2017": 118_287, "val2017": 5_000}

WHERE = (
    "take train2017.zip, val2017.zip and annotations_trainval2017.zip from https://cocodataset.org/#download and "
    "unpack them so that "
    "DIR/train2017/, DIR/val2017/ and DIR/annotations/instances_train2017.json exist (or put ready masks into "
    "DIR/masks/000000000139.png)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an item's pixels are.

    The photograph's folder, and the image's row in that folder's json (-1 with ready masks).
    """

    folder: str
    row: int = -1


class COCO(Photographs):
    """COCO 2017 with 81 classes, as semi-supervised segmentation uses it: background and the 80 things.

    Dataset features:

    * 118,287 photographs to train on; the 5,000 of val2017 are the test, and val is empty
    * an item has the same id in both layouts, its image's twelve digits

    Dataset format:

    * instances: `train2017/`, `val2017/`, `annotations/instances_{train,val}2017.json`; masks are painted by the recipe
      `diffmatch_coco_instances.PAINTING`
    * masks: `train2017/`, `val2017/`, `masks/000000000139.png`, one flat folder of class indices, as UniMatch has it;
      255 is void

    Dataset classes:

    0. background

    1 to 80 are the things in the order of their category ids, from person to toothbrush (`diffmatch_coco_things`).

    If you use this dataset in your research, please cite the following paper:

    * Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014, https://arxiv.org/abs/1405.0312

    Dataset licence:

    * annotations CC BY 4.0
    * photographs under their Flickr licences, which the json lists

    Args:
        root: the folder with `train2017/` and `val2017/`.

    Raises:
        InputError: photographs or both kinds of annotation are not there.
    """

    card = Card(
        version=1,
        name="coco",
        title="COCO 2017",
        modality="photographs",
        classes=(
            ClassInfo(name="background", color=(0, 0, 0)),
            *(ClassInfo(name=name, color=color) for _, name, color in THINGS),
        ),
        label_unit="images",
        budgets=("1/512", "1/256", "1/128", "1/64", "1/32"),
        protocols=(
            Protocol(name="val2017", title="mIoU over 81 classes, whole images of val2017", mode="image"),
            Protocol(
                name="unimatch_compat",
                title="the same; an absent class counts 0 as in UniMatch",
                mode="image",
                empty="zero",
            ),
        ),
        metric="mean_iou",
        head_tail=TopBottom(k=5),
        licence="annotations CC BY 4.0; photographs under their Flickr licences, which the json lists",
        citation="Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014",
        source=WHERE,
        note="val2017 is the test, as the community has it: there is no val. test2017 has no public annotation and is "
        "not read",
    )
    # Where the paper is silent: UniMatch's published COCO settings (lr 4e-3, ten times that outside the encoder).
    recipe = RECIPE.updated(
        paper={"network.encoder": "xception65", "train.lr": 0.004, "train.epochs": 30},
        # From p = 1/81 the squared error leaves most classes alone for longer than these steps (README).
        quick={"train.steps": 1100, "diffusion.loss": "ce"},
    )
    sizes: ClassVar = {"1/512": 232, "1/256": 463, "1/128": 925, "1/64": 1849, "1/32": 3697}
    families: ClassVar = {
        "7a80d0605a2a43838cb7d3c3a90aa7258d597f0556e45dd1ba504a5a5ebb3a10": "unimatch",
        "d89f8cf50e276af374dd5112996d4a3a16e035c7f803ff99c513e8ee296597d2": "unimatch",
        "92eb3929f14c6eab21abdeb1acc1c42635d141fb8c08c1a59dea677998e5a9d7": "unimatch",
        "67e1fa5b00095d68e9e7b811e8590c95314ff5ab96b55b11dd4b17976536e805": "unimatch",
        "3410484b2537220155eaed47112df3fa8a88fde40f9d2fea8ce03152c0099a5c": "unimatch",
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._opened: dict[str, Instances] = {}
        for folder in FULL:
            if not (root / folder).is_dir():
                raise InputError(f"{root / folder}: no such folder; {WHERE}")
        self.ready = (root / "masks").is_dir()
        for folder in FULL if not self.ready else ():
            if not self._json(folder).is_file():
                raise InputError(f"{self._json(folder)}: no such file, and no {root / 'masks'} either; {WHERE}")

    def __getstate__(self) -> dict[str, Any]:
        """Without the open json tables: a process that gets a copy maps them from the cache itself."""
        return {**self.__dict__, "_opened": {}}

    @property
    def layout(self) -> str:
        return "ready masks (masks/)" if self.ready else f"instances json, masks painted by the recipe {PAINTING}"

    def remarks(self) -> list[str]:
        remarks = []
        for split, folder in FOLDERS.items():
            items = self._items[split]
            if len(items) != FULL[folder]:
                remarks.append(f"{folder}: {len(items):,} photographs, {FULL[folder]:,} in the full set")
            if bare := sum(not item.masked for item in items):
                remarks.append(f"{folder}: {bare:,} photographs have no mask in masks/; they can only be unlabelled")
        if self.ready and self._json("train2017").is_file():
            remarks.append(
                "masks/ is read; annotations/ is left alone (take masks/ away to have masks painted from the json)"
            )
        if not self.ready:
            remarks.append(
                "which recipe made UniMatch's masks is not known: figures compare with others only where the masks "
                "were made alike"
            )
        return remarks

    def prepare(self, cache: Cache) -> None:
        super().prepare(cache)
        self._opened = {}

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    def read(self, item: Item, mask: bool = True) -> Sample:
        source: Source = item.ref
        path = self.root / source.folder / f"{item.id}.jpg"
        pixels = image.photograph(path)
        labels = None
        if mask and item.masked:
            where = self._mask_path(item.id) if self.ready else self._json(source.folder)
            labels = self._index_mask(where) if self.ready else self._instances(source.folder).mask(source.row)
            image.same_size(labels, where, pixels, path)
        return Sample(pixels[None], labels)

    def files(self) -> Iterable[Path]:
        photographs = [
            self.root / folder / f"{name}.jpg" for folder in FULL for name in _scan(self.root / folder, ".jpg")
        ]
        if self.ready:
            return [*photographs, *(self._mask_path(name) for name in _scan(self.root / "masks", ".png"))]
        return [*photographs, *map(self._json, FULL)]

    def _index_mask(self, path: Path) -> Mask:
        drawn = masks.read(path)
        self.palettes.check(drawn)
        raw = drawn.values
        if (foreign := raw[(raw > len(THINGS)) & (raw != VOID)]).size:
            raise InputError(
                f"{path}: label value {foreign[0]} on {(raw == foreign[0]).sum()} pixels, but classes end at "
                f"{len(THINGS)}; this looks like a COCO-Stuff map or raw category ids: take 81-class masks, or the "
                "instances json without masks/"
            )
        return drawn.classes(LABELS)

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        find = self._mask_items if self.ready else self._json_items
        items = {split: find(folder) for split, folder in FOLDERS.items()}
        return {**items, "val": []}

    def _mask_items(self, folder: str) -> list[Item]:
        photographs, masks = _scan(self.root / folder, ".jpg"), set(_scan(self.root / "masks", ".png"))
        if not photographs or not masks:
            empty = self.root / ("masks" if photographs else folder)
            raise InputError(
                f"{empty}: no file named by twelve digits, such as 000000000139{'.png' if photographs else '.jpg'}; "
                f"{WHERE}"
            )
        missing = [name for name in photographs if name not in masks]
        if folder == FOLDERS["test"] and missing:
            raise InputError(
                f"{self._mask_path(missing[0])}: missing, though {folder} is scored ({len(missing)} such); add the "
                "masks"
            )
        return [Item(name, name, Source(folder), masked=name in masks) for name in photographs]

    def _json_items(self, folder: str) -> list[Item]:
        rows = {f"{number:012d}": row for row, number in enumerate(self._instances(folder).rows[:, 0].tolist())}
        photographs = _scan(self.root / folder, ".jpg")
        if strange := [name for name in photographs if name not in rows]:
            raise InputError(
                f"{self.root / folder / strange[0]}.jpg: {self._json(folder).name} has no such image ({len(strange)} "
                "such); "
                "take the photographs and the json of one release"
            )
        if missing := sorted(set(rows) - set(photographs)):
            raise InputError(
                f"{self.root / folder / missing[0]}.jpg: missing, though {self._json(folder).name} lists it "
                f"({len(missing)} such); "
                f"unpack {folder}.zip again"
            )
        return [Item(name, name, Source(folder, rows[name])) for name in photographs]

    def _instances(self, folder: str) -> Instances:
        if folder not in self._opened:
            self._opened[folder] = opened(self._json(folder), NAMES, self.cache)
        return self._opened[folder]

    def _json(self, folder: str) -> Path:
        return self.root / "annotations" / f"instances_{folder}.json"

    def _mask_path(self, name: str) -> Path:
        return self.root / "masks" / f"{name}.png"

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Photographs and instances json, invented: the 1/512 list, as many unlabelled x size, 60 x size for test.

        File names are those of an installed split list, else of the same form. An image looks the same at every size.
        """
        write(root, seed, size, cls)


def _scan(folder: Path, ending: str) -> list[str]:
    """Names of twelve digits with that ending, without it, sorted; one look at the folder, no look at its files."""
    pattern = re.compile(r"(\d{12})" + re.escape(ending))
    with os.scandir(folder) as entries:
        return sorted(match[1] for entry in entries if (match := pattern.fullmatch(entry.name)))
