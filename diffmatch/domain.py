"""What a dataset plugin declares and does. This module is the whole surface that a plugin needs; it imports no torch.

A plugin is a subclass of `Domain` behind an entry point of the group ``diffmatch.domains``. It says what the classes are
(`Card`), how the paper trains on it (`Recipe`), what is on disk (`Domain.index`) and what one item holds (`Domain.read`).
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

VOID = 255
"""The mask value that carries no loss and is scored nowhere."""

API = 1
"""Version of this interface. A card of another version is refused by name."""

SplitName = Literal["train", "val", "test"]
Mask = NDArray[np.uint8]
Image = NDArray[np.float32]


class InputError(Exception):
    """What the user gave cannot be used. The message is one line: what, which file, what to do. The command exits with 2."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassInfo(Frozen):
    """One class: its name and the colour (r, g, b in 0..255) it has in every figure."""

    name: str
    color: tuple[int, int, int]


class TopBottom(Frozen):
    """Head and tail are the `k` most and the `k` least frequent classes (the paper, section 4.3 and Table 6: k = 5)."""

    kind: Literal["top_bottom"] = "top_bottom"
    k: int = Field(ge=1)


class ForegroundThirds(Frozen):
    """Head and tail are the most and the least frequent third of the foreground classes, one class at least (medicine)."""

    kind: Literal["foreground_thirds"] = "foreground_thirds"


class Named(Frozen):
    """Head and tail are given by class index (change detection: unchanged is head, changed is tail)."""

    kind: Literal["named"] = "named"
    head: tuple[int, ...]
    tail: tuple[int, ...]


HeadTail = Annotated[TopBottom | ForegroundThirds | Named, Field(discriminator="kind")]


class Protocol(Frozen):
    """How test items are scored. Its name stands beside every number.

    Attributes:
        splits: the splits whose items are scored together (UniMatch's ACDC figures pool val and test).
        mode: `image` (whole), `window` (sliding, side `window`, stride `stride`, windows shifted at the border) or `volume` (slice by
            slice, stacked and scored on the volume's own grid).
    """

    name: str
    title: str
    mode: Literal["image", "window", "volume"]
    splits: tuple[SplitName, ...] = ("test",)
    window: int | None = None
    stride: int | None = None

    @model_validator(mode="after")
    def _window_has_a_side(self) -> Protocol:
        if self.mode == "window" and not (self.window and self.stride and 0 < self.stride <= self.window):
            raise ValueError(f"protocol {self.name}: mode 'window' needs window and stride, and no gap between windows")
        return self


class Card(Frozen):
    """What is fixed about a dataset. `protocols[0]` is the default; class 0 is background unless `background` is false."""

    api: int = API
    version: int = Field(description="of the reading recipe: a change that alters pixels raises it, and with it the run hash")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    modality: str
    classes: tuple[ClassInfo, ...] = Field(min_length=2)
    background: bool = True
    dates: int = Field(default=1, ge=1)
    channels: int = Field(default=3, ge=1)
    label_unit: Literal["images", "cases"]
    budgets: tuple[str, ...]
    protocols: tuple[Protocol, ...] = Field(min_length=1)
    metric: Literal["mean_dice", "mean_iou", "changed_iou"]
    head_tail: HeadTail
    foreground_calibration: bool = Field(
        default=False, description="the headline ECE leaves out pixels that are background in truth and prediction"
    )
    licence: str
    citation: str
    source: str = Field(description="where the data come from and into which folders they go")
    note: str = ""

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.classes]

    @property
    def foreground(self) -> list[int]:
        return list(range(1 if self.background else 0, len(self.classes)))

    @property
    def scored(self) -> list[int]:
        """The classes whose mean is the primary metric (mean Dice leaves the background out, mean IoU does not)."""
        if self.metric == "changed_iou":
            return [1]
        return self.foreground if self.metric == "mean_dice" else list(range(len(self.classes)))

    def protocol(self, name: str | None = None) -> Protocol:
        """The named protocol, the default without a name.

        Raises:
            InputError: no protocol has that name.
        """
        if name is None:
            return self.protocols[0]
        for protocol in self.protocols:
            if protocol.name == name:
                return protocol
        raise InputError(f"{self.name} has no protocol '{name}': choose one of {', '.join(p.name for p in self.protocols)}")

    def ranked(self, pixels: Sequence[float] | NDArray[Any]) -> tuple[list[int], list[int]]:
        """Head and tail class indices by the card's rule.

        Args:
            pixels: labelled pixels per class, shape (C,); ties go to the lower index.
        """
        rule = self.head_tail
        if isinstance(rule, Named):
            return list(rule.head), list(rule.tail)
        among = self.foreground if isinstance(rule, ForegroundThirds) else list(range(len(self.classes)))
        k = rule.k if isinstance(rule, TopBottom) else max(1, len(among) // 3)
        order = sorted(among, key=lambda c: (-float(pixels[c]), c))
        return order[:k], order[-k:]


class Recipe(Frozen):
    """Dotted settings (`train.lr`, `network.encoder`, ...) on top of the engine's defaults.

    `paper` holds what the paper, or where it is silent its reference code, trains with; `quick` is laid over it and shrinks only
    encoder, width, crop, batch and steps (the optimiser's rate follows the batch).
    """

    version: int = 1
    paper: dict[str, Any]
    quick: dict[str, Any]


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
        image: float32, (dates, channels, H, W) for an image or (dates, channels, Z, H, W) for a volume, values nominally in [0, 1].
        mask: uint8, (H, W) or (Z, H, W), class indices and 255; None if it was not asked for or does not exist.
        spacing: millimetres along the mask's axes, None where unknown.
    """

    image: Image
    mask: Mask | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the engine predicts for one item, on the sample's own grid.

    Attributes:
        item: what was predicted.
        probabilities: float32, (C, H, W) or (C, Z, H, W), summing to 1 over C.
    """

    item: Item
    probabilities: NDArray[np.float32]

    @property
    def labels(self) -> Mask:
        return self.probabilities.argmax(0).astype(np.uint8)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Published:
    """A label budget whose members the community has fixed: family name and the labelled ids (case ids where the unit is cases)."""

    family: str
    ids: tuple[str, ...]


class Cache:
    """Decoded arrays, one .npy file each, written atomically: two workers that decode the same volume do no harm.

    Args:
        folder: created when first written to; None keeps nothing and decodes every time.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def array(self, key: str, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array stored under `key` (memory-mapped, read-only), decoding and storing it if it is not there."""
        if self.folder is None:
            return decode()
        path = self.folder / f"{key.replace('/', '__')}.npy"
        if not path.exists():
            write_atomically(path, lambda handle: np.save(handle, decode()))
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Call `write` with an open binary file that takes the place of `path` only when it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def map_labels(raw: NDArray[Any], mapping: Mapping[int, int], where: str | Path) -> Mask:
    """Raw label values through the exact map that a plugin declares.

    Args:
        raw: any shape, integral values (float storage is accepted, fractions are not).
        mapping: raw value to class index or 255.
        where: the file, for the message.

    Raises:
        InputError: a value that is not in the map; the message names file, value and pixel count.
    """
    values, inverse, counts = np.unique(raw, return_inverse=True, return_counts=True)
    table: Mask = np.zeros(len(values), np.uint8)
    for i, value in enumerate(values):
        if not float(value).is_integer() or int(value) not in mapping:
            raise InputError(
                f"{where}: label value {value:g} on {counts[i]} pixels is not in the map "
                f"({', '.join(map(str, sorted(mapping)))}); fix the mask or the class map"
            )
        table[i] = mapping[int(value)]
    mapped: Mask = np.take(table, inverse).reshape(raw.shape)
    return mapped


class Domain(ABC):
    """A dataset opened on a data root.

    Subclasses set `card` and `recipe`; one that reads them from the data sets them again on the instance.
    `__init__` looks at the layout only and raises `InputError` with what is missing and how to get it.
    """

    card: Card
    recipe: Recipe

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = Cache(None)

    def prepare(self, cache: Cache) -> None:
        """Take the engine's cache for costly decoding. It is filled as items are read; an unlabelled item's mask is never decoded."""
        self.cache = cache

    @abstractmethod
    def index(self, split: SplitName) -> list[Item]:
        """All items of a split in a stable order: slices or images for train, cases for val and test. May be empty for val."""

    @abstractmethod
    def read(self, item: Item, mask: bool = True) -> Sample:
        """The item's pixels. With `mask=False` no mask file is opened.

        Raises:
            InputError: unreadable or mismatched files, by name.
        """

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """The files that make up the dataset; their names and sizes are its fingerprint."""

    def published(self, budget: str) -> Published | None:
        """The community's members of a label budget, None where there are none and the seeded protocol draws them."""
        return None

    @classmethod
    @abstractmethod
    def fabricate(cls, root: Path, seed: int = 0, size: int = 1) -> None:
        """Write a small invented dataset in the real layout. `size` multiplies the number of cases or images."""
