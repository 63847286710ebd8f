"""Every installed method on the U-Net of the medical field, whose z has a width and a stride of its own."""

from __future__ import annotations

import pytest
import torch

from diffmatch import plugins
from diffmatch.conformance.method import TOY, toy_batch, toy_card, toy_method, toy_optimizer
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.settings import resolve

FIELD = TOY | {"network.decoder": "unet_bilinear", "network.encoder": "unet4", "network.dim": 16, "network.stride": 2}


@pytest.mark.parametrize("name", plugins.names(plugins.METHODS))
def test_it_learns_and_predicts(name: str) -> None:
    kind, card = registry.method(name), toy_card()
    settings = resolve(kind.Options, FIELD)
    torch.manual_seed(0)
    method = toy_method(kind, card, settings).train()
    descent = toy_optimizer(method, 0.01, torch.optim.SGD)
    for step in range(3):
        batch = toy_batch(kind, card, settings, 2, step)
        losses = method.losses(batch, Progress(step, 3))
        descent.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        descent.step()
        method.after_step(Progress(step, 3))
    assert torch.isfinite(losses.total) and losses.total.requires_grad
    method.eval()
    images = batch.labelled.images
    with torch.no_grad():
        found = method.probabilities(images, ["a", "b"])
    assert found.shape == (2, len(card.classes), *images.shape[-2:]) and torch.isfinite(found).all()
