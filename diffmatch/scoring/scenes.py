"""Scenes larger than memory.

Overlapping windows are read, predicted and blended in vertical strips; finished blocks are handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffmatch.data.augment import normalised
from diffmatch.domain import ReadWindow
from diffmatch.scoring.inference import Predict, starts
from diffmatch.settings import Data


@dataclass(frozen=True)
class Block:
    """A finished part of a scene: first row and column, probabilities (C, h, w)."""

    top: int
    left: int
    probabilities: NDArray[np.float32]


@torch.no_grad()
def predict_scene(
    predict: Predict,
    read: ReadWindow,
    size: tuple[int, int],
    *,
    key: str,
    data: Data,
    window: int,
    stride: int,
    strip: int = 4096,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
) -> Iterator[Block]:
    """The probabilities of `inference.sliding` over a scene, in memory that depends on `window` and `strip` alone.

    Args:
        size: (H, W) of the scene.
        key: of the scene's noise; windows are cut from one field, so that they agree where they overlap.
        strip: columns that are worked on at once; windows across the seam of two strips are predicted twice.

    Yields:
        Blocks that tile the scene, strip by strip, from top to bottom.
    """
    height, width = size
    rows = starts(height, window, stride)
    for left in range(0, width, strip):
        right = min(left + strip, width)
        columns = [x for x in starts(width, window, stride) if x < right and x + window > left]
        total: torch.Tensor | None = None
        hits = torch.zeros(min(window, height), right - left)
        for i, top in enumerate(rows):
            bottom = min(top + window, height)
            for x in columns:
                image = torch.from_numpy(read(top, x, bottom - top, min(x + window, width) - x)).to(device)
                part = predict(normalised(image[None], data), [key], (top, x))[0].float().cpu()
                if total is None:
                    total = part.new_zeros(len(part), *hits.shape)
                first, last = max(x, left), min(x + part.shape[2], right)
                total[:, : bottom - top, first - left : last - left] += part[:, :, first - x : last - x]
                hits[: bottom - top, first - left : last - left] += 1
            # No later window reaches above the next one's first row.
            finished = (rows[i + 1] if i + 1 < len(rows) else height) - top
            assert total is not None
            yield Block(top, left, (total[:, :finished] / hits[:finished]).numpy())
            total, hits = (
                torch.cat([t[..., finished:, :], torch.zeros_like(t[..., :finished, :])], -2) for t in (total, hits)
            )
