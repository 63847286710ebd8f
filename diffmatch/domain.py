"""What a dataset plugin declares and does; it imports no torch.

A plugin is a subclass of `Domain` behind an entry point of the group ``diffmatch.domains``. It says what the classes
are (`Card`), how the paper trains on it (`Recipe`), what is on disk (`Domain.index`) and what one item holds
(`Domain.read`). For folders of photographs `diffmatch.readers.photographs` does most of that.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffmatch.card import (
    API,
    VOID,
    Card,
    ClassInfo,
    Empty,
    ForegroundThirds,
    InputError,
    MinMax,
    Named,
    Percentiles,
    Protocol,
    Reading,
    Recipe,
    Scaling,
    SplitName,
    TopBottom,
    Window,
    distinct_color,
    is_void,
)
from diffmatch.shared.cache import Cache
from diffmatch.shared.numbers import whole

__all__ = [
    "API",
    "SPLITS",
    "VOID",
    "Cache",
    "Card",
    "ClassInfo",
    "Domain",
    "Empty",
    "ForegroundThirds",
    "Image",
    "InputError",
    "Item",
    "Mask",
    "MinMax",
    "Named",
    "Percentiles",
    "Protocol",
    "Published",
    "ReadWindow",
    "Reading",
    "Recipe",
    "Sample",
    "Scaling",
    "Scene",
    "SplitName",
    "TopBottom",
    "Window",
    "distinct_color",
    "is_void",
    "map_labels",
    "paths_in",
]

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Mask = NDArray[np.uint8]
Image = NDArray[np.float32]
ReadWindow = Callable[[int, int, int, int], Image]
"""(top, left, height, width) -> (dates, channels, height, width), nominally in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be read: a slice or an image in training, a case in test.

    Attributes:
        id: unique within the dataset; splits are identified by the hash of the sorted ids.
        case: patient or scene; labelled, unlabelled, val and test never share one where the label unit is cases.
        ref: whatever the plugin needs to read it.
        masked: false where no mask exists (a user's unlabelled photograph).
    """

    id: str
    case: str
    ref: Any = None
    masked: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """One item's pixels.

    Attributes:
        image: float32, (dates, channels, H, W) for an image or (dates, channels, Z, H, W) for a volume, values
            nominally in [0, 1].
        mask: uint8, (H, W) or (Z, H, W), class indices and 255; None if it was not asked for or does not exist.
        spacing: millimetres along the mask's axes, None where unknown.
    """

    image: Image
    mask: Mask | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture of which only windows are read, because the whole may not fit into memory.

    Attributes:
        shape: (dates, channels, H, W) of the whole.
        read: hands out any window that lies inside.
    """

    shape: tuple[int, int, int, int]
    read: ReadWindow


@dataclass(frozen=True, slots=True)
class Published:
    """A label budget whose members the community has fixed.

    Attributes:
        family: name of the lists.
        ids: the labelled ids, case ids where the label unit is cases.
    """

    family: str
    ids: tuple[str, ...]


NOISE = 5
"""Stray values in a minority of the pixels that look like what lossy coding leaves."""


def map_labels(raw: NDArray[Any], mapping: Mapping[int, int], where: str | Path) -> Mask:
    """Raw label values through the exact map that a plugin declares.

    Args:
        raw: any shape, integral values; floats within 1e-5 of them are accepted, other fractions are not.
        mapping: raw value to class index or 255.
        where: the file, for the message.

    Raises:
        InputError: a value that is not in the map; the message names file, value and pixel count.
    """
    raw = whole(raw)
    if raw.dtype.kind in "biu" and raw.size and int(raw.max()) - int(raw.min()) < 1 << 16:
        low = int(raw.min())  # counting is many times faster than sorting
        inverse = raw.astype(np.int64) - low
        counts = np.bincount(inverse.ravel())
        values = np.arange(low, low + len(counts))
    else:
        values, inverse, counts = np.unique(raw, return_inverse=True, return_counts=True)
    table: Mask = np.zeros(len(values), np.uint8)
    strays = []
    for i in np.flatnonzero(counts):
        if float(values[i]).is_integer() and int(values[i]) in mapping:
            table[i] = mapping[int(values[i])]
        else:
            strays.append(i)
    if strays:
        noise = len(strays) >= NOISE and counts[strays].sum() < raw.size / 2
        hint = " (this looks like JPEG noise: take the masks as they were before)" if noise else ""
        more = f", nor are {len(strays) - 1} others{hint}" if len(strays) > 1 else ""
        raise InputError(
            f"{where}: label value {values[strays[0]]!s} on {counts[strays[0]]} pixels is not in the map "
            f"({', '.join(map(str, sorted(mapping)))}){more}; fix the mask or the class map"
        )
    mapped: Mask = np.take(table, inverse).reshape(raw.shape)
    return mapped


class Domain(ABC):
    """A dataset opened on a data root.

    Subclasses set `card` and `recipe`, and write `index` and `read`. A card or recipe that depends on the data is set
    again on the instance. `__init__` looks at the layout only.

    Args:
        root: the folder that holds the data.

    Raises:
        InputError: what is missing and how to get it.
    """

    card: Card
    recipe: Recipe
    needs: ClassVar[tuple[str, ...]] = ()
    """Folders or files below the root without which there is no such dataset, for example `images/train`."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """Labelled units of each published budget (`1/16`: 662): a set that holds fewer files still labels as many."""
    families: ClassVar[Mapping[str, str]] = {}
    """Hash of the labelled ids of a community list (`identity`) -> its name. Two lists of one size are two families."""
    endings: ClassVar[tuple[str, ...]] = ()
    """Endings, in lower case, of the files that `outside` reads; all others are read by the `reading`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = Cache(None)
        for name in self.needs:
            if not (root / name).exists():
                raise InputError(f"{root}: no {name} there; {self.card.source}")

    @property
    def layout(self) -> str:
        """Which of the layouts that the plugin reads is on disk, in a few words."""
        return "as documented"

    def remarks(self) -> list[str]:
        """What the owner of the files should know before training: variants, doubts, missing files and their source."""
        return []

    @classmethod
    def listed(cls, line: str) -> str:
        """The item or case id in a line of a community split list: its first path without folder and ending."""
        name = line.split()[0].replace("\\", "/").rsplit("/", 1)[-1]
        return re.sub(r"(\.npy)?\.(jpe?g|png|tiff?|bmp|h5|npz|npy|nii(\.gz)?)$", "", name, flags=re.IGNORECASE)

    def prepare(self, cache: Cache) -> None:
        """Take the engine's cache for costly decoding.

        It is filled as items are read; an unlabelled item's mask is never decoded.
        """
        self.cache = cache

    @abstractmethod
    def index(self, split: SplitName) -> list[Item]:
        """All items of a split in a stable order. May be empty for val.

        Training items are slices or images, val and test items are cases.
        """

    @abstractmethod
    def read(self, item: Item, mask: bool = True) -> Sample:
        """The item's pixels. With `mask=False` no mask file is opened.

        Raises:
            InputError: unreadable or mismatched files, by name.
        """

    def files(self) -> Iterable[Path]:
        """The files that make up the dataset: by default every path in an item's `ref`.

        With what they hold, they are the dataset's fingerprint: a table of classes or a list belongs to them.
        """
        return sorted({path for split in SPLITS for item in self.index(split) for path in paths_in(item.ref)})

    @property
    def reading(self) -> Reading:
        """How a file becomes an item's image, recorded with every run: pictures as stored, masks of class numbers."""
        return Reading(kind="picture", values=tuple(range(len(self.card.classes))))

    @classmethod
    def outside(cls, path: Path) -> Image | Scene:
        """Pixels of a file from elsewhere that has one of `endings`: (1, channels, H, W) or (1, channels, Z, H, W).

        For formats that a `reading` cannot tell. No data of the set are needed.

        Raises:
            InputError: unreadable, or not what the set's own files are.
        """
        raise NotImplementedError

    def fitted(self, labelled: Sequence[Item]) -> Domain:
        """The domain as it reads for a run with these labelled items, whose masks may be opened.

        A domain whose scale follows from what the masks mark (a window of CT) returns a copy of itself with that scale
        in its `reading`; its pixels before that follow from the images alone. For all others there is nothing to do.
        """
        return self

    def keep(self, cases: Collection[str]) -> None:
        """See these cases alone, as before other files were added, so that a finished run can be scored again.

        A domain that draws its parts from the cases leaves the others out of the draw; for all others there is nothing
        to do, because the engine picks the run's items by id.
        """
        return None

    def divide(self, parts: Mapping[str, SplitName]) -> None:
        """Take each case into the part that is given for it, instead of the set's own division: for cross-validation.

        It is asked of sets whose training items are not what is scored, slices and volumes. The engine divides all
        others by their items.

        Raises:
            InputError: this domain cannot, or a case lacks what its part needs.
        """
        raise InputError(f"{self.card.name} trains on slices, scores volumes, and divides its cases in one way only")

    def published(self, budget: str) -> Published | None:
        """The community's members of a label budget, None where there are none and the seeded protocol draws them."""
        return None

    @classmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Write a small invented dataset in the real layout. Optional: a domain without it asks for data.

        Args:
            size: multiplies the number of cases or images.

        Raises:
            InputError: this domain cannot invent data.
        """
        raise InputError(
            f"{cls.card.name}: this domain cannot invent data; name yours with --data, or put them into "
            f"$DIFFMATCH_DATA/{cls.card.name}. {cls.card.source}"
        )

    @classmethod
    def can_fabricate(cls) -> bool:
        """Whether the plugin has a `fabricate` of its own."""
        return getattr(cls.fabricate, "__func__", None) is not vars(Domain)["fabricate"].__func__


def paths_in(ref: object) -> Iterator[Path]:
    """All paths in a path, a tuple, a list, a dictionary's values or a dataclass, however deep."""
    if isinstance(ref, Path):
        yield ref
    elif is_dataclass(ref) and not isinstance(ref, type):
        for field in fields(ref):
            yield from paths_in(getattr(ref, field.name))
    elif isinstance(ref, tuple | list | Mapping):
        for part in ref.values() if isinstance(ref, Mapping) else ref:
            yield from paths_in(part)
