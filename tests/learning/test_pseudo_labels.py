"""Which pseudo-labels are accepted, by one threshold and by a limit for each class, and what they teach."""

from __future__ import annotations

import math
from types import NoneType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmatch import plugins
from diffmatch.learning import pseudo_labels as pseudo
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import one_hot
from diffmatch.learning.pseudo_labels import (
    PseudoLabels,
    ThresholdOptions,
    accepted_by,
    confident,
    most_confident,
    pixels_per_class,
    soft_loss,
)
from diffmatch.running.plan import trained
from diffmatch.settings import resolve

UNSET = {"limits": "class", "targets": "soft"}
WITH = {
    key: [
        name
        for name in plugins.names(plugins.METHODS)
        if key in (fields := registry.method(name).Options.model_fields) and fields[key].annotation is not NoneType
    ]
    for key in UNSET
}
"""Methods that take the option; DAW refuses limits, because its threshold is not one that was chosen."""


def row(*pixels: tuple[float, ...]) -> torch.Tensor:
    """Probabilities (1, C, 1, W) of pixels one after the other."""
    return torch.tensor(pixels).T[None, :, None]


def test_limits_by_hand() -> None:
    """Four pixels of class 0, two of them above 0.9; of class 1 three, none above: half of three, rounded up, its best;
    of class 2 one."""
    first = (0.95, 0.05, 0), (0.92, 0.08, 0), (0.6, 0.4, 0), (0.7, 0.3, 0)
    p = row(*first, (0.2, 0.7, 0.1), (0.1, 0.8, 0.1), (0.3, 0.6, 0.1), (0.2, 0.3, 0.5))
    plain, limited = confident(p, 0.9), accepted_by(p, ThresholdOptions(threshold=0.9, limits="class"))
    assert torch.equal(plain.labels, limited.labels)
    assert plain.accepted[0, 0].tolist() == [True, True, False, False, False, False, False, False]
    # 2 of 8 are accepted: ceil(4 / 4) = 1 of class 0, which has two, ceil(3 / 4) = 1 of class 1, ceil(1 / 4) = 1 of
    # class 2
    assert limited.accepted[0, 0].tolist() == [True, True, False, False, False, True, False, True]


def test_padding_has_no_part_in_the_shares() -> None:
    """Two pixels of padding, sure of class 0: without them nothing is sure, and nothing is lifted."""
    p = row((0.95, 0.05), (0.95, 0.05), (0.6, 0.4), (0.4, 0.6))
    options = ThresholdOptions(threshold=0.9, limits="class")
    assert accepted_by(p, options).accepted[0, 0].tolist() == [True, True, False, True]
    inside = torch.tensor([[[False, False, True, True]]])
    assert not (accepted_by(p, options, inside).accepted & inside).any()
    one_sure = row((0.95, 0.05), (0.95, 0.05), (0.95, 0.05), (0.4, 0.6))
    assert (accepted_by(one_sure, options, inside).accepted & inside)[0, 0].tolist() == [False, False, True, True]


def test_nothing_confident_lifts_nothing() -> None:
    assert not accepted_by(row((0.6, 0.4), (0.3, 0.7)), ThresholdOptions(threshold=0.9, limits="class")).accepted.any()


def test_everything_confident_changes_nothing() -> None:
    assert accepted_by(row((0.6, 0.4), (0.3, 0.7)), ThresholdOptions(threshold=0.0, limits="class")).accepted.all()


@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0.3, 0.99))
def test_every_class_has_its_share_and_its_best(seed: int, classes: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (torch.randn(2, classes, 6, 5, generator=generator) * 2).softmax(1)
    confidence, labels = p.max(1)
    plain, limited = (
        confident(p, threshold).accepted,
        accepted_by(p, ThresholdOptions(threshold=threshold, limits="class")).accepted,
    )
    assert (limited | ~plain).all()  # nothing is left out
    for k in range(classes):
        mine = labels == k
        least = math.ceil(int(plain.sum()) * int(mine.sum()) / plain.numel())
        assert int((limited & mine).sum()) == max(least, int((plain & mine).sum()))
        if (limited & mine).any() and (mine & ~limited).any():
            assert confidence[limited & mine].min() >= confidence[mine & ~limited].max()


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_most_confident_is_what_a_loop_finds(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (2, 4, 5), generator=generator)
    confidence = torch.randint(4, (2, 4, 5), generator=generator) / 4  # with ties: the first is taken
    counts = pixels_per_class(labels, torch.ones_like(labels, dtype=torch.bool), classes)
    wanted = (torch.rand(classes, generator=generator) * (counts + 1)).long()
    expected = torch.zeros(labels.numel(), dtype=torch.bool)
    for k in range(classes):
        mine = sorted(
            (i for i, label in enumerate(labels.flatten()) if label == k), key=lambda i: -float(confidence.flatten()[i])
        )
        expected[mine[: int(wanted[k])]] = True
    assert torch.equal(most_confident(confidence, labels, wanted), expected.view_as(labels))


@pytest.mark.parametrize("name", WITH["limits"])
def test_a_method_teaches_by_its_limits(name: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the limits accept is taught, where the threshold accepts nothing."""
    monkeypatch.setattr(
        pseudo, "most_confident", lambda confidence, labels, wanted: torch.ones_like(labels, dtype=torch.bool)
    )
    taught = []
    for limits in (None, "class"):
        p = planned(name, method__threshold=1.0, method__limits=limits, train__loss="ce")
        torch.manual_seed(0)
        method: Any = p.build()
        if name == "usrn":
            method.subclasses.found.fill_(True)  # it teaches nothing before there are subclasses
        late = Progress(8, 10)  # DDFP's warm-up is over
        taught.append(float(method.losses(draw(p), late).terms["unsup"].detach()))
    assert taught[1] > taught[0] >= 0  # AugSeg pastes labelled boxes, which are always taught


def test_soft_targets_by_hand() -> None:
    """Two images of one row; the first takes the second's right pixel, where the teacher is unsure, and its own left
    one is padding."""
    told = torch.cat([row((0.5, 0.5), (0.9, 0.1), (1.0, 0.0)), row((0.2, 0.8), (0.6, 0.4), (0.3, 0.7))])
    accepted = told.amax(1) >= 0.7
    inside = torch.tensor([[[False, True, True]], [[True, True, True]]])
    boxes = torch.tensor([[[False, False, True]], [[False, False, False]]])
    said = torch.cat([row((0.5, 0.5), (0.8, 0.2), (0.5, 0.5)), row((0.3, 0.7), (0.1, 0.9), (0.3, 0.7))])
    loss = soft_loss(said.log(), PseudoLabels(told.argmax(1).to(torch.uint8), accepted, told), inside, boxes)
    # the first image: 0.1^2 twice, then 0.2^2 twice; the second: 0.1^2 twice, the unsure pixel without loss, 0; five
    # pixels in all
    assert loss == pytest.approx((0.02 + 0.08 + 0.02) / 5)


@pytest.mark.parametrize("name", WITH["targets"])
def test_soft_targets_of_a_sure_teacher_are_its_labels(
    name: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One-hot probabilities teach what the labels teach under the squared error; at the start their weight is next to
    nothing."""
    found = {}
    for targets in (None, "soft"):
        p = planned(
            name, method__targets=targets, method__threshold=0.5, train__loss="squared", diffusion__adjustment="none"
        )
        method, batch = p.build(), draw(p)
        labels = torch.randint(0, 4, batch.pool.inside.shape, generator=torch.Generator().manual_seed(0))
        sure = confident(one_hot(labels, 4), 0.5)
        for source in ("pseudo_labels", "accept", "pasted"):  # whichever the method learns from
            taught = None if source == "pasted" else sure
            monkeypatch.setattr(method, source, lambda *_, taught=taught: taught, raising=False)
        for step in (0, 10):
            torch.manual_seed(0)
            found[targets, step] = method.losses(batch, Progress(step, 10)).terms["unsup"].detach()
    torch.testing.assert_close(found["soft", 10], found[None, 10])
    torch.testing.assert_close(found["soft", 0], found[None, 0] * math.exp(-5))


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in WITH.items() for name in names])
def test_an_option_that_is_unset_leaves_the_run_its_hash(key: str, name: str) -> None:
    options = registry.method(name).Options
    assert key not in trained(resolve(options))["method"]
    assert trained(resolve(options, {f"method.{key}": UNSET[key]}))["method"][key] == UNSET[key]


# -- ClassMix ----------------------------------------------------------------------------------------------------------


def test_an_image_keeps_half_of_its_classes() -> None:
    """Rounded down, whole classes at a time, other ones from time to time; padding is pasted over and no class."""
    torch.manual_seed(0)
    labels = torch.tensor([[0, 0, 1, 2, 3, 3, 4], [5, 5, 5, 5, 5, 5, 5], [0, 1, 1, 0, 0, 1, 2]], dtype=torch.uint8)
    inside = torch.ones(3, 1, 7, dtype=torch.bool)
    inside[2, 0, 6] = False
    seen = []
    for _ in range(20):
        kept = ~pseudo.classmix(labels[:, None], inside, 6)[:, 0]
        chosen = [set(row[keep].tolist()) for row, keep in zip(labels, kept, strict=True)]
        assert [len(classes) for classes in chosen] == [2, 0, 1] and 2 not in chosen[2]
        for row, keep, classes in zip(labels[:2], kept, chosen, strict=False):
            assert torch.equal(keep, torch.tensor([c in classes for c in row.tolist()]))
        seen.append(frozenset(chosen[0]))
    assert len(set(seen)) > 3
    assert pseudo.classmix(labels[:, None], inside & False, 6).all()
