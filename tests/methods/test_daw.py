"""UniMatch whose threshold and labels follow what the labelled pixels say of confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress

INDEX = torch.arange(32).view(2, 4, 4)


def wave(k: float) -> Tensor:
    """Scores (2, 3, 4, 4) that anyone can write down."""
    return (6 * torch.sin(k * torch.arange(96.0)).view(2, 3, 4, 4)).requires_grad_()


def built(**changes: Any) -> Any:
    kind = registry.method("daw")
    return toy_method(kind, toy_card(3), toy_settings(kind, train__loss="ce", **changes))


def golden_step() -> tuple[Any, Losses, list[Tensor]]:
    """The method, its losses where its network answers with waves, and those waves. Half of the pixels are right."""
    method = built(method__momentum=0.5)
    method.limit.means.copy_(torch.tensor([0.7, 0.4]))
    method.limit.variances.copy_(torch.tensor([0.01, 0.04]))
    method.alignment.confidence.copy_(torch.tensor([[0.9, 0.2, 0.7], [0.2, 0.9, 0.6]]))
    own, weak, pasted, first, second, features = (wave(k) for k in (1.0, 1.7, 3.1, 4.3, 5.9, 2.6))
    answers = iter([pasted / 3, torch.cat([first, second])])
    method.scores = lambda images, perturbed=None: next(answers)
    method.learn_both = lambda labelled, pool: (own, weak.detach() / 3, features)
    masks = torch.where(INDEX % 2 == 1, (own.argmax(1) + 1) % 3, own.argmax(1))
    masks = torch.where(INDEX % 7 == 0, VOID, masks).to(torch.uint8)
    boxes = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    boxes[0, :, 1:3, :2] = boxes[1, 0, :, 2:] = True
    images = torch.zeros(2, 1, 3, 4, 4)
    partner = Pool(images, (images,) * 2, INDEX % 4 != 0, boxes[1], ["c", "d"])
    pool = Pool(images, (images,) * 2, INDEX % 5 != 0, boxes[0], ["a", "b"], partner)
    losses = method.losses(Batch(Labelled(images, masks, ["x", "y"]), pool), Progress(0, 1))
    losses.total.backward()
    return method, losses, [own, first, second, features]


def test_a_step_is_the_authors() -> None:
    """Terms, total, gradient norms and state after lines 226-278 of daw.py (yuisuen/DAW d1d46443) on these waves.

    Seven of the labels change with the alignment, one of them where it is taught.
    """
    method, losses, waves = golden_step()
    terms = {"sup": 3.114411, "features": 0.5 * 3.375389, "unsup": 0.25 * (1.221660 + 0.847684)}
    assert {key: value.item() for key, value in losses.terms.items()} == pytest.approx(terms, abs=2e-6)
    assert losses.total.item() == pytest.approx(2.659721, abs=2e-6)
    norms = [0.093537, 0.020865, 0.017026, 0.047907]
    assert [float(wave.grad.norm()) for wave in waves] == pytest.approx(norms, abs=2e-6)
    assert (losses.accepted.sum(), losses.given.sum()) == (20, 25)
    assert float(method.limit.value) == pytest.approx(0.685101, abs=1e-5)
    torch.testing.assert_close(method.limit.means, torch.tensor([0.7911, 0.6552]), atol=1e-4, rtol=0)
    torch.testing.assert_close(method.limit.variances, torch.tensor([0.0112, 0.0296]), atol=1e-4, rtol=0)
    expected = torch.tensor([[0.8810, 0.5650, 0.7850], [0.4727, 0.8177, 0.6447]])
    torch.testing.assert_close(method.alignment.confidence, expected, atol=1e-4, rtol=0)


def test_the_threshold_is_that_of_the_same_step() -> None:
    """A threshold of 1 beforehand accepts nothing; what the batch says of confidence opens it before it is used."""
    kind = registry.method("daw")
    method = built(method__momentum=0.0, method__threshold=1.0).train()
    batch = toy_batch(kind, toy_card(3), method.settings)
    assert not method.pseudo_labels(batch.pool.weak, batch.pool.keys).accepted.any()
    losses = method.losses(batch, Progress(0, 1))
    assert method.limit.value < 1 and losses.accepted.sum() > 0
    assert method.limit.value >= 1 / 3


def test_labels_of_audits_change_no_statistics() -> None:
    """`pseudo_labels` uses the running statistics and leaves them as they are."""
    method, batch = built(method__momentum=0.5), toy_batch(registry.method("daw"), toy_card(3), toy_settings_of())
    method.train().losses(batch, Progress(0, 1))
    state = {key: value.clone() for key, value in method.state_dict().items() if key.startswith(("limit", "align"))}
    pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    assert all(torch.equal(method.state_dict()[key], value) for key, value in state.items()) and len(state) == 4
    assert torch.equal(pseudo.accepted, pseudo.probabilities.amax(1) >= method.limit.value)


def test_void_and_padding_have_no_say() -> None:
    """Neither statistic moves where there is nothing to learn from."""
    method, batch = built(), toy_batch(registry.method("daw"), toy_card(3), toy_settings_of())
    void = replace(batch.labelled, masks=torch.full_like(batch.labelled.masks, VOID))
    nothing = torch.zeros_like(batch.pool.inside)
    pool = replace(batch.pool, inside=nothing, partner=replace(batch.pool.partner, inside=nothing))
    state = {key: value.clone() for key, value in method.state_dict().items() if key.startswith(("limit", "align"))}
    method.train().losses(Batch(void, pool), Progress(0, 1))
    assert all(torch.equal(method.state_dict()[key], value) for key, value in state.items())


def test_it_works_without_a_partner_and_takes_no_limits() -> None:
    settings = toy_settings_of(data__cutmix=0.0)
    batch = toy_batch(registry.method("daw"), toy_card(3), settings)
    assert batch.pool.partner is None
    assert torch.isfinite(built(data__cutmix=0.0).train().losses(batch, Progress(0, 1)).total)
    with pytest.raises(Exception, match="limits"):
        toy_settings_of(method__limits="class")


def toy_settings_of(**changes: Any) -> Any:
    return toy_settings(registry.method("daw"), **changes)
