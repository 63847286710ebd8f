"""Volumes that are learnt from slice by slice and scored whole.

What the medical plugins share, whatever the file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffmatch.card import HeadTail
from diffmatch.domain import Card, ForegroundThirds, Mask, Reading, Recipe, Sample
from diffmatch.readers.scaling import scaled

RECIPE = Recipe(
    paper={
        "network.decoder": "unet_bilinear",
        "network.encoder": "unet16",
        "network.dim": 64,
        "network.stride": 4,
        "data.resize": 256,
        "data.crop": 256,
        "data.scale": (1.0, 1.0),
        "data.flip": "rot90",
        "data.rotate": 20.0,
        "data.mean": (0.0,),
        "data.std": (1.0,),
        "train.lr": 0.01,
        "train.batch": 12,
        "train.epochs": 300,
        "train.loss": "ce_dice",
    },
    quick={
        "network.decoder": "unet",
        "network.encoder": "plain8",
        "network.dim": 32,
        "network.stride": 2,
        "data.crop": 64,
        "train.optimizer": "adamw",
        "train.lr": 0.001,
        "train.batch": 4,
        "train.steps": 600,
        "train.validations": 2,
    },
    standard={
        "data.resize": 128,
        "data.crop": 128,
        "train.batch": 6,
        "train.steps": 3000,
        "train.validations": 4,
    },
)
"""UniMatch's published ACDC settings: 2D U-Net, 256 x 256, SGD 0.01, batch 12, 300 epochs. The paper is silent here."""


class VolumeCard(Card):
    """A card whose defaults are those of medical volumes: one channel, cases as the label unit, Dice."""

    channels: int = 1
    label_unit: Literal["images", "cases"] = "cases"
    metric: Literal["mean_dice", "mean_iou", "changed_iou"] = "mean_dice"
    head_tail: HeadTail = ForegroundThirds()
    foreground_calibration: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pixels of a volume or of one of its slices are.

    Attributes:
        key: name under which decoded arrays are cached.
        mask: None where there is none; may be the same file as `image`.
        spacing: millimetres along (slices, rows, columns); None where the files do not say.
        plane: the slice within the volume, from 0; None for the whole array.
    """

    key: str
    image: Path
    mask: Path | None
    spacing: tuple[float, ...] | None = None
    plane: int | None = None


def sample(source: Source, pixels: NDArray[Any], labels: Mask | None, reading: Reading | None = None) -> Sample:
    """The volume, or the slice of it that `source.plane` names, in memory of its own.

    Args:
        pixels: (channels, Z, H, W), or (channels, H, W) where `plane` is None and the file holds one slice.
        labels: the same without channels.
        reading: scales pixels that are kept as stored; None where they are scaled already.
    """
    spacing = source.spacing
    if source.plane is not None:
        pixels, labels, spacing = pixels[:, source.plane], None if labels is None else labels[source.plane], None
    if reading is not None:
        pixels = scaled(np.asarray(pixels), reading)
    return Sample(np.array(pixels, np.float32)[None], None if labels is None else np.array(labels, np.uint8), spacing)
