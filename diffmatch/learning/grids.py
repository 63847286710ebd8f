"""Maps on another grid: labels and flags of an image at the positions of a network's map, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def nearest(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Labels, flags or values (N, H, W) at the nearest positions of another size (h, w), of the same type."""
    return F.interpolate(maps[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(maps.dtype)
