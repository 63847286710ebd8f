"""What every installed method must do on real pictures and networks; tests/conformance has the suite that ships."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import diffmatch
from diffmatch import plugins
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Progress
from diffmatch.learning.method import Method
from diffmatch.running.cost import cost_of
from diffmatch.running.plan import parameter_counts

METHODS = plugins.names(plugins.METHODS)
DEEPLAB = {
    "network__decoder": "deeplabv3plus",
    "network__encoder": "resnet10t",
    "network__stride": 4,
    "train__batch": 1,
}

FROZEN = {"usrn"}
"""Methods with a frozen network that labels nothing of the pool: it gives labelled pixels their subclasses."""

pytestmark = pytest.mark.parametrize("name", METHODS)


def norms(method: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def step(method: Method, batch: Batch) -> Any:
    torch.manual_seed(0)
    return method.losses(batch, Progress(0, 1))


def test_labels_come_from_whom_it_declares_in_the_mode_it_declares(name: str, planned: Any, draw: Any) -> None:
    """Every pass of a step through BatchNorm: whose, in which mode, with or without gradient.

    CutMix is off: FixMatch and its kin label what is pasted in eval mode.
    """
    p = planned(name, data__cutmix=0.0)
    method, batch = p.build().train(), draw(p)
    teachers = {norm for m in method.modules() if getattr(m, "is_teacher", False) for norm in norms(m)}
    seen: set[tuple[str, str, bool]] = set()

    def watch(norm: nn.Module, *_: Any) -> None:
        owner, mode = "teacher" if norm in teachers else "student", "train" if norm.training else "eval"
        seen.add((owner, mode, torch.is_grad_enabled()))

    for norm in norms(method):
        norm.register_forward_hook(watch)
    step(method, batch)
    labelling = method.labelling
    learns, own = ("student", "train", True), ("student", labelling.mode, False)
    expected, allowed = {learns}, set()
    if labelling.by == "teacher":
        expected.add(("teacher", labelling.mode, False))
    elif labelling.by != "nobody":
        (expected if labelling.mode == "eval" else allowed).add(own)  # labels in train mode may come from what learns
    if labelling.buffers == "own":
        expected.add(("teacher", "train", False))
    if name in FROZEN:
        allowed.add(("teacher", "eval", False))
    assert expected <= seen <= expected | allowed
    statistics = {norm: norm.running_mean.clone() for norm in teachers}
    method.after_step(Progress(0, 1))
    if labelling.buffers == "own":
        assert teachers and all(torch.equal(norm.running_mean, mean) for norm, mean in statistics.items())


def test_layout_changes_rounding_only(name: str, planned: Any, draw: Any) -> None:
    p = planned(name)
    last, first, batch = p.build().train(), p.build().to(memory_format=torch.contiguous_format).train(), draw(p)
    assert all(
        m.weight.is_contiguous(memory_format=torch.channels_last) for m in last.modules() if isinstance(m, nn.Conv2d)
    )
    assert all(m.weight.is_contiguous() for m in first.modules() if isinstance(m, nn.Conv2d))
    terms = step(first, batch).terms
    for key, value in step(last, batch).terms.items():
        torch.testing.assert_close(value, terms[key], rtol=1e-4, atol=1e-6)


def test_same_seed_same_bits(
    name: str, job: Any, quietly: Any, weights: Any, same: Any, curves: Any, few: Any, tmp_path: Any, unscored: None
) -> None:
    """In the weights, the curves, and what the finished runs predict as models."""
    runs = [
        quietly(job(tmp_path / where, name, train__steps=4, train__audits=1, train__validations=0)) for where in "ab"
    ]
    assert same(*map(weights, runs))
    assert curves(runs[0]) == curves(runs[1])
    volume = next((few / "training" / "patient001").glob("*frame01.nii.gz"))
    one, other = (diffmatch.load(run.path).predict(volume).probabilities for run in runs)
    assert one.shape[0] == 4 and np.isfinite(one).all() and np.array_equal(one, other)
    other = quietly(job(tmp_path, name, seed=1, train__steps=4, train__audits=1, train__validations=0))
    assert not same(weights(runs[0]), weights(other))


def test_gradients_repeat_to_the_bit_on_two_threads(name: str, planned: Any, draw: Any) -> None:
    """A batch large enough that torch shares its work out: sums made by racing threads would differ from time to
    time."""
    p = planned(name, network__dim=32, network__heads=8)
    method, batch = p.build().train(), draw(p, 16)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for _ in range(4):
            method.load_state_dict(state)
            method.zero_grad()
            step(method, batch).total.backward()
            found.append([q.grad.clone() for q in method.parameters() if q.grad is not None])
    finally:
        torch.set_num_threads(threads)
    assert found[0] and all(all(torch.equal(a, b) for a, b in zip(found[0], again, strict=True)) for again in found[1:])


@pytest.mark.parametrize("network", [{"train__batch": 1}, DEEPLAB], ids=["unet", "deeplab"])
def test_two_labelled_images_and_batch_1(
    name: str, network: dict[str, Any], planned: Any, labelled_two: Any, draw: Any, fit: Any
) -> None:
    p = labelled_two(planned(name, **network))
    batches = [draw(p, 1, k) for k in range(4)]
    assert {key.split("#")[0] for batch in batches for key in batch.labelled.keys} == {i.id for i in p.split.labelled}
    history = fit(p.build(), batches)
    assert all(torch.isfinite(torch.tensor(list(terms.values()))).all() for terms in history)


@pytest.mark.parametrize("network", [{}, DEEPLAB], ids=["unet", "deeplab"])
def test_probabilities(name: str, network: dict[str, Any], planned: Any) -> None:
    """Of image size whatever it is, summing to 1, and a batch is its images one by one."""
    method = planned(name, **network).build().eval()
    images = torch.randn(3, 1, 1, 37, 51, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = method.probabilities(images, ["a", "b", "c"])
        alone = torch.cat([method.probabilities(images[i : i + 1], [key]) for i, key in enumerate("abc")])
        trajectory = method.trajectory(images, ["a", "b", "c"])
    assert together.shape == (3, 4, 37, 51) and together.dtype == torch.float32
    torch.testing.assert_close(together.sum(1), torch.ones(3, 37, 51))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert trajectory.shape[1:] == (3, 37, 51) and trajectory.dtype == torch.uint8
    assert torch.equal(trajectory[-1], together.argmax(1).to(torch.uint8))


def test_pseudo_labels(name: str, planned: Any, draw: Any) -> None:
    """Of image size, from eval mode, without gradient, and leaving no trace in the method."""
    p = planned(name)
    method = p.build().train()
    images = draw(p, method=registry.method("fixmatch")).unlabelled.weak
    for norm in norms(method):
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))  # so that train and eval mode differ
    state = {key: value.clone() for key, value in method.state_dict().items()}
    modes = [m.training for m in method.modules()]
    pseudo = method.pseudo_labels(images, ["a", "b"])
    assert pseudo.labels.shape == pseudo.accepted.shape == (2, 32, 32)
    assert pseudo.labels.dtype == torch.uint8 and pseudo.accepted.dtype == torch.bool
    assert pseudo.probabilities.shape == (2, 4, 32, 32) and not pseudo.probabilities.requires_grad
    assert torch.equal(pseudo.labels, pseudo.probabilities.argmax(1).to(torch.uint8))
    assert modes == [m.training for m in method.modules()]
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items()), (
        "BatchNorm statistics or weights changed"
    )
    alone = method.pseudo_labels(images[:1], ["a"])
    torch.testing.assert_close(
        alone.probabilities, pseudo.probabilities[:1], atol=1e-5, rtol=1e-4
    )  # batch statistics would show


def test_every_method_starts_alike(name: str, planned: Any, draw: Any) -> None:
    """The same extractor weights and the same draws for one seed, whatever the method builds around them."""
    p, reference = planned(name), planned("supervised")
    theirs = reference.build().network.extractor.state_dict()
    mine = p.build().state_dict()
    found = {
        key.removesuffix("extractor." + last) for last in theirs for key in mine if key.endswith("extractor." + last)
    }
    assert any(
        all(torch.equal(mine[f"{prefix}extractor.{key}"], value) for key, value in theirs.items()) for prefix in found
    )
    a, b, full = draw(p, 3, 5), draw(reference, 3, 5), draw(planned("fixmatch"), 3, 5)
    mine, theirs = a.labelled, b.labelled
    assert mine.keys == theirs.keys
    assert torch.equal(mine.images, theirs.images) and torch.equal(mine.masks, theirs.masks)
    if a.pool is not None:
        pool = full.unlabelled
        assert a.pool.keys == pool.keys
        assert torch.equal(a.pool.weak, pool.weak) and torch.equal(a.pool.inside, pool.inside)
        if registry.method(name).views.photometry == "standard":
            assert all(torch.equal(x, y) for x, y in zip(a.pool.strong, pool.strong, strict=False))


def test_cost_is_that_of_the_built_method(name: str, planned: Any, stub: Callable[..., dict[str, Any]]) -> None:
    found = cost_of("acdc", None, name, "quick", stub())
    assert found["parameters"] == parameter_counts(planned(name).build())
    assert found["gmac"]["prediction"] > 0 and found["step_memory_gib"] >= 0
