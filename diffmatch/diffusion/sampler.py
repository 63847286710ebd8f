"""DDIM over (draws, batch), with noise that belongs to the item and not to the batch it happens to be in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffmatch.diffusion.codec import Codec
from diffmatch.diffusion.schedule import coefficients, timesteps
from diffmatch.shared.seeds import seed_of

BLOCK = 32

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(y_t of shape (R * B, channels, h, w), t of shape (R * B,)) -> class scores (R * B, C, h, w)."""

Adjust = Callable[[Tensor, float], Tensor]
"""(class scores (R * B, C, h, w) of one sampling step, its t) -> the scores that are encoded and returned."""


def item_noise(
    key: str, draw: int, shape: tuple[int, int, int], device: torch.device, offset: tuple[int, int] = (0, 0)
) -> Tensor:
    """Standard normal noise (channels, h, w) of one item.

    It is a window of an endless field that `key` and `draw` fix, made of 32 x 32 blocks: windows of a scene agree where
    they overlap, and the memory is that of the window.

    Args:
        offset: of the window's first row and column in the item's grid.
    """
    channels, height, width = shape
    if device.type == "meta":
        return torch.empty(shape, device=device)
    top, left = offset
    rows, cols = (
        range(top // BLOCK, (top + height - 1) // BLOCK + 1),
        range(left // BLOCK, (left + width - 1) // BLOCK + 1),
    )
    generator = torch.Generator(device)
    field = torch.cat(
        [
            torch.cat(
                [
                    torch.randn(
                        channels,
                        BLOCK,
                        BLOCK,
                        device=device,
                        generator=generator.manual_seed(seed_of(key, draw, row, col)),
                    )
                    for col in cols
                ],
                2,
            )
            for row in rows
        ],
        1,
    )
    y, x = top - rows[0] * BLOCK, left - cols[0] * BLOCK
    return field[:, y : y + height, x : x + width]


def batch_noise(
    keys: Sequence[str], draws: int, shape: tuple[int, int, int], device: torch.device, offset: tuple[int, int] = (0, 0)
) -> Tensor:
    """`item_noise` of every draw and key, (draws, batch, channels, h, w)."""
    return torch.stack(
        [torch.stack([item_noise(key, draw, shape, device, offset) for key in keys]) for draw in range(draws)]
    )


def ddim(
    denoise: Denoise,
    codec: Codec,
    noise: Tensor,
    steps: int,
    adjust: Adjust | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Reverse process (Algorithm 3 with DDIM's own coefficient, see the departures table).

    Args:
        denoise: f with the image already in it.
        codec: encodes the predicted mask.
        noise: y at t = 1, (draws, batch, channels, h, w).
        steps: S.
        adjust: applied to the scores of every step, with its t (the post-hoc adjustment, Eq. 7).
        on_step: called with the step's number and its scores (draws, batch, C, h, w).

    Returns:
        The last step's scores, (draws, batch, C, h, w).
    """
    draws, batch = noise.shape[:2]
    y = noise.flatten(0, 1).float()
    scores = y
    pairs = timesteps(steps)
    for k, (now, nxt) in enumerate(pairs):
        t = torch.full((draws * batch,), now, device=y.device)
        scores = denoise(y, t)
        if adjust is not None:
            scores = adjust(scores, now)
        if on_step is not None:
            on_step(k, scores.view(draws, batch, *scores.shape[1:]))
        if k + 1 == len(pairs):
            break
        y_0 = codec(scores.argmax(1)).float()
        cos_now, sin_now = coefficients(torch.tensor(now))
        cos_next, sin_next = coefficients(torch.tensor(nxt))
        eps = (y - float(cos_now) * y_0) / float(sin_now)
        y = float(cos_next) * y_0 + float(sin_next) * eps
    return scores.view(draws, batch, *scores.shape[1:])
