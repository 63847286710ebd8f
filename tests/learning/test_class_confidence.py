"""The bank of class confidence against AEL's code, and how it is drawn from."""

from __future__ import annotations

import torch

from diffmatch.domain import VOID
from diffmatch.learning.class_confidence import ClassConfidence


def bank(values: list[float], momentum: float = 0.999) -> ClassConfidence:
    made = ClassConfidence(len(values), momentum)
    made.values.copy_(torch.tensor(values))
    return made


def test_golden_numbers() -> None:
    """hzhupku/SemiSeg-AEL 747c797: utils.py 331-346 and train.py 347-349 (update), loss_helper.py 78-81 (rates),
    utils.py 214-219 (chances of CutMix) and train.py 221-224 (of Copy-Paste)."""
    scores = (torch.arange(24).float().sin() * 2).view(1, 4, 2, 3)
    found = bank([0.9, 0.5, 0.1, 0.4])
    found.update(scores.softmax(1), torch.tensor([[[0, 0, 1], [VOID, 1, 0]]], dtype=torch.uint8))
    torch.testing.assert_close(
        found.values, torch.tensor([0.89947647, 0.49971482, 0.09990000, 0.39960000]), atol=1e-7, rtol=0
    )
    found = bank([0.9, 0.5, 0.1])
    for answer, expected in (
        (found.rates, [0.11111, 0.55556, 1.0]),
        (found.chances(), [0.21198273, 0.31624106, 0.47177622]),
        (found.chances(0.5), [0.22933115, 0.3390156, 0.43165326]),
    ):
        torch.testing.assert_close(answer, torch.tensor(expected), atol=1e-5, rtol=0)


def test_only_the_classes_asked_for_are_drawn() -> None:
    chances = bank([0.9, 0.5, 0.1]).chances(0.5, torch.tensor([False, True, True]))
    torch.testing.assert_close(chances, torch.tensor([0.0, 0.3390156, 0.43165326]) / 0.77066886)


def test_it_starts_between_0_and_1_and_void_teaches_nothing_but_absence() -> None:
    torch.manual_seed(0)
    fresh = ClassConfidence(1000, 0.5)
    assert 0 <= fresh.values.min() < 0.1 and 0.9 < fresh.values.max() <= 1
    before = fresh.values.clone()
    fresh.update(torch.full((1, 1000, 2, 2), 1e-3), torch.full((1, 2, 2), VOID, dtype=torch.uint8))
    torch.testing.assert_close(fresh.values, before / 2)


def test_a_bank_that_is_certain_of_all_classes_draws_evenly() -> None:
    sure = bank([1.0, 1.0])
    assert torch.equal(sure.rates, torch.zeros(2)) and torch.equal(sure.chances(), torch.full((2,), 0.5))
