"""Invented brain MRI in the decathlon's layout.

A hippocampus-like pair of touching ellipsoids, for runs without data.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def write_task(root: Path, seed: int, count: int) -> None:
    """Write `count` volumes of about 35 x 50 x 35 mm with masks and dataset.json, as Task04_Hippocampus lies."""
    names = [f"hippocampus_{n:03d}" for n in range(1, count + 1)]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        for array, folder in zip(_phantom(np.random.default_rng([seed, n])), ("imagesTr", "labelsTr"), strict=True):
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / folder / f"{name}.nii.gz")
    about = {
        "name": "Hippocampus",
        "description": "invented volumes in the decathlon's layout",
        "licence": "none: invented",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(about, indent=1))


def _phantom(rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image and label (X, Y, Z).

    Head and tail of one grey body among cortical folds that are just as grey, white matter and fluid.
    """
    shape = tuple(int(n) for n in rng.integers((32, 46, 32), (39, 55, 39)))
    folds = gaussian_filter(rng.standard_normal(shape), 2.2)
    folds /= folds.std()
    grey, white, fluid = rng.uniform(0.50, 0.6), rng.uniform(0.75, 0.9), rng.uniform(0.1, 0.25)
    image = np.where(folds > 0.35, grey, white)
    image[folds < -1.5] = fluid
    x, y, z = (np.arange(n).reshape([-1 if a == b else 1 for b in range(3)]) for a, n in enumerate(shape))
    cx, cy, cz = (n / 2 + rng.normal(0, 2) for n in shape)
    tilt = rng.normal(0, 0.12, 2)
    along = y - cy
    across, up = x - cx - tilt[0] * along, z - cz - tilt[1] * along
    size = rng.uniform(0.94, 1.09)
    head = ((along - 8.2) / 7.8) ** 2 + (across / 7.5) ** 2 + (up / 6.6) ** 2 < size**2
    tail = ((along + 7.5) / 11.4) ** 2 + ((across - 1.5) / 5.9) ** 2 + ((up - 1) / 5.3) ** 2 < size**2
    shell = ((along / 21) ** 2 + (across / 9.5) ** 2 + (up / 8.5) ** 2 < size**2) & ~head & ~tail
    image[shell & (up > 0)], image[shell & (up <= 0)] = fluid, white
    image[head | tail] = grey
    label = np.zeros(shape, np.uint8)
    label[tail], label[head] = 2, 1
    image = gaussian_filter(image, 0.7) * (1 + 0.1 * rng.normal() * across / shape[0])
    image = np.hypot(image + rng.normal(0, 0.045, shape), rng.normal(0, 0.045, shape))
    return np.rint(image * rng.uniform(200, 1500)).astype(np.int16), label
