"""Whose pseudo-labels a method learns from, and how the network that gives them runs.

The mode is part of a method: with labels of another mode `cps` had half of its mean IoU (docs/trials.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

from torch import nn

Mode = Literal["train", "eval"]


class Labelling(NamedTuple):
    """Where a method's pseudo-labels come from in training, as its authors have it.

    Audits and evaluations ask `Method.pseudo_labels`, which is in eval mode whatever stands here.

    Attributes:
        by: the network that gives them. "student" is the network that learns, "teacher" an average of it or an earlier
            state, "other student" a second network that learns.
        mode: in "train" mode BatchNorm takes the statistics of the batch and follows them, and dropout is active; a
            student then labels in the pass that learns, so that its BatchNorm also sees clean weak views.
        buffers: BatchNorm's running statistics of a teacher: "averaged" with its parameters, or "own" from its own
            passes in train mode.
    """

    by: Literal["nobody", "student", "teacher", "other student"] = "nobody"
    mode: Mode = "eval"
    buffers: Literal["averaged", "own"] = "averaged"


class in_mode(AbstractContextManager[None]):  # noqa: N801 - reads as a phrase
    """The mode inside, the modules' own modes back afterwards."""

    def __init__(self, module: nn.Module, mode: Mode) -> None:
        self.modes = [(m, m.training) for m in module.modules()]
        self.wanted = mode == "train"

    def __enter__(self) -> None:
        for module, _ in self.modes:
            module.training = self.wanted

    def __exit__(self, *error: object) -> None:
        for module, mode in self.modes:
            module.training = mode
