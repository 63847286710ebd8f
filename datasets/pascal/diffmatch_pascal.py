"""PASCAL VOC 2012 with the masks of SBD: photographs, 20 kinds of object and background."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from diffmatch.domain import Card, ClassInfo, InputError, Item, Protocol, SplitName, TopBottom
from diffmatch.readers import children
from diffmatch.readers.lists import ids_of, installed
from diffmatch.readers.photographs import RECIPE, Pair, Photographs
from diffmatch_pascal_phantom import write_scene

NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
LABELS = {**{index: index for index in range(len(NAMES))}, 255: 255}
MASKS = ("SegmentationClass", "SegmentationClassAug")
OFFICIAL, AUGMENTED, TEST = 1_464, 10_582, 1_449
"""Training images without and with SBD, test images."""

VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
SOURCE = f"unpack VOCtrainval_11-May-2012.tar from {VOC} so that DIR/VOCdevkit/VOC2012/JPEGImages/ exists"
SBD = (
    "put SBD's masks as index PNGs (SegmentationClassAug.zip, linked by the README of "
    "github.com/DrSleep/tensorflow-deeplab-resnet) into"
)


def color(index: int) -> tuple[int, int, int]:
    """The colour of an index 0..255 in the VOC palette.

    Its bits 0, 3, 6 are red's highest, 1, 4, 7 green's, 2, 5 blue's.
    """
    red, green, blue = (
        sum((index >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3)
    )
    return red, green, blue


class Pascal(Photographs):
    """PASCAL VOC 2012 with the masks of SBD: photographs, 20 kinds of object and background.

    Dataset features:

    * 10,582 training images with the SBD masks, 1,464 without
    * the 1,449 of the official val list are the test, as the community scores it; there is no val
    * ids are the stems of the file names

    Dataset format:

    * `VOCdevkit/VOC2012/JPEGImages/NAME.jpg`: photographs, the longer side 500 pixels
    * `SegmentationClass/NAME.png`: official masks, index PNGs; 255 is void
    * `SegmentationClassAug/NAME.png`: SBD's masks, or among the official ones (UniMatch); every id is looked for in
      both folders, the official one first
    * `ImageSets/Segmentation/{train,val}.txt`: the official lists

    Dataset classes:

    0. background
    1. aeroplane
    2. bicycle
    3. bird
    4. boat
    5. bottle
    6. bus
    7. car
    8. cat
    9. chair
    10. cow
    11. diningtable
    12. dog
    13. horse
    14. motorbike
    15. person
    16. pottedplant
    17. sheep
    18. sofa
    19. train
    20. tvmonitor

    If you use this dataset in your research, please cite the following papers:

    * Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, IJCV 88, 2010,
      https://doi.org/10.1007/s11263-009-0275-4
    * Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011

    Dataset licence:

    * photographs: Flickr's terms of use
    * annotations: for research, no licence stated

    Args:
        root: the folder with `VOCdevkit/` or `VOC2012/`, or VOC2012 itself.

    Raises:
        InputError: no photographs or no mask folder.
    """

    card = Card(
        version=1,
        name="pascal",
        title="PASCAL VOC 2012",
        modality="photographs",
        classes=tuple(ClassInfo(name=name, color=color(index)) for index, name in enumerate(NAMES)),
        label_unit="images",
        budgets=("92", "183", "366", "732", "1464", "1/16", "1/8", "1/4"),
        protocols=(
            Protocol(name="whole", title="mIoU, 1,449 whole images at their own size", mode="image"),
            Protocol(
                name="unimatch_compat", title="the same, a class that never occurs scores 0", mode="image", empty="zero"
            ),
        ),
        metric="mean_iou",
        head_tail=TopBottom(k=5),
        licence="photographs: Flickr's terms of use; annotations: for research, no licence stated",
        citation="Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, IJCV 88, 303-338, 2010; "
        "Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011",
        source=f"{SOURCE}; {SBD} DIR/VOCdevkit/VOC2012/SegmentationClassAug/",
        note="the official val images are the test, as the community scores it; there is no val, and the official "
        "test has no masks",
    )
    recipe = RECIPE.updated(quick={"data.crop": 72, "train.steps": 1200})
    sizes: ClassVar = {
        "92": 92,
        "183": 183,
        "366": 366,
        "732": 732,
        "1464": 1464,
        "1/16": 662,
        "1/8": 1323,
        "1/4": 2646,
    }
    families: ClassVar = {
        "124b0aab2fcd1767214bf465d8fa24dd179c3abe99951a063a92d11c48663987": "classic",
        "79b959bccf7753cd70bba8d5abdb7e9c0f16df053ce458916ae19a897149136d": "classic",
        "f0e702c687e2ba711cb726ace02e2bb0b5571fd73bb3e2419441cd53c196416b": "classic",
        "8c23014f512884b9ef51e91113e69b7197de6e53c699019956d3874998a005b0": "classic",
        "129f1fe991729b1862115b77738c938c149c1f167baa02b4b3186aea9f0d6a84": "classic",
        "baa85754594fcd33c7f06d9ef173db9f70a0c32f826a2958668ee406db9f7c5a": "cps",
        "c9ca45b4e688d408cd0856e9d17bdf99a8c9bd1de09d33023e578cdb9a49f1a3": "cps",
        "fd0e8dca3dac524cf3b8c2b8540bc67bac1fb5df93e562faf35232e90c444295": "cps",
        "feea4692738362e449721faff842a3aa103bf984f7d6dd748eeb511a6f722fe5": "u2pl",
        "23921931a21324cfefdf4c67d4d2119d73c2c599bee9a95684ed802c2d134916": "u2pl",
        "d35f7cd4b4815e1d83809e2acd19fe536e92319823a8a83353f20e68b2f96899": "u2pl",
    }
    labels = LABELS
    colors: ClassVar = {index: color(index) for index in range(len(NAMES))}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
            if (folder / "JPEGImages").is_dir():
                self.folder = folder
                break
        else:
            raise InputError(f"{root}: neither VOCdevkit/VOC2012/JPEGImages/ nor JPEGImages/ is there; {SOURCE}")
        if not any((self.folder / place).is_dir() for place in MASKS):
            raise InputError(
                f"{self.folder}: no masks, neither SegmentationClass/ nor SegmentationClassAug/ is there; {SOURCE}"
            )

    @property
    def layout(self) -> str:
        places = {item.ref.mask.parent.name for item in self._sbd}
        with_sbd = f"SBD masks in {' and '.join(sorted(places))}" if places else "official masks only"
        return f"{self.folder.name} with {with_sbd}"

    def remarks(self) -> list[str]:
        train, test, remarks = len(self.index("train")), len(self.index("test")), []
        if not self._sbd:
            remarks.append(
                f"the SBD masks are missing: {train:,} images to train on where the community's lists have "
                f"{AUGMENTED:,}; "
                f"{SBD} {self.folder / 'SegmentationClassAug'}"
            )
        elif train != AUGMENTED:
            remarks.append(
                f"{train:,} images to train on, not the {AUGMENTED:,} of the community's lists: part of the set, or "
                "another one"
            )
        if test != TEST:
            remarks.append(
                f"{test:,} images to test on, not the {TEST:,} of the official val list: scores do not compare with "
                "published ones"
            )
        if not self._list("val").is_file():
            remarks.append(f"{self._list('val')} is missing: the test images are those of the installed split lists")
        return remarks

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    def files(self) -> Iterable[Path]:
        return [*super().files(), *(path for name in ("train", "val") if (path := self._list(name)).is_file())]

    def _list(self, name: str) -> Path:
        return self.folder / "ImageSets" / "Segmentation" / f"{name}.txt"

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        """All ids that have a mask, sorted, with their files; three folders are listed, no file is touched."""
        photographs = _stems(self.folder / "JPEGImages", ".jpg")
        place = {stem: name for name in reversed(MASKS) for stem in _stems(self.folder / name, ".png")}
        if lonely := sorted(place.keys() - photographs):
            raise InputError(
                f"{self.folder / 'JPEGImages' / lonely[0]}.jpg: missing, though {place[lonely[0]]}/ has its mask "
                f"(and so for {len(lonely)} in all); unpack the photographs again"
            )
        return {
            stem: Pair(self.folder / "JPEGImages" / f"{stem}.jpg", self.folder / place[stem] / f"{stem}.png")
            for stem in sorted(place)
        }

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        test = set(self._test_ids())
        official = ids_of(self._list("train"), type(self)) if self._list("train").is_file() else ()
        if missing := sorted({*test, *official} - self._pairs.keys()):
            raise InputError(
                f"{self.folder / MASKS[0] / missing[0]}.png: missing, though the list of official masks names it "
                f"(and {len(missing)} in all); unpack the masks again"
            )
        parts: dict[SplitName, list[Item]] = {"train": [], "val": [], "test": []}
        for stem, pair in self._pairs.items():
            parts["test" if stem in test else "train"].append(Item(stem, stem, pair))
        if not parts["train"]:
            raise InputError(
                f"{self.folder}: every mask belongs to the test list, nothing is left to train on; {SOURCE}"
            )
        return parts

    def _test_ids(self) -> tuple[str, ...]:
        """The official val list, or where it is not there that of an installed family."""
        if self._list("val").is_file():
            return ids_of(self._list("val"), type(self))
        known = (family.test for family in installed(type(self)) if family.name in self.families.values())
        if test := next(filter(None, known), None):
            return test
        raise InputError(
            f"{self._list('val')}: missing, so test cannot be told from train; take it from the official archive, "
            "or install split lists with `diffmatch splits pascal --from DIR`"
        )

    @cached_property
    def _sbd(self) -> list[Item]:
        """Training items that the official train list does not name.

        Without that list all of them, where there are more than it has.
        """
        train = self.index("train")
        if not self._list("train").is_file():
            return train if len(train) > OFFICIAL else []
        official = set(ids_of(self._list("train"), type(self)))
        return [item for item in train if item.id not in official]

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """VOCdevkit with SegmentationClassAug, invented pixels.

        92 images to label, 92 x size more to train on, 32 x size to test.

        Names and their division are those of the smallest installed family, or else of the same form.
        """
        labelled, unlabelled, test, official = _names(cls, np.random.default_rng(seed), size)
        folder = root / "VOCdevkit" / "VOC2012"
        for name in ("JPEGImages", "ImageSets/Segmentation", *MASKS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        palette = bytes(part for index in range(256) for part in color(index))
        for number, name in enumerate((*labelled, *unlabelled, *test)):
            own = name in official or name in test
            mask = folder / MASKS[0 if own else 1] / f"{name}.png"
            write_scene(seed, number, folder / "JPEGImages" / f"{name}.jpg", mask, palette if own else None)
        train = {name for name in (*labelled, *unlabelled) if name in official}
        for name, ids in (("train", train), ("val", {*test}), ("trainval", {*train, *test})):
            (folder / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{i}\n" for i in sorted(ids)))


def _stems(folder: Path, ending: str) -> set[str]:
    """Names in a folder without their ending; hidden files are left out, a folder that is not there is empty."""
    return {path.name.removesuffix(ending) for path in children(folder) if path.name.endswith(ending)}


def _names(cls: type[Pascal], rng: np.random.Generator, size: int) -> tuple[list[str], list[str], list[str], set[str]]:
    """Labelled, unlabelled, test and, across them, official ids of a fabricated set."""
    lists = installed(cls)
    known = [f for f in lists if f.name in cls.families.values() and f.labelled and f.unlabelled and f.test]
    if not known:
        drawn = rng.choice(50_000, 92 + 124 * size, replace=False).tolist()
        names = [f"{2007 + number // 10_000}_{number % 10_000:06d}" for number in drawn]
        return names[:92], names[92 : 92 + 92 * size], names[92 + 92 * size :], set(names[: 92 + 14 * size])
    family = min(known, key=lambda f: len(f.labelled or ()))
    labelled, pool, test = (sorted(ids or ()) for ids in (family.labelled, family.unlabelled, family.test))
    some = [
        sorted(rng.choice(ids, min(n * size, len(ids)), replace=False).tolist())
        for ids, n in ((pool, len(labelled)), (test, 32))
    ]
    official = {stem for f in lists if f.name == "classic" for stem in f.labelled or ()}
    return labelled, some[0], some[1], official or set(labelled)
