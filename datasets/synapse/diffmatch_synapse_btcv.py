"""BTCV's raw NIfTI volumes as the plugin hands them out.

Turned by their affine, windowed, thirteen raw labels as eight organs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import InputError, Mask, Reading, Window, map_labels
from diffmatch.readers import nifti

# Raw ids: 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 esophagus, 6 liver, 7 stomach, 8 aorta, 9 inferior
# vena cava, 10 portal and splenic vein, 11 pancreas, 12 and 13 adrenal glands.
ORGANS = {0: 0, 1: 7, 2: 4, 3: 3, 4: 2, 5: 0, 6: 5, 7: 8, 8: 1, 9: 0, 10: 0, 11: 6, 12: 0, 13: 0}

READING = Reading(
    kind="volume",
    # Of the raw ids that count as background, 0.
    values=tuple(next(value for value, organ in ORGANS.items() if organ == c) for c in range(9)),
    axes="SPL",
    # TransUNet's window, in Hounsfield units; half precision errs by 0.1 of them at most.
    scaling=(Window(low=-125, high=275),),
    half=True,
)
"""Slices from feet to head, rows from front to back, columns from the patient's right to the left."""


def opened(path: Path) -> Any:
    """A volume's header and affine; pixels are not read yet.

    Raises:
        InputError: unreadable, or not of 3 axes.
    """
    volume = nifti.volume(path)
    if len(volume.shape) != 3:
        raise InputError(f"{path}: expected a volume of 3 axes, found shape {volume.shape}; take BTCV's own files")
    return volume


def axes(volume: Any, path: Path) -> tuple[int, int, int]:
    """The stored axes that run most nearly along the body, front to back and side to side, whichever way.

    Raises:
        InputError: the affine is not one of three directions.
    """
    towards = nifti.orientation(volume, path, READING.axes)[:, 0].tolist()
    return towards.index(0), towards.index(1), towards.index(2)


def image(path: Path) -> NDArray[np.floating[Any]]:
    """(slices, rows, columns) in [0, 1], half precision."""
    pixels: NDArray[np.floating[Any]] = nifti.image(opened(path), path, READING)[0]
    return pixels


def labels(path: Path, image_path: Path) -> Mask:
    """Class indices, shape of the image.

    Raises:
        InputError: a value that is not BTCV's, or a grid that is not the image's.
    """
    mask = nifti.volume(path)
    nifti.same_grid(mask, path, opened(image_path))
    return map_labels(nifti.ordered(mask, path, READING.axes), ORGANS, path)
