"""FixMatch's and UniMatch's terms against their authors' loss lines, and what FixMatch is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.method import Method
from diffmatch.learning.pseudo_labels import confident

INDEX = torch.arange(32).view(2, 4, 4)


def wave(k: float) -> Tensor:
    """Scores (2, 3, 4, 4) that anyone can write down."""
    return (6 * torch.sin(k * torch.arange(96.0)).view(2, 3, 4, 4)).requires_grad_()


def step(name: str, medical: bool) -> tuple[Losses, list[Tensor]]:
    """The method's losses where its network answers with waves, and those waves."""
    kind = registry.method(name)
    settings = toy_settings(kind, method__threshold=0.8, train__loss="ce_dice" if medical else "ce")
    method: Any = toy_method(kind, toy_card(3), settings)
    own, weak, pasted, first, second, features = (wave(k) for k in (1.0, 1.7, 3.1, 4.3, 5.9, 2.6))
    strong = (first, second)[: kind.views.strong]
    method.pseudo_labels = lambda images, keys, inside: confident(pasted.softmax(1).detach(), 0.8)
    method.learn = lambda labelled, pool: (own, weak.detach())
    method.learn_both = lambda labelled, pool: (own, weak.detach(), features)
    method.scores = lambda images, perturbed=None: torch.cat(strong)
    masks, inside, others = INDEX % 3, torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(2, 4, 4, dtype=torch.bool)
    if not medical:
        masks, inside, others = torch.where(INDEX % 7 == 0, VOID, masks), INDEX % 5 != 0, INDEX % 4 != 0
    boxes = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    boxes[0, :, 1:3, :2] = boxes[1, 0, :, 2:] = True
    images = torch.zeros(2, 1, 3, 4, 4)
    partner = Pool(images, (images,) * len(strong), others, boxes[1], ["c", "d"])
    pool = Pool(images, (images,) * len(strong), inside, boxes[0], ["a", "b"], partner)
    losses = method.losses(Batch(Labelled(images, masks.to(torch.uint8), ["x", "y"]), pool), Progress(0, 1))
    losses.total.backward()
    return losses, [own, *strong, features]


GOLDEN: dict[tuple[str, bool], tuple[dict[str, float], float, list[float]]] = {
    ("fixmatch", False): ({"sup": 4.871829, "unsup": 1.53547}, 3.203649, [0.106945, 0.096709]),
    ("fixmatch", True): ({"sup": 2.621828, "unsup": 0.617388}, 1.619608, [0.051806, 0.026344]),
    ("unimatch", False): (
        {"sup": 4.871829, "features": 0.5 * 4.261039, "unsup": 0.25 * (1.53547 + 0.975305)},
        3.815021,
        [0.106945, 0.024177, 0.018346, 0.051535],
    ),
    ("unimatch", True): (
        {"sup": 2.621828, "features": 0.5 * 0.650114, "unsup": 0.25 * (0.617388 + 0.525974)},
        1.616363,
        [0.051806, 0.006586, 0.009805, 0.00583],
    ),
}
"""Terms as they are weighted in the sum, the total, and the norms of its gradients in the order of `step`.

Made by the authors' lines on these waves (LiheYoung/UniMatch 0324f3d: fixmatch.py 134-164, unimatch.py 139-191; for
medicine more-scenarios/medical/unimatch.py 144-171 and DiceLoss of util/utils.py 14-50; FixMatch there is UniMatch's
first strong view with weight 1).
"""


@pytest.mark.parametrize(("name", "medical"), GOLDEN)
def test_terms_and_gradients_are_the_authors(name: str, medical: bool) -> None:
    terms, total, norms = GOLDEN[name, medical]
    losses, waves = step(name, medical)
    assert {key: value.item() for key, value in losses.terms.items()} == pytest.approx(terms, abs=2e-6)
    assert losses.total.item() == pytest.approx(total, abs=2e-6)
    found = [0.0 if wave.grad is None else float(wave.grad.norm()) for wave in waves]
    assert found[: len(norms)] == pytest.approx(norms, abs=2e-6)


def test_the_strong_view_keeps_its_features_and_passes_alone() -> None:
    """Three passes: the pasted images in eval mode, labelled and weak ones together, the strong ones; nothing is
    dropped."""
    kind = registry.method("fixmatch")
    card, settings = toy_card(), toy_settings(kind)
    method, batch = toy_method(kind, card).train(), toy_batch(kind, card, settings)
    calls: list[tuple[bool, int, Any]] = []
    forward = method.network.forward

    def spy(images: Tensor, perturbed: Tensor | None = None) -> Any:
        calls.append((method.network.training, len(images), perturbed))
        return forward(images, perturbed)

    method.network.forward = spy  # type: ignore[method-assign]
    method.losses(batch, Progress(0, 1))
    assert calls == [(False, 2, None), (True, 4, None), (True, 2, None)]


def test_batchnorm_sees_the_clean_weak_view() -> None:
    """Other weak views give other statistics in the labelled pass, and so another labelled loss."""
    kind = registry.method("fixmatch")
    card, settings = toy_card(), toy_settings(kind)
    batch = toy_batch(kind, card, settings)
    found = [float(supervised(toy_method(kind, card).train(), batch, scale)) for scale in (1.0, 3.0)]
    assert found[0] != found[1]


def supervised(method: Method[Any], batch: Batch, scale: float) -> Tensor:
    pool = batch.unlabelled
    changed = Pool(scale * pool.weak, pool.strong, pool.inside, pool.boxes, pool.keys, pool.partner)
    torch.manual_seed(0)
    return method.losses(Batch(batch.labelled, changed), Progress(0, 1)).terms["sup"].detach()
