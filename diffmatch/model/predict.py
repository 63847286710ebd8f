"""One image, volume or scene predicted on its own grid, block by block, with its uncertainty."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffmatch.domain import Card, Image, Scene
from diffmatch.learning.method import Method
from diffmatch.model.prediction import MAPS, Prediction
from diffmatch.scoring.inference import predict_images
from diffmatch.scoring.scenes import predict_scene
from diffmatch.settings import Section

SCENE = 4096**2
"""Pixels above which a picture is predicted by windows, in memory that does not grow with the picture."""
WINDOW = 512
"""Side of these windows, or the crop that the run was trained on if it is larger; they overlap by half."""
IN_MEMORY = 2**29
"""Bytes above which an array lies in a temporary file."""


class Block(NamedTuple):
    """Maps (channels, *part) of a part of the grid: C probabilities, and the disagreement of several draws."""

    place: tuple[slice, ...]
    maps: Tensor


@torch.no_grad()
def predict_image(
    method: Method[Section],
    card: Card,
    name: str,
    image: Image | Scene,
    device: torch.device,
    keep: Collection[str] = MAPS,
    scratch: Path | None = None,
) -> Prediction:
    """Classes of one image, volume or scene on its own grid, as the card's first protocol scores them.

    Args:
        method: in eval mode, on the device.
        name: fixes the noise.
        image: (dates, channels, H, W) or (dates, channels, Z, H, W).
        keep: fields of `Prediction` besides the labels that are worked out; the others stay empty.
        scratch: a folder for the temporary files of large arrays; None: the system's.
    """
    classes, grid = len(card.classes), image.shape[2:]

    def room(field: str, *shape: int, kind: type[np.generic] = np.float32) -> NDArray[Any]:
        return _array(shape if field == "labels" or field in keep else (0,), kind, scratch)

    labels = room("labels", *grid, kind=np.uint8)
    found = Prediction(labels, room("probabilities", classes, *grid), room("entropy", *grid), None)
    for place, maps in _blocks(method, card, name, image, device):
        probabilities = maps[:classes]
        labels[place] = probabilities.argmax(0).numpy()
        if "probabilities" in keep:
            found.probabilities[:, *place] = probabilities.numpy()
        if "entropy" in keep:
            found.entropy[place] = torch.special.entr(probabilities).sum(0).numpy()
        if len(maps) > classes and "disagreement" in keep:
            disagreement = room("disagreement", *grid) if found.disagreement is None else found.disagreement
            disagreement[place] = maps[classes].numpy()
            found = replace(found, disagreement=disagreement)
    return found


def _blocks(
    method: Method[Section], card: Card, name: str, image: Image | Scene, device: torch.device
) -> Iterator[Block]:
    """Parts that tile the grid: slices of a volume, a whole picture, windows of a scene."""
    data, protocol, batch = method.settings.data, card.protocol(), method.settings.eval.batch
    predict = _predict(method)
    if not isinstance(image, Scene) and image.ndim == 5:
        slices = torch.from_numpy(np.require(image, requirements="W")).movedim(2, 0)
        keys = [f"{name}/{z}" for z in range(len(slices))]
        for first in range(0, len(slices), batch):
            chosen = slice(first, first + batch)
            maps = predict_images(predict, slices[chosen].to(device), keys[chosen], data, protocol).cpu()
            yield Block((chosen, slice(None), slice(None)), maps.movedim(0, 1))
        return
    height, width = image.shape[-2:]
    read = image.read if isinstance(image, Scene) else _window_of(image)
    if protocol.mode != "image" or data.resize or height * width <= SCENE:
        whole = torch.from_numpy(np.require(read(0, 0, height, width), requirements="W"))[None].to(device)
        yield Block((slice(None), slice(None)), predict_images(predict, whole, [f"{name}/0"], data, protocol)[0].cpu())
        return
    side = max(WINDOW, data.crop)
    for block in predict_scene(
        predict, read, (height, width), key=name, data=data, window=side, stride=side // 2, device=device
    ):
        h, w = block.probabilities.shape[1:]
        place = slice(block.top, block.top + h), slice(block.left, block.left + w)
        yield Block(place, torch.from_numpy(block.probabilities))


def _predict(method: Method[Section]) -> Callable[[Tensor, Sequence[str], tuple[int, int]], Tensor]:
    """The mean of the draws, (N, C, H, W); of several also, as a last channel, the share that names another class."""

    def predict(images: Tensor, keys: Sequence[str], offset: tuple[int, int]) -> Tensor:
        draws = method.draws(images, keys, offset)
        mean = draws.mean(0)
        if len(draws) == 1:
            return mean
        other = (draws.argmax(2) != mean.argmax(1)).float().mean(0)
        return torch.cat([mean, other[:, None]], 1)

    return predict


def _window_of(image: Image) -> Callable[[int, int, int, int], Image]:
    return lambda top, left, height, width: image[..., top : top + height, left : left + width]


def _array(shape: tuple[int, ...], kind: type[np.generic], scratch: Path | None) -> NDArray[Any]:
    """Room for values; a large one is mapped from a temporary file, which vanishes with the array."""
    if np.prod(shape, dtype=np.int64) * np.dtype(kind).itemsize <= IN_MEMORY:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, kind, "w+", shape=shape)
