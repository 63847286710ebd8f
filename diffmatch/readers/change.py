"""Change detection on patches: what the plugins of two dates and a binary mask share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from diffmatch.card import HeadTail
from diffmatch.domain import Card, ClassInfo, Domain, Item, Named, Protocol, Reading, Recipe, Sample, SplitName
from diffmatch.readers import pairs
from diffmatch.readers.photographs import PRETRAINED

PATCH = 256
"""Pixels along a patch, as the community cuts them."""

RECIPE = Recipe(
    version=2,  # the quick network has no level below stride 8
    paper={
        "network.decoder": "pspnet",
        "network.encoder": "resnet50",
        "network.weights": "hub",
        "data.crop": PATCH,
        "data.scale": (0.8, 1.2),
        "data.grayscale_p": 0.0,
        "train.lr": 0.02,
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
        "train.batch": 4,
        "train.steps": 600,
        "train.validations": 2,
    },
    standard=PRETRAINED | {"train.steps": 800, "train.validations": 2},
)
"""UniMatch's published settings, the same for WHU-CD and LEVIR-CD. The paper is silent on most of them."""


class ChangeCard(Card):
    """A card whose defaults are those of building change detection, as UniMatch scores it: two dates, two classes."""

    classes: tuple[ClassInfo, ...] = (
        ClassInfo(name="unchanged", color=(0, 0, 0)),
        ClassInfo(name="changed", color=(255, 255, 255)),
    )
    dates: int = 2
    budgets: tuple[str, ...] = ("5%", "10%", "20%", "40%")
    protocols: tuple[Protocol, ...] = (
        Protocol(name="patches", title="IoU of changed, summed over all test patches", mode="image"),
    )
    metric: Literal["mean_dice", "mean_iou", "changed_iou"] = "changed_iou"
    head_tail: HeadTail = Named(head=(0,), tail=(1,))
    foreground_calibration: bool = True


class ChangeDetection(Domain):
    """A domain of patches in A, B and label. Subclasses set `card` and write `items`; there, `ref` is a `pairs.Pair`.

    Attributes:
        folders: where A, B and label lie (`pairs.folders`).
        encoding: whether the masks store changed as 1 or as 255.
    """

    recipe = RECIPE
    reading = Reading(kind="photograph", values=(0, 255))

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.encoding = pairs.Encoding()
        self.folders = pairs.folders(root)

    @property
    @abstractmethod
    def items(self) -> Mapping[SplitName, list[Item]]:
        """The patches of every split; worked out once."""

    def index(self, split: SplitName) -> list[Item]:
        return self.items[split]

    def read(self, item: Item, mask: bool = True) -> Sample:
        return pairs.read(item.ref, self.encoding, mask)

    def remark_on_size(self, size: tuple[int, int]) -> list[str]:
        """A remark on patches of (height, width) that are not the community's; nothing where they are."""
        if size == (PATCH, PATCH):
            return []
        return [f"patches of {size[1]} x {size[0]} pixels, the published ones have {PATCH} x {PATCH}"]
