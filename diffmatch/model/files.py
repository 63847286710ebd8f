"""A prediction as files: classes, probabilities, uncertainty, and a picture to look at.

| input | labels | probabilities, uncertainty |
|---|---|---|
| NIfTI | NIfTI | NIfTI of four axes, the maps along the last |
| a picture that lies on Earth | GeoTIFF | GeoTIFF, a band for each map |
| another picture | PNG in the classes' colours | .npz |
| another volume | .npz | .npz |

The overlay is a PNG. A file is written whole or not at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from diffmatch.domain import Image, Mask, Scene
from diffmatch.model import geo
from diffmatch.model.blocks import rows
from diffmatch.model.look import Look
from diffmatch.model.overlay import overlay
from diffmatch.model.prediction import Prediction
from diffmatch.shared.files import beside, write_atomically

Saved = Literal["labels", "probabilities", "overlay", "uncertainty"]
NIFTI = (".nii", ".nii.gz")
MAPS: dict[str, str] = {".png": ".npz"}
"""Ending of the files of float maps, where it is not that of the labels."""


def outputs(like: Path, target: Path, save: Collection[Saved], volume: bool) -> dict[Saved, Path]:
    """The files that `write` would write, so that a finished input can be left out.

    Args:
        like: the file that is predicted.
        target: path of the new files without ending.
        save: what is asked for.
        volume: whether the input is a volume and not a picture.
    """
    ending, _ = _form(like, volume)
    return _paths(ending, target, save)


def write(
    prediction: Prediction,
    image: Image | Scene,
    like: Path,
    target: Path,
    look: Look,
    save: Collection[Saved],
    drawn: Mask | None = None,
) -> dict[Saved, Path]:
    """Write what is asked for of a prediction, on the grid and in the place of the file that it was made from.

    Args:
        image: what was predicted, (dates, channels, H, W), (dates, channels, Z, H, W) or a scene; for the overlay.
        like: the file whose place in space is taken over.
        target: path of the new files without ending; its folder is made.
        look: of the classes.
        drawn: the labels on the axes of `image`, for the overlay; None where these are the file's.

    Returns:
        The files' paths, in the order of `save`.
    """
    ending, where = _form(like, prediction.labels.ndim == 3)
    paths = _paths(ending, target, save)
    for what, path in paths.items():
        if what == "labels":
            _write_labels(prediction.labels, like, path, where, look)
        elif what == "probabilities":
            maps = prediction.probabilities
            arrays = {"probabilities": maps, "classes": np.array(look.names)}
            _write_maps(maps, look.names, arrays, like, path, where)
        elif what == "uncertainty":
            arrays = {"entropy": prediction.entropy}
            if prediction.disagreement is not None:
                arrays["disagreement"] = prediction.disagreement
            _write_maps([*arrays.values()], [*arrays], arrays, like, path, where)
        else:
            picture = overlay(image, prediction.labels if drawn is None else drawn, look)
            write_atomically(path, partial(picture.save, format="PNG"))
    return paths


def write_labels(labels: Mask, like: Path, target: Path, look: Look) -> Path:
    """Write predicted classes alone, as `write` does.

    Args:
        labels: class indices, (H, W) or a volume, along the axes of `like`.

    Returns:
        The file's path.
    """
    ending, where = _form(like, labels.ndim == 3)
    path = _paths(ending, target, ["labels"])["labels"]
    _write_labels(labels, like, path, where, look)
    return path


def _form(like: Path, volume: bool) -> tuple[str, geo.Place | None]:
    """Ending of the file that holds the labels, and where a GeoTIFF lies."""
    if like.name.lower().endswith(NIFTI):
        return ".nii.gz", None
    if volume:
        return ".npz", None
    where = geo.place(like)
    return (".tif" if where else ".png"), where


def _paths(ending: str, target: Path, save: Collection[Saved]) -> dict[Saved, Path]:
    def path(what: Saved) -> Path:
        if what == "labels":
            return target.with_name(f"{target.name}{ending}")
        other = ".png" if what == "overlay" else MAPS.get(ending, ending)
        return target.with_name(f"{target.name}_{what}{other}")

    return {what: path(what) for what in save}


def _write_labels(labels: Mask, like: Path, path: Path, where: geo.Place | None, look: Look) -> None:
    if path.suffix == ".gz":
        _write_nifti(look.stored[labels], look.names, like, path)
    elif path.suffix == ".npz":
        write_atomically(path, partial(np.savez_compressed, labels=look.stored[labels]))
    elif where:
        geo.write_labels(labels, path, where, look)
    else:
        _write_png(labels, path, look)


def _write_maps(
    maps: geo.Maps,
    names: Sequence[str],
    arrays: Mapping[str, Any],
    like: Path,
    path: Path,
    where: geo.Place | None,
) -> None:
    """Float maps and their names; an .npz file gets the arrays."""
    if path.suffix == ".gz":
        _write_nifti(np.moveaxis(np.asarray(maps), 0, -1), names, like, path)
    elif where:
        geo.write_maps(maps, names, path, where)
    else:
        write_atomically(path, partial(np.savez_compressed, **arrays))


def _write_nifti(values: NDArray[Any], names: Sequence[str], like: Path, path: Path) -> None:
    """A NIfTI file in the image's place. Its description lists the names as far as they fit."""
    import nibabel as nib

    source = nib.load(like)
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, source.affine, header)
    image.header["cal_min"] = image.header["cal_max"] = 0  # of the image's intensities
    image.header["descrip"] = ", ".join(names).encode("ascii", "replace")[:79]
    with beside(path) as new:
        nib.save(image, new)


def _write_png(labels: Mask, path: Path, look: Look) -> None:
    """Numbers of 8 bit are shown in the classes' colours. Pillow reads the array of numbers where it lies, on disk."""
    stored = look.stored
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as numbers:
        for part in rows(*labels.shape):
            numbers.write(stored[labels[part]].tobytes())
        numbers.flush()
        picture = Pillow.fromarray(np.memmap(numbers, stored.dtype, "r", shape=labels.shape))
        if stored.dtype == np.uint8:
            palette = np.zeros((256, 3), np.uint8)
            palette[list(look.values)] = look.colors
            picture.putpalette(palette.tobytes())
        write_atomically(path, partial(picture.save, format="PNG"))
