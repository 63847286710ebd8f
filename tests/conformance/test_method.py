"""The conformance suite for methods: every installed method passes, and each check fails where it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from diffmatch import plugins
from diffmatch.conformance.method import CHECKS
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.methods.fixmatch import FixMatch
from diffmatch.methods.mean_teacher import MeanTeacher
from diffmatch.methods.supervised import Supervised


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", plugins.names(plugins.METHODS))
def test_installed_methods_conform(name: str, check: str) -> None:
    CHECKS[check](registry.method(name))


class NoTitle(FixMatch):
    title = " "


class ViewsWithoutAPool(FixMatch):
    """Asks for strong views of images that it does not ask for."""

    views = FixMatch.views._replace(unlabelled=False)


class DeadPart(FixMatch):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unused = nn.Linear(2, 2)


class LearnsNothing(FixMatch):
    def losses(self, batch: Batch, progress: Progress) -> Losses:
        losses = super().losses(batch, progress)
        return Losses({name: term * 1e-9 for name, term in losses.terms.items()})


class DrawsFromElsewhere(FixMatch):
    generator = np.random.default_rng(0)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        losses = super().losses(batch, progress)
        return Losses({name: term * self.generator.uniform(0.9, 1.1) for name, term in losses.terms.items()})


class RemembersOutsideItsState(FixMatch):
    seen = 0

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        self.seen = self.seen + 1
        losses = super().losses(batch, progress)
        return Losses({name: term / self.seen for name, term in losses.terms.items()})


class DividesByTheLabelled(Supervised[Any]):
    def losses(self, batch: Batch, progress: Progress) -> Losses:
        losses = super().losses(batch, progress)
        return Losses({"sup": losses.terms["sup"] / (batch.labelled.masks != 255).sum()})


class NeedsTwoImages(FixMatch):
    def losses(self, batch: Batch, progress: Progress) -> Losses:
        assert len(batch.labelled.images) > 1, "two images are needed"
        return super().losses(batch, progress)


class LooksAtTheBatch(FixMatch):
    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        return super().scores(images + len(images), perturbed)


class TeachesWithoutItsLabels(FixMatch):
    def pseudo_labels(self, images: Tensor, keys: Any, inside: Tensor | None = None) -> PseudoLabels:
        pseudo = super().pseudo_labels(images, keys, inside)
        return pseudo._replace(labels=(pseudo.labels + 1) % 4)


class ForgetfulTeacher(MeanTeacher[Any]):
    """Its teacher is hidden from the state_dict."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        hidden = self.teacher
        del self.teacher
        self.__dict__["teacher"] = hidden


class OneGroupTooFew(FixMatch):
    def parameter_groups(self) -> list[dict[str, Any]]:
        return super().parameter_groups()[:1]


class NegativeWeights(FixMatch):
    def sample_weights(self, items: Any, pixels: Any) -> Any:
        return -np.ones(len(items))


@pytest.mark.parametrize(
    ("method", "check", "why"),
    [
        (NoTitle, "card", "title is empty"),
        (ViewsWithoutAPool, "card", "strong views are of unlabelled"),
        (DeadPart, "learning", r"unused\.\w+ takes no part"),
        (LearnsNothing, "learning", "does not fall|has not moved"),
        (DrawsFromElsewhere, "repeats", "drawn from elsewhere"),
        (RemembersOutsideItsState, "resumes", "not in the state_dict"),
        (DividesByTheLabelled, "nothing to learn", "not finite"),
        (NeedsTwoImages, "every kind of set", "two images are needed"),
        (LooksAtTheBatch, "probabilities", "images beside it"),
        (TeachesWithoutItsLabels, "pseudo-labels", "not the argmax"),
        (ForgetfulTeacher, "state", "state"),
        (OneGroupTooFew, "parameter groups", "in no group"),
        (NegativeWeights, "sample weights", "negative"),
    ],
)
def test_a_fault_is_found(method: type[Any], check: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        CHECKS[check](method)


def test_every_check_can_fail() -> None:
    """`test_a_fault_is_found` has a broken method for each of them."""
    (marks,) = test_a_fault_is_found.pytestmark
    assert {check for _, check, _ in marks.args[1]} == set(CHECKS)
