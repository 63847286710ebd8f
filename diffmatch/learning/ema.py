"""The exponential moving average of a network, buffers included.

torch's `AveragedModel` and timm's `ModelEmaV3` are not used: their momentum is fixed or counted by the model, where
these methods' depends on the step, and both rename the state, so that no run made before could be resumed.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from diffmatch.learning.batch import Progress

FIRST_EPOCH = 1 / 80
"""Share of the training that is one of AugSeg's and U2PL's epochs on PASCAL."""

M = TypeVar("M", bound=nn.Module)


def teacher_of(network: M) -> M:
    """A frozen copy in eval mode; `Method.train` leaves it there. It can be copied and pickled as any module.

    It knows its student, which is no part of it and not in its state.
    """
    teacher = copy.deepcopy(network).requires_grad_(False).eval()
    teacher.is_teacher = True  # type: ignore[assignment]
    vars(teacher)["student"] = network
    return teacher


def warmed(momentum: float, step: int) -> float:
    """min(1 - 1 / (step + 1), momentum): the plain mean of all students so far, until the momentum takes over."""
    return min(1 - 1 / (step + 1), momentum)


def warmed_after_an_epoch(momentum: float, progress: Progress) -> float:
    """`warmed`, but 0 in the first epoch, through which the teacher is the student (AugSeg's and U2PL's code)."""
    return 0.0 if progress.share < FIRST_EPOCH else warmed(momentum, progress.step)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float, buffers: bool = True) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student.

    Args:
        buffers: float buffers follow as the parameters do and integer buffers are copied; False leaves the teacher its
            own (`Labelling.buffers`).
    """
    olds, news = ((m.state_dict() if buffers else dict(m.named_parameters())) for m in (teacher, student))
    for old, new in zip(olds.values(), news.values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - momentum)
        else:
            old.copy_(new)
