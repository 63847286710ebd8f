"""What self-training in rounds shares: the round that a step belongs to, and the lot that keeps a pseudo-label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffmatch.learning.batch import Progress
from diffmatch.shared.seeds import seed_of


def place(progress: Progress, rounds: int) -> tuple[int, int]:
    """The round 0, 1, ... that the step belongs to, of `rounds` equal parts of the training, and its first step.

    The step alone decides, so that a resumed run does the same.
    """
    steps = max(progress.steps, 1)
    now = progress.step * rounds // steps
    return now, -(-now * steps // rounds)


def lots(name: str, keys: Sequence[str], pixels: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of `pixels`' shape (N, H, W), on its device and the same on every machine.

    Args:
        name: of the method, so that two methods draw different lots.
        keys: one per image, which alone decides its lots.
    """
    drawn = [torch.rand(*pixels.shape[1:], generator=torch.Generator().manual_seed(seed_of(name, key))) for key in keys]
    return torch.stack(drawn).to(pixels.device)
