"""Where the teacher is uncertain, nothing is learnt."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from diffmatch.learning.batch import Progress

KEYS = ["a", "b"]
SHARP = 1e4
"""An untrained U-Net in eval mode says next to nothing; this makes it say something."""


def images() -> torch.Tensor:
    return torch.randn(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_uncertain_pixels_have_no_consistency_gradient(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left half certain, right half not: gradient, loss and counts know the left half only."""
    p = planned("ua_mt", network__feature_dropout=0.0)
    method, batch = p.build().train(), draw(p)
    batch.pool.inside[:] = True
    uncertain = (torch.arange(32) >= 16).float().expand(2, 32, 32) * 10
    monkeypatch.setattr(method, "uncertainty", lambda *_: uncertain)
    seen: list[torch.Tensor] = []
    method.network.register_forward_hook(lambda *call: (call[2].retain_grad(), seen.append(call[2]))[0])
    losses = method.losses(batch, Progress(1, 1))
    losses.terms["unsup"].backward()
    gradient = seen[0].grad[2:]
    assert gradient[..., :16].abs().sum(1).gt(0).all() and not gradient[..., 16:].any()
    error = (
        (seen[0][2:].softmax(1) - method.pseudo_labels(batch.pool.weak, batch.pool.keys).probabilities).square().sum(1)
    )
    torch.testing.assert_close(losses.terms["unsup"], 0.1 * error[..., :16].mean())  # the mean is over certain pixels
    assert losses.given.sum() == 2 * 32 * 32 and losses.accepted.sum() == 2 * 32 * 16
    monkeypatch.setattr(method, "uncertainty", lambda *_: torch.full((2, 32, 32), 10.0))
    assert method.losses(batch, Progress(1, 1)).terms["unsup"] == 0


def test_uncertainty_is_the_entropy_of_the_mean_over_passes(planned: Any) -> None:
    quiet = planned("ua_mt", method__noise=0.0, method__dropout=0.0, method__passes=3).build().eval()
    with torch.no_grad():
        quiet.teacher.classifier.weight *= SHARP
        p = quiet.teacher(images()).softmax(1)
    torch.testing.assert_close(quiet.uncertainty(images(), KEYS), -(p * p.log()).sum(1), atol=1e-4, rtol=1e-4)
    single, many = (planned("ua_mt", method__passes=passes).build().eval() for passes in (1, 16))
    for method in (single, many):
        method.load_state_dict(quiet.state_dict())
    assert (
        many.uncertainty(images(), KEYS).mean() > single.uncertainty(images(), KEYS).mean()
    )  # passes that disagree raise it
    assert many.uncertainty(images(), KEYS).max() <= math.log(4) + 1e-5


@pytest.mark.parametrize("kept", [{"method__noise": 0.0}, {"method__dropout": 0.0}], ids=["dropout", "noise"])
def test_noise_belongs_to_the_item(kept: dict[str, float], planned: Any) -> None:
    method = planned("ua_mt", **kept).build().eval()
    with torch.no_grad():
        method.teacher.classifier.weight *= SHARP
    both = method.uncertainty(images(), KEYS)
    torch.manual_seed(1)
    assert torch.equal(both, method.uncertainty(images(), KEYS))
    torch.testing.assert_close(method.uncertainty(images()[1:], KEYS[1:]), both[1:], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(method.uncertainty(images(), ["c", "d"]), both, atol=1e-3, rtol=0)


def test_threshold_rises_from_three_quarters_of_ln_c_and_is_state(planned: Any, draw: Any) -> None:
    p = planned("ua_mt")
    method, batch = p.build().train(), draw(p)
    found = [method.losses(batch, Progress(step, 10)) and float(method.threshold) / math.log(4) for step in (0, 5, 10)]
    assert found == pytest.approx([0.75 + 0.25 * math.exp(-5), 0.75 + 0.25 * math.exp(-5 / 4), 1])
    assert float(method.state_dict()["threshold"]) == pytest.approx(math.log(4))


def test_pseudo_labels_are_accepted_where_certain(planned: Any) -> None:
    method = planned("ua_mt").build().eval()
    u = method.uncertainty(images(), KEYS)
    method.threshold.fill_(u.median())
    pseudo = method.pseudo_labels(images(), KEYS)
    assert torch.equal(pseudo.accepted, u < u.median()) and 0 < pseudo.accepted.sum() < u.numel()


def test_the_student_predicts(planned: Any) -> None:
    method = planned("ua_mt").build().eval()
    with torch.no_grad():
        before = method.probabilities(images(), KEYS)
        method.teacher.classifier.bias[0] += 5
        assert torch.equal(method.probabilities(images(), KEYS), before)
