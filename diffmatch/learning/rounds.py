"""What self-training in rounds shares: the step that begins a round, and the lot that keeps a pseudo-label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffmatch.learning.batch import Progress
from diffmatch.shared.seeds import seed_of


def begun(progress: Progress, rounds: int) -> int:
    """The round 1, 2, ... that this step begins, of `rounds` equal parts of the training; 0 if it begins none.

    Round 0 begins with the training and is not reported. The step alone decides, so that a resumed run does the same.
    """
    now, before = (step * rounds // max(progress.steps, 1) for step in (progress.step, progress.step - 1))
    return now if now > max(before, 0) else 0


def lots(name: str, keys: Sequence[str], pixels: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of `pixels`' shape (N, H, W), on its device and the same on every machine.

    Args:
        name: of the method, so that two methods draw different lots.
        keys: one per image, which alone decides its lots.
    """
    drawn = [torch.rand(*pixels.shape[1:], generator=torch.Generator().manual_seed(seed_of(name, key))) for key in keys]
    return torch.stack(drawn).to(pixels.device)
