"""Invented short-axis cardiac MRI in ACDC's raw layout, for runs without the data.

Each patient is a drawing, not a recording: a left ventricle in a ring of muscle with a crescent of right ventricle
beside it, inside a chest whose fat, liver, stomach, vessels and chest wall share the heart's grey values. A pixel's
brightness alone therefore says next to nothing; shape and arrangement do. Lengths are fractions of the field of view
until the voxel size turns them into millimetres.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[Any]
RV, MYO, LV = 1, 2, 3

# Cavity radius, wall thickness and right ventricle relative to a normal heart, and cavity radius at end systole
# relative to end diastole: the database's five groups (Bernard et al. 2018, table 1) in caricature.
GROUPS = {
    "NOR": (1.00, 1.00, 1.00, 0.68),
    "DCM": (1.18, 0.80, 1.05, 0.84),
    "HCM": (0.92, 1.25, 0.95, 0.60),
    "MINF": (1.08, 0.90, 0.98, 0.78),
    "RV": (0.96, 1.00, 1.16, 0.72),
}


class Patient:
    """One invented patient; `rng` decides everything about it.

    Attributes:
        spacing: millimetres (z, y, x), anisotropic as in the real set.
        shape: voxels (Z, Y, X).
        frames: the number of the end-systolic frame and of all frames, as Info.cfg gives them.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.group = str(rng.choice(list(GROUPS)))
        pixel = rng.uniform(1.3, 1.7)
        self.spacing = (float(rng.choice([5.0, 7.0, 8.0, 10.0])), float(pixel), float(pixel))
        self.shape = (int(rng.integers(6, 11)), int(rng.integers(120, 161)), int(rng.integers(120, 161)))
        count = int(rng.integers(18, 31))
        self.frames = (int(rng.integers(7, 17)), count)
        depth, height, width = self.shape
        unit = np.sqrt(height * width)
        self.y = ((np.arange(height) - (height - 1) / 2) / unit)[None, :, None]
        self.x = ((np.arange(width) - (width - 1) / 2) / unit)[None, None, :]
        # 0 is the valve plane, 1 the apex; the outermost slices may lie beyond either.
        self.long_axis = np.linspace(rng.uniform(-0.1, 0.06), rng.uniform(0.92, 1.08), depth)[:, None, None]
        self.shift = rng.normal(0, 0.005, (2, depth, 1, 1))  # every slice is a breath-hold of its own
        cavity, wall, right, self.squeeze = GROUPS[self.group]
        self.radius = 0.0925 * cavity * rng.uniform(0.95, 1.05)
        self.wall = 0.0292 * wall * rng.uniform(0.93, 1.07)
        self.right = right * rng.uniform(0.95, 1.05)
        self.centre = (rng.normal(-0.03, 0.04), rng.normal(0.04, 0.05))
        self.angle = np.pi + rng.normal(0.25, 0.3)  # from the left ventricle to the right one: image left, slightly up
        self.bulge, self.thin = rng.uniform(0.02, 0.09, 2), rng.uniform(0, 2 * np.pi, 2)
        self.anatomy = rng.uniform(-1, 1, 24)
        self.vessels = rng.uniform(-1, 1, (5, 4))
        blood, muscle = rng.uniform(0.78, 1.0), rng.uniform(0.28, 0.42)
        self.grey = {
            "blood": blood,
            "right blood": blood * rng.uniform(0.85, 1.05),
            "muscle": muscle,
            "fat": rng.uniform(0.7, 1.1),
            "liver": muscle * rng.uniform(0.85, 1.3),
            "chest": muscle * rng.uniform(0.7, 1.1),
            "lung": rng.uniform(0.05, 0.12),
            "stomach": rng.uniform(0.1, 0.95),
        }
        self.bias = rng.normal(0, 0.22, 5)
        self.noise, self.gain = rng.uniform(0.025, 0.055), rng.uniform(250, 900)

    def _ellipse(
        self, y: float | Array, x: float | Array, height: float | Array, width: float | Array, angle: float = 0.0
    ) -> Array:
        """Where the volume lies inside an ellipse; arguments may vary along the slices, shape (Z, 1, 1)."""
        dy, dx = self.y - y, self.x - x
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        # A radius that vanishes draws nothing.
        return np.asarray((across / np.maximum(height, 1e-6)) ** 2 + (along / np.maximum(width, 1e-6)) ** 2 < 1)

    def _chest(self, image: Array) -> None:
        """Everything but the heart."""
        a, grey, s = self.anatomy, self.grey, self.long_axis
        width, height = 0.56 + 0.04 * a[0], 0.45 + 0.03 * a[1]
        for scale, value in (
            (1.0, grey["fat"]),
            (0.91 + 0.02 * a[2], grey["chest"]),
            (0.84, 0.85 * grey["fat"]),
            (0.81, grey["chest"]),
        ):
            image[np.broadcast_to(self._ellipse(0, 0, height * scale, width * scale), image.shape)] = value
        fatty = gaussian_filter(self.rng.standard_normal(image.shape), (0.7, 6, 6)) > 0.03
        image[fatty & self._ellipse(-0.05, 0, 0.3, 0.25)] = 0.85 * grey["fat"]
        left, right = -0.27 + 0.02 * a[3], 0.28 + 0.02 * a[4]
        for x, lung in ((left, 0.17 + 0.02 * a[5]), (right, 0.15 + 0.02 * a[6])):
            image[np.broadcast_to(self._ellipse(-0.02 + 0.03 * a[7], x, 0.29, lung), image.shape)] = grey["lung"]
        liver = self._ellipse(0.24 + 0.03 * a[8], -0.22 + 0.04 * a[9], 0.10 + 0.11 * s, 0.20 + 0.08 * s, 0.25 * a[10])
        image[liver] = grey["liver"]
        y, x, size = 0.20 + 0.03 * a[11], 0.25 + 0.04 * a[12], 0.075 + 0.035 * s + 0.01 * a[13]
        image[self._ellipse(y, x, size, size * 1.35, a[14])] = grey["chest"]
        image[self._ellipse(y, x, size - 0.018, size * 1.35 - 0.018, a[14])] = grey["stomach"]
        spine = 0.02 * a[15]
        image[np.broadcast_to(self._ellipse(0.29, spine, 0.06, 0.075), image.shape)] = 0.9 * grey["muscle"]
        image[np.broadcast_to(self._ellipse(0.37, spine, 0.022, 0.03), image.shape)] = grey["blood"]
        aorta = (0.21 + 0.015 * a[16], 0.075 + 0.02 * a[17])
        image[np.broadcast_to(self._ellipse(*aorta, 0.043, 0.043), image.shape)] = grey["muscle"]
        image[np.broadcast_to(self._ellipse(*aorta, 0.036, 0.036), image.shape)] = grey["blood"]
        for y, x, size, stretch in self.vessels:  # in liver and lung, as bright and as large as a small ventricle
            size, across = 0.018 + 0.008 * size, 0.018 + 0.008 * stretch
            inside = self._ellipse(0.12 + 0.16 * y, (-0.22 if stretch > 0 else 0.24) + 0.12 * x, size, across)
            image[np.broadcast_to(inside, image.shape)] = grey["blood"]

    def _heart(self, image: Array, label: Array, systole: bool) -> None:
        """The ventricles of one phase.

        At end systole the base has come down, the cavity is smaller and the wall thicker.
        """
        grey = self.grey
        s = (self.long_axis - 0.08) / 0.9 if systole else self.long_axis
        squeeze = self.squeeze if systole else 1.0
        taper = np.sqrt(np.clip(1 - (np.clip(s, 0, 1) * 0.97) ** 2.4, 0, 1))
        radius = self.radius * squeeze * taper
        wall = self.wall * (1 + 0.9 * (1 - squeeze)) * (0.75 + 0.25 * taper)
        y, x = self.centre[0] + self.shift[0] + 0.03 * s, self.centre[1] + self.shift[1] + 0.03 * s
        rho, phi = np.hypot(self.y - y, self.x - x), np.arctan2(self.y - y, self.x - x)
        endo = radius * (1 + self.bulge[0] * np.cos(2 * (phi - self.thin[0])))
        epi = endo + wall * (1 + 2 * self.bulge[1] * np.cos(phi - self.thin[1]))
        present = (s >= 0) & (s <= 1)
        cavity, muscle = (rho < endo) & present, (rho < epi) & present

        outer = radius + wall
        crescent = (
            np.sqrt(np.clip(1 - (np.clip(s, 0, None) / 0.85) ** 2, 0, 1)) * (0.82 if systole else 1.0) * self.right
        )
        base = self.radius + self.wall
        ry, rx = y + 0.92 * outer * np.sin(self.angle), x + 0.92 * outer * np.cos(self.angle)
        long, short = 1.06 * base * crescent, 0.78 * base * crescent
        right = self._ellipse(ry, rx, long, short, self.angle) & (s >= -0.08)

        around = (rho < 1.22 * outer + 0.012) | self._ellipse(ry, rx, 1.2 * long, 1.25 * short, self.angle)
        patchy = gaussian_filter(self.rng.standard_normal(image.shape), (0.5, 5, 5)) > 0.0
        image[around & (s <= 1.1)] = 0.75 * grey["muscle"]
        image[around & patchy & (s <= 1.1)] = 0.9 * grey["fat"]
        image[self._ellipse(ry, rx, long + 0.012, short + 0.012, self.angle) & (s >= -0.08)] = grey["muscle"]
        image[right] = grey["right blood"]
        image[(rho < 0.85 * outer) & (s < 0)] = grey[
            "blood"
        ]  # the atrium above the valve: bright, round and not the ventricle
        image[muscle] = grey["muscle"]
        image[cavity] = grey["blood"]
        for side in (
            -1.0,
            1.0,
        ):  # papillary muscles are dark and belong to the cavity, as the database's contours have it
            at = self.angle + np.pi + 0.9 * side
            papillary = self._ellipse(
                y + 0.6 * radius * np.sin(at), x + 0.6 * radius * np.cos(at), 0.17 * radius, 0.2 * radius
            )
            image[papillary & cavity & (s > 0.15) & (s < 0.75)] = 1.15 * grey["muscle"]
        label[right], label[muscle], label[cavity] = RV, MYO, LV

    def phase(self, systole: bool) -> tuple[Array, Array]:
        """Image int16 (scanner units, gain differs between patients) and label uint8 (0..3), both (Z, Y, X)."""
        image, label = np.full(self.shape, 0.02), np.zeros(self.shape, np.uint8)
        self._chest(image)
        self._heart(image, label, systole)
        texture = gaussian_filter(self.rng.standard_normal(self.shape), (0, 1.5, 1.5))
        image = gaussian_filter(image * (1 + 0.35 * texture), (0, 0.7, 0.7))
        y, x = 2 * self.y, 2 * self.x
        image *= np.exp(sum(c * term for c, term in zip(self.bias, (x, y, x * y, x * x, y * y), strict=True)))
        real, imaginary = self.rng.normal(0, self.noise, (2, *self.shape))
        return np.rint(np.hypot(image + real, imaginary) * self.gain).astype(np.int16), label


def write_patient(folder: Path, rng: np.random.Generator, ed: int = 1, cine: bool = False) -> None:
    """Write one patient's folder: Info.cfg, two frames with masks, and with `cine` a tiny stand-in for the 4D file.

    Args:
        folder: `.../patient###`, created.
        ed: number of the end-diastolic frame (01 as a rule; the real patient090's is 04).
    """
    patient, name = Patient(rng), folder.name
    es, count = patient.frames
    folder.mkdir(parents=True, exist_ok=True)
    about = {"ED": ed, "ES": es, "Group": patient.group, "Height": 170.0, "NbFrame": count, "Weight": 70.0}
    (folder / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in about.items()))
    affine = np.diag([*patient.spacing[::-1], 1.0])
    for frame, systole in ((ed, False), (es, True)):
        for array, end in zip(patient.phase(systole), ("", "_gt"), strict=True):
            nib.save(nib.Nifti1Image(array.T, affine), folder / f"{name}_frame{frame:02d}{end}.nii.gz")
    if cine:
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 2, 3), np.int16), affine), folder / f"{name}_4d.nii.gz")
