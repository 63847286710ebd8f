"""Class memories and a latent of each image, of which several draws make a prediction.

The golden numbers are those of the authors' head (Jianf-Wang/NP-SemiSeg, afd9672, np_head.py, NP_HEAD, lines 112-260)
with the same weights, centres and noise, and of their line for the divergence (AugSeg/train_semi.py, lines 431-438).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.grids import nearest
from diffmatch.methods.np_semiseg import divergence
from diffmatch.networks.neural_process import Latent, NeuralProcessHead


def losses(method: Any, batch: Any) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(0, 1))


# -- the head ----------------------------------------------------------------------------------------------------------


def wave(*shape: int, step: float, start: float = 0.0) -> Tensor:
    return (torch.arange(torch.Size(shape).numel()).float() * step + start).cos().view(shape)


def test_head_as_the_authors() -> None:
    """Scores, latents and gradients of a head with three channels, three classes and latents of two numbers."""
    head = NeuralProcessHead(3, 3, 2, 256)
    weights = [p for p in head.parameters() if p.ndim > 1]
    with torch.no_grad():
        for n, weight in enumerate(weights):
            weight.copy_(wave(*weight.shape, step=0.7, start=n) * (0.5 if weight.numel() < 5000 else 0.05))
    z = (torch.arange(72).float() * 0.37).sin().view(2, 3, 3, 4)
    context, target = torch.tensor([[0.0, 0], [1, -1], [0.5, 2]]), torch.tensor([[0.2, 0], [-1, 1], [2, 0.5]])
    noise = wave(2, 2, 2, step=0.9, start=0.3)
    scores, known, drawn = head(z, head.embed(z), context, target, noise)
    assert scores.sum().item() == pytest.approx(-15.36995, abs=2e-3)
    assert scores.norm().item() == pytest.approx(24.38415, abs=1e-3)
    assert scores[0, 0, :, 0, 0].tolist() == pytest.approx([-1.747390, 1.620897, -1.467261], abs=2e-4)
    assert scores[1, 1, :, 2, 3].tolist() == pytest.approx([-3.044122, 2.961769, -2.830282], abs=2e-4)
    close = {"atol": 1e-5, "rtol": 0.0}
    torch.testing.assert_close(drawn.mean, torch.tensor([[-0.012641, 0.060276], [-0.015221, 0.063504]]), **close)
    torch.testing.assert_close(drawn.sigma, torch.tensor([[0.738865, 0.702047], [0.740549, 0.701179]]), **close)
    torch.testing.assert_close(known.mean, torch.tensor([[-0.011147, 0.010823], [-0.012583, 0.012218]]), **close)
    torch.testing.assert_close(known.sigma, torch.tensor([[0.730529, 0.721234], [0.731395, 0.720899]]), **close)
    each = divergence(drawn, known)
    torch.testing.assert_close(each, torch.tensor([0.00190936, 0.00205848]), atol=1e-6, rtol=0)
    gradients = torch.autograd.grad(scores.mean(0).square().mean() + each.mean(), [weights[n] for n in (0, 3, 5)])
    assert [g.norm().item() for g in gradients] == pytest.approx([0.6716703, 0.8283104, 159.10062], rel=1e-3)


def test_pixels_attend_to_near_centres() -> None:
    """phi = 0 between the centres 0 and 1: weights .73106 and .26894; each number attends apart."""
    head, centres = NeuralProcessHead(4, 2, 2, 8), torch.tensor([[0.0, 5], [1, 5]])
    assert head.attended(torch.zeros(1, 2, 3, 3), centres)[0].tolist() == pytest.approx([0.26894, 5], abs=1e-5)
    phi = torch.randn(2, 2, 4, 4)
    plain = (-(phi[:, None] - centres[None, :, :, None, None]).square()).softmax(1)
    expected = (plain * centres[None, :, :, None, None]).sum(1).mean((2, 3))
    torch.testing.assert_close(head.attended(phi, centres), expected)


def test_sigma_is_at_least_a_tenth() -> None:
    head = NeuralProcessHead(4, 2, 2, 8)
    for raw, sigma in ((0.0, 0.72383), (-20.0, 0.1), (2.0, 2.01424)):
        with torch.no_grad():
            head.moments[-1].bias[2:] = raw
        assert head.latent(torch.zeros(1, 2)).sigma[0, 0].item() == pytest.approx(sigma, abs=1e-5)


def test_divergence_by_hand() -> None:
    context = Latent(torch.zeros(1, 2), torch.ones(1, 2))
    target = Latent(torch.tensor([[1.0, 0]]), torch.full((1, 2), 0.5))
    assert divergence(target, context).item() == pytest.approx(0.69315, abs=1e-5)
    assert divergence(context, context) == 0


# -- the method --------------------------------------------------------------------------------------------------------


def test_each_memory_holds_what_its_name_says(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context: labelled pixels by their truth. The target: those, and mixed ones by their pseudo-labels. A vector
    keeps its channels: the second number of a centre is the first and ten."""
    p = planned("np_semiseg", method__latent=2, method__bank=10_000)
    method, batch = p.build(), draw(p)
    row = torch.arange(32.0 * 16).view(1, 1, 32, 16)[:, :, ::2]

    def embed(z: Tensor) -> Tensor:
        return torch.cat([row, row + 10], 1).expand(len(z), -1, -1, -1) + 0 * z.mean()

    monkeypatch.setattr(method.network.head, "embed", embed)
    targets: list[Tensor] = []
    mixture = method.mixture
    monkeypatch.setattr(method, "mixture", lambda *a: (out := mixture(*a), targets.append(out[1]))[0])
    losses(method, batch)
    masks = nearest(batch.labelled.masks, (16, 16))
    both = torch.cat([masks, nearest(targets[0], (16, 16))])
    for bank, labels in ((method.context, masks), (method.target, both)):
        values = row[0, 0].expand(len(labels), -1, -1)
        for c in range(4):
            assert bank.filled[c] == (labels == c).sum()
            if bank.filled[c]:
                centre = values[labels == c].mean().item()
                assert bank.means[c].tolist() == pytest.approx([centre, centre + 10])
    assert (both != VOID).sum() == method.target.filled.sum() > method.context.filled.sum() > 0


def test_a_latent_makes_the_draws_differ_and_the_centres_count(planned: Any, draw: Any, fit: Any) -> None:
    """The T predictions of an image agree without noise; without a memory's centres they are others."""
    p = planned("np_semiseg")
    method = p.build()
    fit(method, [draw(p, 2, k) for k in range(2)])
    method.eval()
    images, keys = draw(p).pool.weak, ["a", "b"]
    with torch.no_grad():
        found = method.draws(images, keys)
        assert found.shape == (5, 2, 4, 32, 32) and len({round(float(x.norm()), 5) for x in found}) > 1
        assert torch.equal(method.probabilities(images, keys), found.mean(0))
        assert torch.equal(method.draws(images, ["c", "d"]), found)
        for bank in (method.context, method.target):
            centres = bank.keys.clone()
            bank.keys.zero_()
            assert not torch.equal(method.draws(images, keys), found)
            bank.keys.copy_(centres)
        method.noise.zero_()
        assert (method.draws(images, keys).std(0) == 0).all()


def test_the_student_draws_anew_at_every_step(planned: Any, draw: Any) -> None:
    p = planned("np_semiseg")
    method, batch = p.build().train(), draw(p)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    terms = []
    for seed in (0, 0, 1):
        method.load_state_dict(state)
        torch.manual_seed(seed)
        terms.append(method.losses(batch, Progress(0, 1)).terms["sup"].item())
    assert terms[0] == terms[1] != terms[2]


def test_phi_and_the_latent_do_not_train_the_extractor(planned: Any, draw: Any) -> None:
    p = planned("np_semiseg")
    method, batch = p.build(), draw(p)
    term = losses(method, batch).terms["divergence"]
    assert term > 0
    head = torch.autograd.grad(term, list(method.network.head.phi.parameters()), retain_graph=True)
    assert any(g.any() for g in head)
    extractor = torch.autograd.grad(term, list(method.network.extractor.parameters()), allow_unused=True)
    assert all(g is None for g in extractor)


def test_the_teacher_shares_the_memories_and_predicts(planned: Any, draw: Any, fit: Any) -> None:
    p = planned("np_semiseg")
    method, batch = p.build(), draw(p)
    fit(method, [batch])
    assert not any("keys" in name for name, _ in method.teacher.named_buffers())
    before = method.pseudo_labels(batch.pool.weak, batch.pool.keys).probabilities
    for q in method.network.parameters():
        q.data.add_(0.1)
    assert torch.equal(method.pseudo_labels(batch.pool.weak, batch.pool.keys).probabilities, before)
