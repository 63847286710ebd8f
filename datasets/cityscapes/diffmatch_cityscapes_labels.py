"""Cityscapes' labels: two numberings of the same 19 classes, and which of them a mask holds.

labelIds number 34 kinds of things (0 to 33, of which 19 are scored) and are what the official archive holds;
labelTrainIds number the 19 classes (0 to 18, void 255) and are made by the owner. Taking one for the other fails
silently, so the values decide, never the file's name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import VOID

# Official name -> labelId and colour; a class's index (its trainId) is its place here.
CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}

NEGATIVE = (-1, 255, 65535)
"""The licence plate's id is -1; unsigned files of 8 and 16 bits hold it as 255 and 65535."""

LABEL_IDS = dict.fromkeys((*range(34), *NEGATIVE), VOID) | {
    value: index for index, (value, _) in enumerate(CLASSES.values())
}
TRAIN_IDS = dict.fromkeys(NEGATIVE, VOID) | {index: index for index in range(len(CLASSES))}

FOREIGN_VOID = 0.02
"""Share of 255 above which a mask is no labelIds mask.

There only licence plates can have it, while trainIds store all void so.
"""


def only_label_ids(raw: NDArray[Any]) -> bool:
    """A value from 19 to 33 occurs (lights, signs, plants, sky, people, vehicles).

    No trainId is as large, and no street is without.
    """
    return bool(((raw >= len(CLASSES)) & (raw <= max(LABEL_IDS.keys() - NEGATIVE))).any())


def void_share(raw: NDArray[Any]) -> float:
    """Share of the pixels that hold -1 in any storage."""
    return float(np.isin(raw, NEGATIVE).mean())
