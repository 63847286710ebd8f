"""Invented abdominal CT in BTCV's raw layout, for runs without the data.

Each case is a drawing, not a recording: thirteen organs as bent ellipsoids and tubes at their usual places in a trunk
with spine, ribs, muscle and bowel. Organs, vessels, muscle and bowel share their Hounsfield units, within a case and
across cases, so that a pixel's brightness alone says little; place and outline do. Lengths are fractions of half the
trunk's field of view, heights run from 0 (pelvis) to 1 (diaphragm).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[Any]

AIR, FAT = -1000.0, -100.0

# Raw label -> ellipsoids (x to the patient's left, y to the back, height; three radii); later organs cover earlier
# ones.
ORGANS: dict[int, tuple[tuple[float, ...], ...]] = {
    6: ((-0.42, -0.04, 0.70, 0.44, 0.40, 0.29), (-0.08, -0.24, 0.74, 0.36, 0.18, 0.15)),  # liver, its left lobe
    7: ((0.30, -0.18, 0.72, 0.22, 0.19, 0.20), (0.12, -0.24, 0.60, 0.20, 0.11, 0.11)),  # stomach, its antrum
    1: ((0.62, 0.18, 0.73, 0.15, 0.22, 0.17),),  # spleen
    2: ((-0.40, 0.30, 0.42, 0.15, 0.15, 0.19),),  # right kidney
    3: ((0.40, 0.29, 0.47, 0.15, 0.15, 0.19),),  # left kidney
    12: ((-0.24, 0.17, 0.66, 0.04, 0.08, 0.07),),  # right adrenal gland
    13: ((0.24, 0.16, 0.69, 0.04, 0.08, 0.07),),  # left adrenal gland
    10: ((-0.10, 0.00, 0.62, 0.16, 0.05, 0.06), (0.20, 0.05, 0.62, 0.20, 0.04, 0.04)),  # portal and splenic vein
    11: ((-0.12, -0.02, 0.50, 0.14, 0.10, 0.11), (0.15, 0.00, 0.57, 0.26, 0.08, 0.08)),  # pancreas, head and tail
    4: ((-0.26, -0.24, 0.50, 0.10, 0.10, 0.14),),  # gallbladder
}
# Raw label -> tubes (x, y, lowest and highest point, radius).
TUBES: dict[int, tuple[float, ...]] = {
    5: (0.05, 0.14, 0.82, 1.1, 0.055),
    8: (0.05, 0.27, -0.1, 1.1, 0.075),
    9: (-0.13, 0.23, -0.1, 0.9, 0.08),
}

# Hounsfield units in the portal venous phase: mean of a case is drawn between the two.
UNITS: dict[int, tuple[float, float]] = {
    1: (95, 135),
    2: (115, 170),
    3: (115, 170),
    4: (0, 40),
    5: (35, 75),
    6: (85, 125),
    7: (10, 90),
    8: (115, 175),
    9: (95, 155),
    10: (110, 165),
    11: (70, 115),
    12: (60, 100),
    13: (60, 100),
}
GALLBLADDER = 4


def scan(rng: np.random.Generator, depth: int, gallbladder: bool = True) -> tuple[Array, Array]:
    """Image int16 in Hounsfield units and label uint8 (raw values 0..13), both (Z, Y, X).

    Feet, front and right first.
    """
    shape = (depth, int(rng.integers(60, 73)), int(rng.integers(66, 81)))
    z, rows, columns = shape
    s, y, x = np.meshgrid(
        np.linspace(0, 1, z), np.linspace(-0.8, 0.8, rows), np.linspace(-1, 1, columns), indexing="ij"
    )
    circle = np.hypot(x[0], y[0] / 0.8) < 1.25  # of the scanner
    image, label = np.full(shape, AIR), np.zeros(shape, np.uint8)
    build = rng.uniform(0.94, 1.06, 2)
    trunk = (x / (0.92 * build[0])) ** 2 + (y / (0.70 * build[1])) ** 2
    fat, wall = rng.uniform(0.70, 0.82), rng.uniform(0.56, 0.62)  # where subcutaneous fat and then muscle end
    muscle, belly = rng.uniform(50, 75), trunk < wall
    image[trunk < 1] = FAT
    image[trunk < fat] = muscle
    image[belly] = FAT
    # Everything inside lies a little elsewhere and is bent a little in every case.
    x, y, s = (axis + _wobble(rng, (x, y, s)) for axis in (x, y, s))
    x, y = x / build[0], y / build[1]
    _bowel(rng, image, belly, (x, y, s))
    bone = rng.uniform(180, 380)
    image[(np.hypot(x, y - 0.47) < 0.15) & (trunk < fat)] = bone
    image[np.hypot(x, y - 0.44) < 0.05] = 0.5 * bone
    ribs = (np.abs(np.sin(9 * np.arctan2(y, x) + 12 * s)) > 0.85) & (trunk > wall) & (trunk < 0.9 * fat) & (s > 0.4)
    image[ribs] = bone * 0.8
    for value, parts in ORGANS.items():
        if value != GALLBLADDER or gallbladder:
            shift, size = rng.normal(0, (0.025, 0.025, 0.015)), rng.uniform(0.92, 1.08)
            inside = [
                sum(
                    ((a - c - d) / (size * r)) ** 2
                    for a, c, d, r in zip((x, y, s), part[:3], shift, part[3:], strict=True)
                )
                < 1
                for part in parts
            ]
            _paint(rng, image, label, value, np.logical_or.reduce(inside) & belly)
    for value, (cx, cy, low, high, radius) in TUBES.items():
        drift = rng.normal(0, 0.03)
        _paint(
            rng, image, label, value, (np.hypot(x - cx - drift * s, y - cy) < radius) & (s > low) & (s < high) & belly
        )
    texture = gaussian_filter(rng.standard_normal(shape), (0.5, 1.2, 1.2))
    image = gaussian_filter(np.where(image > -500, image + 40 * texture, image), (0, 0.5, 0.5)) + rng.normal(
        0, 18, shape
    )
    image = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    image[:, ~circle] = -1024
    return image, label


def _wobble(rng: np.random.Generator, axes: tuple[Array, Array, Array]) -> Array:
    """A smooth displacement of a few hundredths."""
    phase, wave = rng.uniform(0, 2 * np.pi, 3), rng.uniform(1.5, 3.5, 3)
    bent: Array = sum(0.018 * np.sin(w * axis + p) for axis, w, p in zip(axes, wave, phase, strict=True)) + rng.normal(
        0, 0.015
    )
    return bent


def _bowel(rng: np.random.Generator, image: Array, belly: Array, axes: tuple[Array, Array, Array]) -> None:
    """Loops as grey as any organ, some with gas or contrast, most of them low and in front."""
    x, y, s = axes
    for _ in range(45):
        cx, cy, cs = rng.uniform(-0.6, 0.6), rng.uniform(-0.45, 0.2), rng.uniform(-0.05, 0.62)
        radii = rng.uniform((0.06, 0.06, 0.04), (0.16, 0.13, 0.10))
        away = ((x - cx) / radii[0]) ** 2 + ((y - cy) / radii[1]) ** 2 + ((s - cs) / radii[2]) ** 2
        image[(away < 1) & belly] = rng.uniform(20, 150)
        if rng.random() < 0.25:
            image[(away < 0.4) & belly] = rng.choice([-700.0, 220.0])


def _paint(rng: np.random.Generator, image: Array, label: Array, value: int, where: Array) -> None:
    image[where], label[where] = rng.uniform(*UNITS[value]), value


def write_case(
    folder: Path, number: int, rng: np.random.Generator, axes: str, depth: int, gallbladder: bool = True
) -> None:
    """Write img/img####.nii.gz and label/label####.nii.gz, anisotropic and stored along any axes.

    Args:
        axes: where the stored axes lead, as nibabel names it (`LAS`: to the left, to the front, to the head).
    """
    pixel, between = rng.uniform(4.4, 5.6), rng.uniform(8, 13)
    affine = np.diag([pixel, pixel, between, 1.0])
    affine[:3, 3] = rng.uniform(-300, 0, 3)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    for array, name in zip(scan(rng, depth, gallbladder), ("img", "label"), strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        canonical = nib.Nifti1Image(np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0)), affine)
        nib.save(canonical.as_reoriented(turn), folder / name / f"{name}{number:04d}.nii.gz")
