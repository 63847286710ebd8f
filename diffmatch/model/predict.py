"""A trained method at work on files that no set holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffmatch.domain import Card, Domain, Image, InputError, Item, Mask, Scene
from diffmatch.learning.method import Method, evaluating
from diffmatch.model.mask_files import write_mask
from diffmatch.progress import Bar
from diffmatch.readers import outside, pairs
from diffmatch.scoring.inference import predict_item
from diffmatch.scoring.scenes import predict_scene
from diffmatch.settings import Section

SCENE = 4096**2
"""Pixels above which a picture is predicted by windows, in memory that does not grow with the picture."""
WINDOW = 512
"""Side of these windows, or the crop that the run was trained on if it is larger; they overlap by half."""


@dataclass
class Predicted:
    """What was written.

    Attributes:
        colors: of the numbers that the files hold, in the classes' order.
        files: the mask files.
        pixels: of each class in each of them, (files, C).
    """

    card: Card
    colors: dict[int, tuple[int, int, int]]
    files: list[Path]
    pixels: NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """A method with its weights, the domain that reads its files, and the device that it works on."""

    domain: Domain
    method: Method[Section]
    device: torch.device


def sources(paths: Sequence[Path], out: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The files to predict by the names of their masks, before anything costly is done.

    Args:
        paths: files, or folders in which all files with these endings are taken.
        out: a folder that is empty or does not exist yet.

    Raises:
        InputError: a path that does not exist or holds no such file, or masks that would be overwritten.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not an empty folder; name another one with --out, so that nothing is overwritten")
    return dict(named(paths, endings))


def predict_files(trained: Trained, files: Mapping[str, Path], out: Path) -> Predicted:
    """Write a mask for each file, with the data set's own class numbers and on the file's own grid.

    Args:
        files: by the name of the mask below `out`, as `sources` gives them.

    Raises:
        InputError: a file that cannot be read.
    """
    domain, card = trained.domain, trained.domain.card
    colors = {value: info.color for value, info in zip(domain.reading.values, card.classes, strict=True)}
    predicted = Predicted(card, colors, [], np.zeros((len(files), len(card.classes)), np.int64))
    with torch.no_grad(), evaluating(trained.method), Bar("predict", len(files)) as bar:
        for row, (name, path) in enumerate(bar.track(files.items())):
            labels = labels_of(trained, name, pixels_of(domain, path))
            own = path.name.lower().endswith(domain.endings)
            aligned = labels if own else outside.own_axes(labels, path, domain.reading)
            predicted.files.append(write_mask(aligned, path, out / name, colors))
            predicted.pixels[row] = np.bincount(labels.ravel(), minlength=len(card.classes))
    return predicted


def pixels_of(domain: Domain, path: Path) -> Image | Scene:
    """A file that no set holds, or the earlier one of two dates, as the domain's items are.

    Raises:
        InputError: a file that cannot be read, or a later date that is missing.
    """
    if path.name.lower().endswith(domain.endings):
        return domain.outside(path)
    if domain.card.dates == 2:
        return outside.of_pair(path, pairs.later(path), domain.card, domain.reading)
    return outside.of_file(path, domain.card, domain.reading)


def named(paths: Sequence[Path], endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files by the names that their masks get.

    A mask is called as its file without the ending; of a folder's files, as the path below the folder.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        folder = path if path.is_dir() else path.parent
        inside = (
            sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            if path.is_dir()
            else [path]
        )
        fitting = {p: stem for p in inside if (stem := without_ending(p.name, endings)) is not None}
        if not fitting:
            raise InputError(
                f"{path}: {'holds no' if path.is_dir() else 'is no'} file of this dataset's kind ({', '.join(endings)})"
            )
        for file, stem in fitting.items():
            name = file.relative_to(folder).with_name(stem).as_posix()
            if (other := seen.setdefault(name, file)) != file:
                raise InputError(f"{file}: its mask would be called as that of {other}; predict them into two folders")
            yield name, file


def without_ending(name: str, endings: tuple[str, ...]) -> str | None:
    """The name without the longest of the endings that it has, in whichever case; None if it has none of them."""
    return next((name[: -len(e)] for e in sorted(endings, key=len, reverse=True) if name.lower().endswith(e)), None)


def labels_of(trained: Trained, name: str, image: Image | Scene) -> Mask:
    """Classes of one image or volume on its own grid, as the first protocol scores them.

    A picture larger than SCENE is predicted by windows.
    """
    settings, protocol = trained.method.settings, trained.domain.card.protocol()
    height, width = image.shape[-2:]
    read = (
        image.read if isinstance(image, Scene) else lambda top, left, h, w: image[..., top : top + h, left : left + w]
    )
    if protocol.mode != "image" or settings.data.resize or height * width <= SCENE:
        whole, item = read(0, 0, height, width), Item(name, name)
        return predict_item(
            trained.method, item, whole, settings.data, protocol, settings.eval.batch, trained.device
        ).labels
    side = max(WINDOW, settings.data.crop)
    labels = np.zeros((height, width), np.uint8)
    for block in predict_scene(
        trained.method.probabilities,
        read,
        (height, width),
        key=name,
        data=settings.data,
        window=side,
        stride=side // 2,
        device=trained.device,
    ):
        h, w = block.probabilities.shape[1:]
        labels[block.top : block.top + h, block.left : block.left + w] = block.probabilities.argmax(0)
    return labels
