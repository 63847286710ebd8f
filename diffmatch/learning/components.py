"""Connected components of label maps, without shapes that depend on the data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 16
"""After so many the names of a line that winds through 257 x 257 cells have settled."""


def components(flags: Tensor) -> Tensor:
    """The 8-connected component of each flagged cell (N, h, w), named by its largest index in the flattened map.

    Each round, a cell and the cell that it is named after take the largest name around them, and then the name of their
    name (Zhang et al. 2020, FastSV).

    Returns:
        (N, h, w) int64, -1 where nothing is flagged.
    """
    count, height, width = flags.shape
    cells = torch.arange(height * width, device=flags.device).expand(count, -1)
    outside = ~flags.flatten(1)
    names = cells
    for _ in range(ROUNDS):
        seen = names.masked_fill(outside, -1).float().view_as(flags)
        largest = F.max_pool2d(seen, 3, stride=1, padding=1).flatten(1).long()
        largest = torch.where(outside, cells, largest)
        names = names.scatter_reduce(1, names, largest, "amax").maximum(largest)
        names = names.gather(1, names)
    return names.masked_fill(outside, -1).view_as(flags)


def random_component(flags: Tensor, area: float) -> Tensor:
    """One component of each map (N, h, w) at random among those that cover more than `area` of it, as a mask.

    It is empty where there is none.
    """
    names = components(flags).flatten(1)
    cells = names.shape[1]
    index = torch.where(names < 0, cells, names)
    sizes = torch.zeros(len(names), cells + 1, dtype=torch.int64, device=names.device)
    sizes = sizes.scatter_add_(1, index, torch.ones_like(index))[:, :cells]
    lots = torch.where(sizes > area * cells, torch.rand(sizes.shape, device=sizes.device), -1.0).max(1, keepdim=True)
    return ((names == lots.indices) & (lots.values >= 0)).view_as(flags)


def bounding_box(mask: Tensor) -> Tensor:
    """The smallest rectangle around each mask (N, h, w), as a mask; empty around nothing."""
    rows, columns = between(mask.any(2)), between(mask.any(1))
    return rows[:, :, None] & columns[:, None, :]


def between(flags: Tensor) -> Tensor:
    """True from the first to the last true value of each row (N, L)."""
    return (flags.cumsum(1) > 0) & (flags.flip(1).cumsum(1).flip(1) > 0)
