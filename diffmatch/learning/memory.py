"""A memory bank of vectors per class. No shape depends on the data, so that nothing waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.domain import InputError
from diffmatch.shared.machine import memory


class MemoryBank(nn.Module):
    """The newest `size` vectors of each class, a ring per class. They are buffers: they travel in the checkpoint.

    With several processes the first one's vectors are kept, as DistributedDataParallel hands its buffers to the others.

    Args:
        setting: what sets `size`, for the message.

    Raises:
        InputError: the machine has less memory than the bank takes.
    """

    keys: Tensor
    cursor: Tensor
    filled: Tensor

    def __init__(self, classes: int, size: int, dim: int, setting: str = "method.bank") -> None:
        super().__init__()
        wanted, left = 4 * classes * size * dim, memory()
        if wanted > left and torch.get_default_device().type != "meta":
            raise InputError(
                f"{setting}={size}: a bank of {classes} classes x {size} vectors x {dim} numbers takes "
                f"{wanted / 2**30:.1f} GiB, and {left / 2**30:.1f} GiB of memory are left; set {setting} to at most "
                f"{left // (8 * classes * dim)}"
            )
        self.register_buffer("keys", torch.zeros(classes, size, dim))
        self.register_buffer("cursor", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("filled", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, vectors: Tensor, members: Tensor, most: int | None = None) -> None:
        """Write vectors (N, R, h, w) where members (N, C, h, w), over the oldest; of more than fit, a random choice.

        Args:
            most: as many of a class are written at most; None: as many as the bank holds.
        """
        size = self.keys.shape[1]
        drawn, valid = draw(vectors, members, size if most is None else min(most, size))
        slots = ((self.cursor[:, None] + torch.arange(drawn.shape[1], device=drawn.device)) % size)[
            ..., None
        ].expand_as(drawn)
        self.keys.scatter_(1, slots, torch.where(valid[..., None], drawn, self.keys.gather(1, slots)))
        self.cursor.copy_((self.cursor + valid.sum(1)) % size)
        self.filled.copy_((self.filled + valid.sum(1)).clamp(max=size))

    @property
    def means(self) -> Tensor:
        """The mean vector of each class, (C, R); 0 for an empty class."""
        return self.keys.sum(1) / self.filled.clamp(min=1)[:, None]

    def similarities(self, queries: Tensor, count: int) -> Tensor:
        """Inner products of queries (C, M, R) with `count` random vectors of their class each: (C, M, count).

        They are 0 for an empty class.
        """
        chosen = torch.rand(*queries.shape[:2], count, device=queries.device) * self.filled[:, None, None]
        return (queries @ self.keys.transpose(1, 2)).gather(2, chosen.long())


def draw(vectors: Tensor, members: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Up to `count` random vectors of each class without replacement, the valid ones first.

    Args:
        vectors: (N, R, h, w).
        members: (N, C, h, w) bool, which positions belong to which classes.

    Returns:
        (C, count, R) and its validity (C, count); count is at most N h w.
    """
    flat = members.movedim(1, 0).flatten(1)
    best = torch.where(flat, torch.rand(flat.shape, device=flat.device), -1.0).topk(min(count, flat.shape[1]), dim=1)
    drawn: Tensor = vectors.movedim(1, -1).flatten(0, 2)[best.indices]
    return drawn, best.values >= 0
