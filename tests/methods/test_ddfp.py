"""Features are pushed to where the flow finds fewer of them, and the second norms are theirs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Progress
from diffmatch.learning.losses import pseudo_loss
from diffmatch.learning.pseudo_labels import cutmix
from diffmatch.networks.flow import Flow

WARM_UP, UNPUSHED, PUSHED = Progress(0, 80), Progress(1, 80), Progress(2, 80)


def built(classes: int = 4, **changes: Any) -> Any:
    kind = registry.method("ddfp")
    return toy_method(kind, toy_card(classes), toy_settings(kind, train__loss="ce", **changes)).train()


def batch_of(method: Any, count: int = 2) -> Batch:
    return toy_batch(registry.method("ddfp"), toy_card(len(method.card.classes)), method.settings, count)


def step(method: Any, progress: Progress, batch: Batch | None = None) -> Any:
    torch.manual_seed(0)
    return method.losses(batch or batch_of(method), progress)


def waves(*shape: int, rate: float, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return (scale * torch.sin(torch.arange(torch.Size(shape).numel()).float() * rate + shift)).view(shape)


# -- the push ----------------------------------------------------------------------------------------------------------


def test_the_push_is_the_authors(golden_flow: Flow) -> None:
    """attack of Gavinwxy/DDFP 7956c726 (model/model/attack.py 29-72) through a convolution and two couplings; theirs
    has length 4. Positions that no confident one sees are not pushed."""
    method = built()
    convolution = nn.Conv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        for k, parameter in enumerate(convolution.parameters()):
            parameter.copy_(waves(*parameter.shape, rate=1.9, scale=0.3, shift=k))
    method.flow, method.network.last_block = golden_flow, lambda v: convolution(v)
    accepted = torch.ones(2, 3, 4, dtype=torch.bool)
    accepted[0, :, :2] = accepted[1, 0] = False
    push = 4 * method.direction(waves(2, 4, 3, 4, rate=1.1), accepted)
    expected = torch.tensor([-1.27590847, -2.54579926, 2.18122363, 1.77009273])
    torch.testing.assert_close(push[0, :, 1, 1], expected, atol=1e-4, rtol=1e-4)
    expected = torch.tensor([-2.03726268, 1.99764276, 1.32686007, -2.46949935])
    torch.testing.assert_close(push[1, :, 2, 3], expected, atol=1e-4, rtol=1e-4)
    lengths = push.norm(dim=1)
    assert not lengths[0, :, 0].any() and torch.allclose(lengths[1], torch.tensor(4.0))


def test_the_push_by_hand() -> None:
    """The same function with F the identity and means (+-1, 0): away from the nearer mean, and nowhere from between."""
    method = built()
    method.flow, method.network.last_block = Flow(2, 2), lambda v: v
    method.flow.couplings, method.flow.orders = nn.ModuleList(), torch.zeros(0, 2)
    with torch.no_grad():
        method.flow.means.copy_(torch.tensor([[1.0, 0], [-1, 0]]))
    place, everywhere = torch.tensor([0.5, 1.0]).view(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    pushed = place + 4 * method.direction(place, everywhere)
    torch.testing.assert_close(pushed.flatten(), torch.tensor([0.651423, 4.997133]), atol=1e-5, rtol=0)
    torch.testing.assert_close(method.flow.log_density(place.view(1, 2)), torch.tensor([-2.842762]))
    assert not method.direction(torch.zeros(1, 2, 1, 1), everywhere).any()


def test_pushed_features_are_rarer() -> None:
    """Under the flow, after it has learnt a little. A random direction of that length, or the other way, is not."""
    method = built()
    with torch.no_grad():
        _, v, features = method.network.opened(batch_of(method).pool.weak)
    descent = torch.optim.Adam(method.flow.parameters(), 0.01)
    for _ in range(40):
        descent.zero_grad()
        method.flow_loss(features, torch.zeros(0, 16, 16), torch.ones(2, 16, 16, dtype=torch.bool)).backward()
        descent.step()
    everywhere = torch.ones(len(v), *v.shape[2:], dtype=torch.bool)
    along = method.direction(v, everywhere)
    assert not along.requires_grad
    random = F.normalize(torch.randn_like(v), dim=1)

    @torch.no_grad()
    def density(entering: Tensor) -> float:
        z = method.network.last_block(entering).movedim(1, -1).flatten(0, 2)
        return float(method.flow.log_density(z).mean())

    start = density(v)
    down, up, anywhere = (density(v + 0.5 * way) for way in (along, -along, random))
    assert down < anywhere and down < start < up


# -- the flow ----------------------------------------------------------------------------------------------------------


def test_what_the_flow_learns_is_the_authors(golden_flow: Flow) -> None:
    """FlowLoss with FastGMM of Gavinwxy/DDFP 7956c726 (model/flow/loss.py 26-37, distributions.py 38-58): three
    labelled features under the Gaussian of their class, two unlabelled ones under the mixture; padding is left out."""
    method = built(3, method__flow_noise=0.0)
    method.flow = golden_flow
    features = waves(5, 6, rate=0.9, scale=1.5, shift=0.2)
    maps = torch.cat([features, torch.full((1, 6), 1e3)]).view(2, 1, 3, 6).movedim(-1, 1)
    valid = torch.ones(2, 1, 3, dtype=torch.bool)
    valid[1, 0, 2] = False
    loss = method.flow_loss(maps, torch.tensor([[[0, 1, 2]]], dtype=torch.uint8), valid)
    torch.testing.assert_close(loss, torch.tensor(14.7365932))
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in method.flow.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(17.9664745), rtol=1e-4, atol=0)
    method = built(3, method__flow_noise=0.0, method__flow_clip=5.0)
    method.flow = golden_flow
    method.zero_grad()
    method.flow_loss(maps, torch.tensor([[[0, 1, 2]]], dtype=torch.uint8), valid).backward()
    norm = torch.stack([p.grad.norm() for p in method.flow.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(5.0), rtol=1e-4, atol=0)


def test_the_flow_and_the_network_learn_apart() -> None:
    """Each has gradients from its own loss alone; the flow has a group of its own, at its own rate."""
    method = built(method__threshold=0.0, train__head_lr_scale=10.0)
    found = step(method, PUSHED)
    found.terms["flow"].backward(retain_graph=True)
    assert all(p.grad is None for p in method.network.parameters()) and method.flow.means.grad.any()
    method.zero_grad()
    sum(found.terms[name] for name in ("sup", "unsup", "descending")).backward()
    assert all(p.grad is None for p in method.flow.parameters())
    assert all(p.grad is not None for p in method.network.parameters())
    *_, last = method.parameter_groups()
    assert {id(p) for p in last["params"]} == {id(p) for p in method.flow.parameters()}
    assert last["lr_scale"] * method.settings.train.lr == pytest.approx(1e-3)


# -- the steps ---------------------------------------------------------------------------------------------------------


def test_terms_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """L_sup alone; then the strong view through the second norms with weight 1; then both with 1/2, one of them pushed
    by 4. Means are over confident pixels. The teacher's labels are of train mode."""
    method = built(method__threshold=0.4)
    batch, entered, answered = batch_of(method), [], []
    scores_of, opened = method.network.scores_of, method.network.opened
    monkeypatch.setattr(
        method.network,
        "scores_of",
        lambda v, size: (entered.append(v), answered.append(scores_of(v, size)), answered[-1])[-1],
    )
    monkeypatch.setattr(method.network, "opened", lambda images: (answered.append(opened(images)), answered[-1])[-1])
    teacher = copy.deepcopy(method.teacher).train()
    with torch.no_grad():
        taught = teacher(torch.cat([batch.labelled.images, batch.pool.weak]))[2:].softmax(1)
    confidence, labels = taught.max(1)
    accepted = cutmix((confidence >= 0.4) & batch.pool.inside, batch.pool.boxes)
    target = torch.where(accepted, cutmix(labels, batch.pool.boxes), VOID)
    assert 0 < accepted.float().mean() < 1
    for progress, strong, descending, push in ((WARM_UP, 0, 0, 0), (UNPUSHED, 0, 1, 0), (PUSHED, 0.5, 0.5, 4)):
        del entered[:], answered[:]
        method.teacher.load_state_dict(method.network.state_dict())
        terms = step(method, progress, batch).terms
        (scores, v, _), second = answered
        lengths = (entered[0] - v[2:]).norm(dim=1)
        assert (lengths.max() < 1e-6) if push == 0 else torch.allclose(lengths[lengths > 1e-3], torch.tensor(4.0))
        for name, weight, view in (("unsup", strong, scores[2:]), ("descending", descending, second)):
            torch.testing.assert_close(terms[name], weight * pseudo_loss("ce", view, target, accepted))
        assert (terms["flow"] != 0) == (progress is not WARM_UP) and terms["sup"] > 0


def test_pushed_features_leave_the_main_norms_alone() -> None:
    """Whatever the push, main statistics are the same; the second ones differ, and differ from the main ones."""
    states = []
    for length in (0.0, 50.0):
        method = built(method__threshold=0.0, method__length=length)
        step(method, PUSHED)
        states.append({name: value.clone() for name, value in method.network.named_buffers()})
    second = {name for name in states[0] if name.startswith("auxiliary")}
    assert len(second) == 6
    assert all(
        torch.equal(states[0][name], states[1][name]) == (name not in second) for name in states[0] if "running" in name
    )


def test_the_teacher_has_statistics_of_its_own() -> None:
    """Its parameters are the student's through the warm-up and one step more, then an average; buffers never follow."""
    method = built(method__ema=0.9)
    before = {name: value.clone() for name, value in method.teacher.named_buffers() if "running" in name}
    modes = [module.training for module in method.teacher.modules()]
    step(method, PUSHED)
    after = {name: value.clone() for name, value in method.teacher.named_buffers() if "running" in name}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert modes == [module.training for module in method.teacher.modules()] and not any(modes)
    weight, shadow = method.network.classifier.weight, method.teacher.classifier.weight
    for at, momentum in ((0, 0.0), (1, 0.0), (2, 0.5), (3, 2 / 3), (60, 0.9)):
        with torch.no_grad():
            weight.add_(1.0)
        expected = momentum * shadow + (1 - momentum) * weight
        method.after_step(Progress(at, 80))
        torch.testing.assert_close(shadow, expected)
    assert all(torch.equal(value, after[name]) for name, value in method.teacher.named_buffers() if name in after)
    assert not any(p.requires_grad for p in method.teacher.parameters())


@pytest.mark.parametrize(("decoder", "stride"), [("deeplabv3plus", 4), ("pspnet", 4), ("pspnet", 8), ("unet", 4)])
def test_every_decoder_has_a_last_block(decoder: str, stride: int) -> None:
    """Through the second norms, still equal to the main ones, the scores are those of the whole network."""
    method = built(network__decoder=decoder, network__encoder="resnet10t", network__stride=stride)
    images = torch.randn(2, 1, 3, 37, 45)
    assert len(method.network.auxiliary) == sum(
        isinstance(m, _BatchNorm) for m in method.network.extractor.decoder.last
    )
    with torch.no_grad():
        scores, v, _ = method.network.opened(images)
        torch.testing.assert_close(method.network.scores_of(v, (37, 45)), scores)
    assert torch.isfinite(step(method, PUSHED, batch_of(method, 1)).total)


def test_a_pushed_step_repeats_to_the_bit_on_two_threads() -> None:
    """Sums made by racing threads would differ from time to time."""
    method, threads, found = built(method__threshold=0.0), torch.get_num_threads(), []
    batch, state = batch_of(method, 6), copy.deepcopy(method.state_dict())
    torch.set_num_threads(2)
    try:
        for _ in range(2):
            method.load_state_dict(state)
            method.zero_grad()
            step(method, PUSHED, batch).total.backward()
            found.append([p.grad.clone() for p in method.parameters() if p.grad is not None])
    finally:
        torch.set_num_threads(threads)
    assert all(all(torch.equal(a, b) for a, b in zip(found[0], again, strict=True)) for again in found[1:])


def test_nothing_to_learn_is_finite() -> None:
    method = built()
    batch = batch_of(method)
    batch.pool.inside[:] = False
    batch.labelled.masks[:] = VOID
    found = step(method, PUSHED, batch)
    found.total.backward()
    assert found.terms["unsup"] == found.terms["descending"] == found.terms["flow"] == 0
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
