"""What DiffMatch's network without diffusion shares with DiffMatch: the mode of its labels, and what CutMix pastes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_batch, toy_card, toy_method, toy_settings
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress

pytestmark = pytest.mark.parametrize("name", ["diffmatch", "discriminative"])


def passes(name: str, **changes: Any) -> list[tuple[bool, int, list[bool] | None]]:
    """Training mode, images and perturbed images of every pass through the extractor in a step."""
    kind = registry.method(name)
    card, settings = toy_card(), toy_settings(kind, **changes)
    method = toy_method(kind, card, settings).train()
    found = []
    extractor: Any = method.network.extractor
    forward = extractor.forward

    def spy(images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        found.append((extractor.training, len(images), None if perturbed is None else perturbed.tolist()))
        z: Tensor = forward(images, perturbed)
        return z

    extractor.forward = spy
    torch.manual_seed(0)
    method.losses(toy_batch(kind, card, settings), Progress(0, 1)).total.backward()  # type: ignore[no-untyped-call]
    return found


def test_eval_labels_have_a_pass_of_their_own(name: str) -> None:
    assert passes(name) == [(False, 2, None), (True, 4, [False, False, True, True])]


def test_train_labels_come_from_the_pass_that_learns(name: str) -> None:
    """The strong views follow alone, with channels dropped; FixMatch's order of passes."""
    assert passes(name, method__labels="train") == [(True, 4, None), (True, 2, [True, True])]


def test_what_cutmix_pastes_is_labelled_in_eval_mode(name: str) -> None:
    """The pasted images are a draw of their own."""
    found = passes(name, method__labels="train", data__cutmix=1.0)
    assert found == [(False, 2, None), (True, 4, None), (True, 2, [True, True])]


def test_the_labelled_part_never_trains_the_labels(name: str) -> None:
    """With nothing accepted the weak views teach nothing: the unlabelled term has no gradient."""
    kind = registry.method(name)
    settings = toy_settings(kind, method__labels="train", method__threshold=1.0, diffusion__adjustment="none")
    method = toy_method(kind, toy_card(), settings).train()
    losses = method.losses(toy_batch(kind, toy_card(), settings), Progress(0, 1))
    assert losses.terms["unsup"] == 0 and losses.accepted is not None and losses.accepted.sum() == 0
