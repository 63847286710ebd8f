"""Cityscapes: street scenes from 50 cities, 19 classes, finely annotated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from diffmatch.domain import Card, ClassInfo, InputError, Item, Protocol, Reading, SplitName, TopBottom
from diffmatch.readers import children, masks
from diffmatch.readers.photographs import STREETS, Pair, Photographs
from diffmatch_cityscapes_labels import CLASSES, FOREIGN_VOID, LABEL_IDS, TRAIN_IDS, only_label_ids, void_share
from diffmatch_cityscapes_phantom import write_set

PHOTOGRAPH = "_leftImg8bit.png"
MASKS = ("_gtFine_labelIds.png", "_gtFine_labelTrainIds.png")
FOLDERS: dict[SplitName, str] = {"train": "train", "test": "val"}
FRAMES: dict[SplitName, int] = {"train": 2975, "test": 500}

SAMPLED = 16
"""Masks of a split that are read to learn its numbering when one mask leaves it open."""

WHERE = (
    "register at https://www.cityscapes-dataset.com, take leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, "
    "and unpack both into "
    "one folder, so that DIR/leftImg8bit/train/aachen/ and DIR/gtFine/train/aachen/ exist"
)


@dataclass(frozen=True, slots=True)
class FramePair(Pair):
    """A photograph and its mask, and the part of the set that the mask belongs to.

    Attributes:
        part: the mask's split and file name ending, None without a mask. The masks of one part have one numbering.
    """

    part: tuple[SplitName, str] | None = None


class Cityscapes(Photographs):
    """Cityscapes: street scenes from 50 cities, 19 classes, finely annotated.

    Dataset features:

    * 2,975 training images and 500 val images of 2048 x 1024 pixels; an item's case is its city
    * the annotation of the official test cities is withheld: as everywhere in the field, the val images are the test,
      and val is empty

    Dataset format:

    * `leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png`: photographs
    * `gtFine/`, same folders: `..._gtFine_labelIds.png` or `..._gtFine_labelTrainIds.png`, index PNGs; the values of a
      mask, not its name, say which numbering it has
    * all other ids are void

    Dataset classes:

    0. road
    1. sidewalk
    2. building
    3. wall
    4. fence
    5. pole
    6. traffic light
    7. traffic sign
    8. vegetation
    9. terrain
    10. sky
    11. person
    12. rider
    13. car
    14. truck
    15. bus
    16. train
    17. motorcycle
    18. bicycle

    If you use this dataset in your research, please cite the following paper:

    * Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016,
      https://arxiv.org/abs/1604.01685

    Dataset licence:

    * Cityscapes' own: research and teaching only, not commercial, no redistribution

    Args:
        root: the folder with `leftImg8bit/` and `gtFine/`, or with the two archives' own folders that hold them.

    Raises:
        InputError: they are not there.
    """

    card = Card(
        version=1,
        name="cityscapes",
        title="Cityscapes streets",
        modality="photographs from a car",
        classes=tuple(ClassInfo(name=name, color=color) for name, (_, color) in CLASSES.items()),
        background=False,
        label_unit="images",
        budgets=("1/16", "1/8", "1/4", "1/2"),
        protocols=(
            Protocol(
                name="window801",
                title="mIoU of 19 classes, windows of 801, stride 534, the last shifted to the border",
                mode="window",
                window=801,
                stride=534,
            ),
            Protocol(
                name="v1_compat",
                title="mIoU of 19 classes as UniMatch's first version has it: windows cut at the border, absent "
                "classes 0",
                mode="window",
                window=801,
                stride=534,
                edge="cut",
                empty="zero",
            ),
        ),
        metric="mean_iou",
        head_tail=TopBottom(k=5),
        licence="Cityscapes' own: research and teaching only, not commercial, no redistribution",
        citation="Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
        source=WHERE,
        note="the official test annotation is withheld: the 500 val images are the test, and val is empty",
    )
    recipe = STREETS.updated(
        paper={"method.threshold": 0.0},
        # Weights from nothing: with 0 their first labels are all accepted, and few classes survive.
        quick={"method.threshold": 0.95},
    )
    sizes: ClassVar[Mapping[str, int]] = {"1/16": 186, "1/8": 372, "1/4": 744, "1/2": 1488}
    families: ClassVar[Mapping[str, str]] = {
        "c4164038958f8c8e792f7049a650cd9e648cab8816e0ae687914255345f9469d": "unimatch",
        "1e5363dd012cdc467f638ea0ab2cd0315cc7243146c81b47e12e9bb97c50266c": "unimatch",
        "6b3b52bab110157aaefa270df014ee4d3a035330c575e2386a5cc635ee01df63": "unimatch",
        "6856046a4415296a575f0fa65ec9757c6c26cc1044d4e93534b01b60921e2b80": "unimatch",
        "2b3183629a3a9f1a1e9b4a8eb3296e53c957a0aa4d4f986a2b29aa9da339deef": "unimatch",
    }
    # labelIds, as the benchmark's server wants them
    reading = Reading(kind="photograph", values=tuple(value for value, _ in CLASSES.values()))

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.images, self.masks = (_inner(root, name) for name in ("leftImg8bit", "gtFine"))
        for folder in (*(self.images / name for name in FOLDERS.values()), self.masks):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; {WHERE}")
        self._numbering: dict[tuple[SplitName, str], bool] = {}

    @classmethod
    def listed(cls, line: str) -> str:
        return re.sub(r"_leftImg8bit$|_gtFine_\w+$", "", super().listed(line))

    @property
    def layout(self) -> str:
        used = {item.ref.part[1] for items in self._items.values() for item in items if item.ref.part}
        endings = " and ".join(sorted(ending.removeprefix("_gtFine_") for ending in used)) or "no masks"
        return f"leftImg8bit and gtFine ({endings}): train {len(self._items['train'])}, val {len(self._items['test'])}"

    def remarks(self) -> list[str]:
        remarks = ["the official test annotation is withheld: val is the test, leftImg8bit/test is not read"]
        for split, ending in sorted(
            {item.ref.part for items in self._items.values() for item in items if item.ref.part}
        ):
            if self._holds_label_ids((split, ending)) != (ending == MASKS[0]):
                held = "trainIds" if ending == MASKS[0] else "labelIds"
                remarks.append(
                    f"gtFine/{FOLDERS[split]}: files called *{ending} hold {held} by their values, and are read as such"
                )
        for split, items in self._items.items():
            if len(items) != FRAMES[split]:
                remarks.append(
                    f"{FOLDERS[split]} holds {len(items)} images, the official archive {FRAMES[split]}: scores are of "
                    "this set"
                )
            if bare := [item.id for item in items if not item.masked]:
                remarks.append(
                    f"{len(bare)} training images have no mask in gtFine and can only be unlabelled: "
                    f"{', '.join(bare[:3])}"
                )
        return remarks

    def index(self, split: SplitName) -> list[Item]:
        return self._items.get(split, [])

    def labels_of(self, item: Item, raw: NDArray[Any]) -> Mapping[int, int]:
        """The map of one mask: by its own values, or if they fit both numberings, by those of its part of the set."""
        pair: FramePair = item.ref
        assert pair.part is not None
        if only_label_ids(raw):
            return LABEL_IDS
        if not self._holds_label_ids(pair.part):
            return TRAIN_IDS
        if void_share(raw) > FOREIGN_VOID:
            raise InputError(
                f"{pair.mask}: looks like trainIds (0 to 18 and 255), while other masks of "
                f"gtFine/{FOLDERS[pair.part[0]]} called "
                f"*{pair.part[1]} hold labelIds (up to 33); keep one numbering, the official labelIds for choice"
            )
        return LABEL_IDS

    def _holds_label_ids(self, part: tuple[SplitName, str]) -> bool:
        """Some of a part's masks, evenly spread, hold what only labelIds have.

        Masks that cannot be read are passed over.
        """
        if part not in self._numbering:
            paths = [item.ref.mask for item in self._items[part[0]] if item.ref.part == part]
            self._numbering[part] = False
            for path in paths[:: max(1, len(paths) // SAMPLED)]:
                with suppress(InputError):
                    if only_label_ids(masks.read(path).values):
                        self._numbering[part] = True
                        break
        return self._numbering[part]

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        return {split: self._frames(split) for split in FOLDERS}

    def _frames(self, split: SplitName) -> list[Item]:
        """The frames of one split by name, from one scan of the two folders."""
        photographs = _named(self.images / FOLDERS[split], PHOTOGRAPH)
        masks = {ending: _named(self.masks / FOLDERS[split], ending) for ending in MASKS}
        items = []
        for name, path in sorted(photographs.items()):
            ending = next((ending for ending in MASKS if name in masks[ending]), None)
            if ending is None and split == "test":
                raise InputError(
                    f"{path}: neither {name}{' nor '.join(MASKS)} is in {self.masks / 'val'}; unpack gtFine again"
                )
            pair = FramePair(path, masks[ending][name] if ending else None, (split, ending) if ending else None)
            items.append(Item(name, name.split("_")[0], pair, masked=ending is not None))
        if lost := sorted({name for named in masks.values() for name in named} - photographs.keys()):
            raise InputError(
                f"{lost[0]}{PHOTOGRAPH}: missing in {self.images / FOLDERS[split]}, though its mask is there; unpack "
                "it again"
            )
        return items

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """The official layout with invented streets.

        372 x size images to train on, 32 x size in val, and two whose annotation is withheld.

        Names are of the real form; if the community's lists are installed (`diffmatch splits`), theirs, of all budgets
        that fit.
        """
        write_set(cls, root, seed, size)


def _inner(root: Path, name: str) -> Path:
    """The folder of that name, or the one inside its archive's."""
    packed = root / f"{name}_trainvaltest" / name
    return packed if packed.is_dir() and not (root / name).is_dir() else root / name


def _named(folder: Path, ending: str) -> dict[str, Path]:
    """Files of all cities by frame."""
    paths = (path for city in children(folder) for path in children(city))
    return {path.name.removesuffix(ending): path for path in paths if path.name.endswith(ending)}
