"""Copy-Paste: pixels of chosen classes of one labelled image in another one, with their labels (Ghiasi et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmatch.domain import VOID


def rescaled(images: Tensor, masks: Tensor, smallest: float, largest: float) -> tuple[Tensor, Tensor]:
    """Images (N, dates, channels, H, W) and masks (N, H, W) at random sizes, as the crop of the old size sees them.

    Half of the images shrink, by a factor from [smallest, 1], and lie in the centre; the others grow, by a factor from
    [1, largest], and a random window is seen. The mask is void around a small image.
    """
    count, device = len(images), images.device
    shrink, place = torch.rand(count, device=device) < 0.5, torch.rand(2, count, device=device)
    factor = torch.rand(count, device=device)
    scale = torch.where(shrink, smallest + (1 - smallest) * factor, 1 + (largest - 1) * factor)
    offset = (1 - 1 / scale).clamp(min=0) * (2 * place - 1)
    zero = torch.zeros_like(scale)
    rows = torch.stack([1 / scale, zero, offset[0], zero, 1 / scale, offset[1]], 1).view(count, 2, 3)
    grid = F.affine_grid(rows, [count, 1, *masks.shape[1:]], align_corners=False)
    flat = F.grid_sample(images.flatten(1, 2).float(), grid, align_corners=False)
    labels = F.grid_sample(masks[:, None].float() + 1, grid, mode="nearest", align_corners=False)[:, 0].long() - 1
    return flat.view_as(images), torch.where(labels < 0, VOID, labels).to(masks.dtype)


def paste(images: Tensor, masks: Tensor, other: Tensor, theirs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Images and masks with the other images' pixels of some classes on them, and with their labels.

    Args:
        images, other: (N, dates, channels, H, W).
        masks, theirs: (N, H, W) uint8, 255 is never pasted.
        classes: (N, C) bool, the classes that each image receives.
    """
    index = torch.where(theirs == VOID, classes.shape[1], theirs.long())
    flags = F.pad(classes, (0, 1)).gather(1, index.flatten(1)).view_as(theirs)
    return torch.where(flags[:, None, None], other, images), torch.where(flags, theirs, masks)
