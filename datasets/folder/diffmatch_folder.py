"""A folder of your own pictures: images/, masks/ for some of them, classes.csv."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from statistics import mode

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import (
    VOID,
    Cache,
    Card,
    ClassInfo,
    Domain,
    Image,
    InputError,
    Item,
    Protocol,
    Reading,
    Sample,
    SplitName,
    TopBottom,
)
from diffmatch.readers import masks, pictures
from diffmatch.readers.image import opened, same_size
from diffmatch.readers.photographs import RECIPE
from diffmatch.readers.pictures import brightest, header, picture, white_of
from diffmatch.readers.places import same_place
from diffmatch_folder_layout import divide, read_classes, scan
from diffmatch_folder_phantom import CLASSES, write_folder

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOOKED_AT = 16
"""Pictures whose headers or values tell about the others."""
APART = 4
"""Times that 16 bit pictures may be brighter or darker than others of the set."""
SMALL = 256
"""Longer side in pixels up to which the quick preset leaves pictures as they are."""

WHERE = (
    "your own: pictures in DIR/images/, masks of the same names in DIR/masks/, and DIR/classes.csv with a row "
    "`value,name` per class"
)


class Folder(Domain):
    """A folder of your own pictures, with masks for some of them.

    Dataset features:

    * any number of pictures; an id is the path below images/ without the ending
    * train, val and test are subfolders of both, or the lists train.txt, val.txt and test.txt, or drawn
    * a picture without a mask is learnt from unlabelled

    Dataset format:

    * `classes.csv`: rows value,name[,#rrggbb]
    * `images/NAME.ENDING`: PNG, JPEG, TIFF, GeoTIFF or BMP; 1 to n channels, 8 or 16 bit, or float TIFF in [0, 1];
      16 bit that holds 8, 10, 12 or 14 bit values throughout the set is read over their white
    * `masks/NAME.ENDING`: the same name, one channel of the values of classes.csv

    Dataset classes:

    * those of classes.csv, in the order of their smallest value; a value without a name is void,
      and so is one called void, ignore, unlabelled, unknown or the like

    If you use this dataset in your research, please cite the following paper:

    * none: your own pictures

    Dataset licence:

    * that of your pictures

    Args:
        root: the folder that holds classes.csv, images/ and masks/.

    Raises:
        InputError: one of them is missing or does not fit the others.
    """

    card = Card(
        version=1,
        name="folder",
        title="a folder of your own pictures",
        modality="pictures",
        classes=tuple(ClassInfo(name=name, color=color) for name, color in CLASSES.values()),
        label_unit="images",
        budgets=("1/8", "1/4", "1/2"),
        protocols=(Protocol(name="whole", title="IoU over all pixels of the test pictures", mode="image"),),
        metric="mean_iou",
        head_tail=TopBottom(k=2),
        licence="that of your pictures",
        citation="none: your own pictures",
        source=WHERE,
        note="a template: classes and channels are those of the folder once data are given",
    )
    # As on PASCAL; the crop is fitted to smaller pictures (`_fit_card`).
    recipe = RECIPE

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.classes = read_classes(root / "classes.csv")
        self.palettes = masks.Palettes(self.classes.colors)
        self.images, self.masks = scan(root / "images"), scan(root / "masks")
        if strays := [path for name, path in self.masks.items() if name not in self.images]:
            more = f" (and {len(strays) - 1} more)" if len(strays) > 1 else ""
            raise InputError(
                f"{strays[0]}{more}: no picture of this name is in {root / 'images'}; a mask is called as its picture "
                "is"
            )
        for path in self.masks.values():
            if path.suffix.lower() in (".jpg", ".jpeg"):  # others are looked at when they are read
                with opened(path, header=True) as file:
                    masks.check_lossless(file, path)
        if len(self.masks) < 2:
            raise InputError(
                f"{root}: {len(self.images)} pictures, {len(self.masks)} masks; train and test need a mask each at "
                "least"
            )
        self.parts, self.how = divide(self, self.images, self.masks)
        for part in ("val", "test") if self.parts["val"] else ("test",):
            if bare := [name for name in self.parts[part] if name not in self.masks]:
                raise InputError(
                    f"{self.images[bare[0]]}: belongs to {part}, but {root / 'masks'} has no mask of this name; add it"
                )
        self._fit_card()

    def _fit_card(self) -> None:
        """Classes, channels and what follows from them, from the table and the headers of a few pictures."""
        paths = list(self.images.values())
        headers = [header(path) for path in paths[:: math.ceil(len(paths) / LOOKED_AT)]]
        channels, side = mode(h.channels for h in headers), float(np.median([max(h.height, h.width) for h in headers]))
        self.card = self.card.model_copy(
            update={
                "title": f"pictures in {self.root.resolve().name}",
                "classes": self.classes.infos,
                "background": self.classes.background,
                "channels": channels,
                "head_tail": TopBottom(k=max(1, len(self.classes.infos) // 3)),
                "note": f"parts by {self.how}",
            }
        )
        mean, std = IMAGENET if channels == 3 else ((0.5,) * channels, (0.25,) * channels)
        crop = min(513, 32 * math.ceil(side / 32))
        fitted = {"data.mean": mean, "data.std": std, "data.crop": crop}
        pretrained = {} if channels == 3 else {"data.mean": mean, "data.std": std}
        self.recipe = self.recipe.updated(
            fitted,
            {"data.resize": SMALL} if side > SMALL else {},
            pretrained | {"data.crop": min(SMALL, crop)} | ({"data.resize": 2 * SMALL} if side > 2 * SMALL else {}),
        )

    def prepare(self, cache: Cache) -> None:
        super().prepare(cache)
        # Version 1 knew one name of void and divided all 16 bit by 65,535. Sets that lie so are read as they were.
        if self.classes.void_names or self.white is not None:
            self.card = self.card.model_copy(update={"version": type(self).card.version + 1})

    @property
    def layout(self) -> str:
        white = "" if self.white is None else f"; the white of 16 bit is {self.white:,}, which no picture exceeds"
        return f"{len(self.images)} pictures, {len(self.masks)} of them with masks; parts by {self.how}{white}"

    def remarks(self) -> list[str]:
        remarks = []
        if unused := len(self.images) - sum(map(len, self.parts.values())):
            remarks.append(
                f"{unused} pictures are in no list and are not used; add them to train.txt to learn from them "
                "unlabelled"
            )
        known = self.classes.mapping
        if len(known) > 2 and known.get(VOID, VOID) != VOID:
            remarks.append(
                f"255 is the class '{self.classes.infos[known[VOID]].name}'; if it marks what is not labelled, write "
                "255,void into classes.csv"
            )
        deep = self._seen[:, 1] >= 0
        if deep.any() and not deep.all():
            one, other = (list(self.images)[int(np.flatnonzero(which)[0])] for which in (deep, ~deep))
            remarks.append(
                f"{deep.sum()} pictures of 16 bit ({one}) among {(~deep).sum()} of other types ({other}): the former "
                f"are divided by {self.white or 65535:,}, 8 bit by 255"
            )
        looked_at = list(self.images.values())[:: math.ceil(len(self.images) / LOOKED_AT)]
        pixels = [self._pixels(path)[0] for path in looked_at]
        mean, std = (np.mean([getattr(np, name)(p, axis=(1, 2)) for p in pixels], axis=0) for name in ("mean", "std"))
        if mean.max() < 0.1:
            values = ("[" + ",".join(f"{v:.4f}" for v in row) + "]" for row in (mean, np.maximum(std, 1e-4)))
            remarks.append(
                "the pictures use little of their range; train with --set 'data.mean={}' --set 'data.std={}'".format(
                    *values
                )
            )
        return remarks

    @classmethod
    def listed(cls, line: str) -> str:
        """A line names a picture by its path with or without `images/` and ending, which may contain spaces.

        A mask's path may follow.
        """
        name = line.strip().replace("\\", "/")
        name = re.split(r"\.(?:jpe?g|png|tiff?|bmp)(?:\s|$)", name, maxsplit=1, flags=re.IGNORECASE)[0]
        return name.removeprefix("./").removeprefix("images/")

    def index(self, split: SplitName) -> list[Item]:
        return self._items[split]

    @cached_property
    def _seen(self) -> NDArray[np.int64]:
        """Channels of each picture, and the greatest value of those of 16 bit, -1 for others.

        Headers, and the pixels of 16 bit files, are read once for the same files.
        """

        def look(path: Path) -> tuple[int, int]:
            greatest = brightest(path)
            return header(path).channels, -1 if greatest is None else greatest

        return self.cache.array("seen", lambda: np.array([look(path) for path in self.images.values()]))

    @cached_property
    def white(self) -> int | None:
        """What becomes 1 of 16 bit files: the white of the fewest bits that hold all of them, None for all 16."""
        greatest = int(self._seen[:, 1].max())
        return None if greatest < 0 else white_of(greatest)

    @cached_property
    def _items(self) -> dict[SplitName, list[Item]]:
        """All pictures must have the same channels, and 16 bit ones among others must be about as bright."""
        channels = self._seen[:, 0]
        same = channels == self.card.channels
        if not same.all():
            one, other = (list(self.images.values())[int(np.flatnonzero(which)[0])] for which in (same, ~same))
            raise InputError(
                f"{other}: {header(other).channels} channels, but {one.name} and {same.sum()} of {len(same)} pictures "
                "have "
                f"{self.card.channels}; convert them to one kind"
            )
        self._check_brightness()
        return {
            part: [Item(name, name, (self.images[name], self.masks.get(name)), name in self.masks) for name in names]
            for part, names in self.parts.items()
        }

    def _check_brightness(self) -> None:
        deep = self._seen[:, 1] >= 0
        if deep.all() or not deep.any():
            return
        kinds = []
        for which in (deep, ~deep):
            paths = [path for path, one in zip(self.images.values(), which, strict=True) if one]
            looked_at = paths[:: math.ceil(len(paths) / LOOKED_AT)]
            kinds.append((float(np.median([self._pixels(path).mean() for path in looked_at])), paths[0]))
        (dim, dimmer), (bright, brighter) = sorted(kinds)
        if bright > APART * dim:
            raise InputError(
                f"{dimmer}: pictures of its type have a mean of {dim:.3f} of white, but those of {brighter.name}'s "
                f"{bright:.3f}; 8 and 16 bit are mixed and do not share a scale, convert them to one kind"
            )

    def read(self, item: Item, mask: bool = True) -> Sample:
        path = self.images[item.id]
        pixels = self._pixels(path)
        if not mask or item.id not in self.masks:
            return Sample(pixels)
        where = self.masks[item.id]
        drawn = masks.read(where)
        self.palettes.check(drawn)
        same_size(drawn.values, where, pixels, path)
        same_place(where, path)
        labels = drawn.classes(self.classes.mapping)
        if (holes := pictures.holes(path)) is not None:
            labels[holes] = VOID
        return Sample(pixels, labels)

    def _pixels(self, path: Path) -> Image:
        """(1, channels, H, W)."""
        pixels = picture(path, white=self.white)
        self._check_channels(len(pixels), path)
        return pixels[None]

    def _check_channels(self, count: int, path: Path) -> None:
        if count != self.card.channels:
            raise InputError(f"{path}: {count} channels, others have {self.card.channels}; convert them to one kind")

    @property
    def reading(self) -> Reading:
        """The values are those of classes.csv; of values that share a name, the smallest."""
        smallest = (
            min(value for value, c in self.classes.mapping.items() if c == one) for one in range(len(self.card.classes))
        )
        return Reading(kind="picture", values=tuple(smallest), white=self.white)

    def files(self) -> Iterable[Path]:
        lists = [path for part in ("train", "val", "test") if (path := self.root / f"{part}.txt").is_file()]
        return [self.root / "classes.csv", *lists, *self.images.values(), *self.masks.values()]

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """150 x size invented pictures with masks and 30 x size without, in six classes."""
        write_folder(root, seed, 150 * size, 30 * size)
