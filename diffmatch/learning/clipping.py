"""A limit on the gradient that one loss gives to its own parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def with_clipped_gradient(loss: Tensor, parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """A scalar of the loss's value whose gradient in the parameters is the loss's, scaled down to a norm of `limit`.

    The norm is that of all parameters together. Nothing else receives a gradient. Each process clips its own.

    Args:
        parameters: each of them takes part in the loss.
    """
    held = list(parameters)
    gradients = torch.autograd.grad(loss, held)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    scale = (limit / norm.clamp(min=1e-12)).clamp(max=1)
    products = [(parameter * gradient).sum() for parameter, gradient in zip(held, gradients, strict=True)]
    linear: Tensor = scale * torch.stack(products).sum()
    return loss.detach() + linear - linear.detach()
