"""UniMatch with a third consistency: how pixels rank the landmarks of their image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_settings
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.pseudo_labels import confident
from diffmatch.networks.recording import recorded

INDEX = torch.arange(32).view(2, 4, 4)


def built(**changes: Any) -> Any:
    kind = registry.method("rankmatch")
    return toy_method(kind, toy_card(3), toy_settings(kind, train__loss="ce", **changes))


def batch_of(method: Any, count: int = 2) -> Batch:
    return toy_batch(registry.method("rankmatch"), toy_card(3), method.settings, count)


def wave(k: float) -> Tensor:
    """Scores (2, 3, 4, 4) that anyone can write down."""
    return (6 * torch.sin(k * torch.arange(96.0)).view(2, 3, 4, 4)).requires_grad_()


def coarse(k: float, count: int) -> Tensor:
    """Coarse maps (count, 5, 4, 4)."""
    return torch.sin(k * torch.arange(count * 80.0)).view(count, 5, 4, 4)


def golden_step() -> tuple[Losses, list[Tensor]]:
    """The losses where the network answers with waves and its coarse map is a wave, and those waves."""
    method = built(method__threshold=0.8)
    own, weak, pasted, first, second, features = (wave(k) for k in (1.0, 1.7, 3.1, 4.3, 5.9, 2.6))
    maps = (coarse(1.1, 4) + 0.5 * coarse(3.7, 4)).requires_grad_()
    deepest = method.network.extractor.decoder.coarse

    def label(images: Tensor, keys: Any, inside: Tensor) -> Any:
        deepest(coarse(2.3, 2))
        return confident(pasted.softmax(1).detach(), 0.8)

    def learn(labelled: Labelled, pool: Pool) -> tuple[Tensor, Tensor, Tensor]:
        deepest(torch.cat([torch.ones(2, 5, 4, 4), coarse(1.1, 2), torch.ones(4, 5, 4, 4)]))
        return own, weak.detach(), features

    def score(images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        deepest(maps)
        return torch.cat([first, second])

    method.pseudo_labels, method.learn_both, method.scores = label, learn, score
    boxes = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    boxes[0, :, 1:3, :2] = boxes[1, 0, :, 2:] = True
    images, inside = torch.zeros(2, 1, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    partner = Pool(images, (images,) * 2, inside, boxes[1], ["c", "d"])
    pool = Pool(images, (images,) * 2, inside, boxes[0], ["a", "b"], partner)
    losses = method.losses(Batch(Labelled(images, (INDEX % 3).to(torch.uint8), ["x", "y"]), pool), Progress(0, 1))
    losses.total.backward()
    return losses, [own, first, second, features, maps]


def test_a_step_is_the_authors() -> None:
    """Terms, total and gradient norms of lines 297-371 of rankmatch.py (mai556/RankMatch 30932595) on these waves; with
    16 positions all of them are landmarks. The factor 1/2 is not on the rank term."""
    losses, waves = golden_step()
    terms = {
        "sup": 4.592934,
        "features": 0.5 * 4.118546,
        "unsup": 0.25 * (1.500061 + 0.893428),
        "rank": 2 * 0.1 * (0.041456 + 0.063315) / 2,
    }
    assert {key: value.item() for key, value in losses.terms.items()} == pytest.approx(terms, abs=2e-6)
    assert losses.total.item() == pytest.approx(3.630528, abs=2e-6)
    norms = [0.096024, 0.020672, 0.016201, 0.044939, 0.001896]
    assert [float(wave.grad.norm()) for wave in waves] == pytest.approx(norms, abs=2e-6)


def test_the_network_learns_from_ranks_alone() -> None:
    """With nothing else in the loss the encoder has a gradient, by the strong views' pass; the weak maps have none."""
    method = built()
    method.train()
    torch.manual_seed(0)
    found = method.losses(batch_of(method), Progress(0, 1))
    assert found.terms["rank"] > 0
    gradients = torch.autograd.grad(found.terms["rank"], list(method.network.extractor.encoder.parameters()))
    assert any(gradient.any() for gradient in gradients)


def test_equal_views_agree() -> None:
    """Labelled images and strong views that are the weak ones: BatchNorm sees them alike, and there is no rank loss."""
    method = built(network__feature_dropout=0.0).train()
    batch, weak = batch_of(method), batch_of(method).pool.weak
    same = replace(batch.pool, strong=(weak, weak), boxes=torch.zeros_like(batch.pool.boxes))
    same = replace(same, partner=replace(same.partner, boxes=same.boxes))
    equal = Batch(replace(batch.labelled, images=weak), same)
    assert method.losses(equal, Progress(0, 1)).terms["rank"].abs() < 1e-7
    assert method.losses(batch, Progress(0, 1)).terms["rank"] > 1e-6


def test_maps_are_cut_as_the_views_are() -> None:
    """Inside a box the weak map is the partner's: with strong maps cut alike the ranks agree, else they do not."""
    method, pool = built(), batch_of(built()).pool
    weak, pasted = coarse(1.1, 2), coarse(2.3, 2)
    boxes = torch.zeros(2, 32, 32, dtype=torch.bool)
    boxes[:, :16] = True
    everywhere = torch.ones_like(pool.inside)
    pool = replace(pool, boxes=boxes, inside=everywhere, partner=replace(pool.partner, boxes=~boxes, inside=everywhere))
    halves = [torch.cat([a[:, :, :2], b[:, :, 2:]], 2) for a, b in ((pasted, weak), (weak, pasted))]
    assert method.rank_loss(weak, torch.cat(halves), pool, pasted).abs() < 1e-7
    assert method.rank_loss(weak, torch.cat(halves[::-1]), pool, pasted) > 1e-4
    alone = replace(pool, partner=None)
    rolled = torch.cat([weak.roll(-1, 0)[:, :, :2], weak[:, :, 2:]], 2)
    assert method.rank_loss(weak, torch.cat([rolled, rolled]), alone, None).abs() < 1e-7


@pytest.mark.parametrize(("decoder", "stride", "grid"), [("deeplabv3plus", 4, 16), ("pspnet", 8, 8), ("unet", 4, 32)])
def test_every_decoder_has_a_coarse_map(decoder: str, stride: int, grid: int) -> None:
    method = built(network__decoder=decoder, network__encoder="resnet10t", network__stride=stride)
    method.train()
    with recorded(method.network.extractor.decoder.coarse) as seen:
        found = method.losses(batch_of(method, 1), Progress(0, 1))
    assert torch.isfinite(found.total) and {32 // max(m.shape[-1], 1) for m in seen[1::2]} == {grid}


def test_without_a_partner_the_next_image_is_pasted() -> None:
    method = built(data__cutmix=0.0)
    batch = batch_of(method)
    assert batch.pool.partner is None
    assert torch.isfinite(method.train().losses(batch, Progress(0, 1)).total)
