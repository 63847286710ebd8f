"""Probabilities are moved to given class totals."""

from __future__ import annotations

import pytest
import torch

from diffmatch.learning.losses import entropy
from diffmatch.learning.refinery import Refinery, class_factors, moved, strike, struck

TWO = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
THREE = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])


def everywhere(p: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(p), dtype=torch.bool)


def biased(pixels: int, classes: int, seed: int = 0) -> torch.Tensor:
    """Probabilities (pixels, classes) that favour the first classes."""
    scores = 3 * torch.randn(pixels, classes, generator=torch.Generator().manual_seed(seed))
    return (scores - torch.linspace(0, 8, classes)).softmax(1)


@pytest.mark.parametrize(
    ("p", "total", "expected"),
    [
        (TWO, (2.0, 2.0), [(0.812818, 0.187182), (0.565730, 0.434270), (0.372340, 0.627660), (0.249112, 0.750888)]),
        (
            THREE,
            (2.0, 1.0, 1.0),
            [
                (0.662503, 0.178580, 0.158917),
                (0.566178, 0.265219, 0.168603),
                (0.428269, 0.238449, 0.333282),
                (0.343049, 0.317752, 0.339199),
            ],
        ),
    ],
)
def test_moved_as_the_authors_solver_moves(p: torch.Tensor, total: tuple[float, ...], expected: list[object]) -> None:
    """`opt_solver` of bbuing9/DARP 64a94b4 (common.py 120-151), ten sweeps, tolerance 0.1."""
    q = moved(p, class_factors(p, everywhere(p), torch.tensor(total), 10))
    torch.testing.assert_close(q, torch.tensor(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(q.sum(0), torch.tensor(total), atol=1e-4, rtol=0)


def test_struck_out_as_the_authors_do() -> None:
    """`estimate_pseudo` of bbuing9/DARP 64a94b4 (common.py 107-118), and training_functions.py 421-430: c = (3, 1),
    alpha = 2."""
    total = torch.tensor([3.0, 1.0])
    least, scale = strike(TWO, everywhere(TWO), total, 2.0)
    assert least.tolist() == pytest.approx([0.6, 0.3])
    assert scale.tolist() == pytest.approx([1.0, 1.428571])
    refinery = Refinery(2)
    refinery.solve(TWO, everywhere(TWO), total / 4, 2.0, 10)
    kept = struck(TWO, refinery.least, refinery.scale)
    assert kept[:, 0].tolist() == pytest.approx([0.999999, 0.999999, 0.620253, 0.512195], abs=1e-5)
    assert refinery(TWO)[:, 0].tolist() == pytest.approx([0.999999, 0.999999, 0.556425, 0.443577], abs=1e-5)


def test_the_whole_refinery_is_the_authors() -> None:
    """The same functions, one after the other, on four classes with even totals. Ten sweeps are not quite enough, and
    the first of the class totals that the authors' ones reach is 1.99991."""
    p = (2 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))).softmax(1)
    refinery = Refinery(4)
    refinery.solve(p, everywhere(p), torch.full((4,), 0.25), 2.0, 10)
    expected = torch.tensor(
        [
            (0.000001, 0.125237, 0.620191, 0.254572),
            (0.442208, 0.557790, 0.000001, 0.000001),
            (0.272537, 0.000001, 0.478375, 0.249087),
            (0.000001, 0.601889, 0.398110, 0.000001),
            (0.000001, 0.000001, 0.503513, 0.496485),
            (0.000001, 0.000001, 0.000001, 0.999996),
            (0.999996, 0.000001, 0.000001, 0.000001),
            (0.285162, 0.714836, 0.000001, 0.000001),
        ]
    )
    torch.testing.assert_close(refinery(p), expected, atol=3e-4, rtol=0)


def test_totals_are_reached_and_without_v_they_are_not() -> None:
    """The cut: without the last step the totals stay away from c."""
    p, prior = biased(2000, 5), torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    refinery = Refinery(5)
    refinery.solve(p, everywhere(p), prior, 2.0, 10)
    torch.testing.assert_close(refinery(p).mean(0), prior, atol=2e-3, rtol=0)
    refinery.factor.zero_()
    assert (refinery(p).mean(0) - prior).abs().max() > 0.02
    assert (p.mean(0) - prior).abs().max() > 0.1


def test_uncertain_pixels_move_first() -> None:
    """The change of the odds of two classes is (v_j - v_k) H."""
    p = TWO
    q = moved(p, torch.tensor([0.5, -0.5]))
    odds = (q[:, 0] / q[:, 1]).log() - (p[:, 0] / p[:, 1]).log()
    torch.testing.assert_close(odds, -entropy(p))
    assert (odds.diff() < 0).all()


def test_before_the_first_solution_q_is_p() -> None:
    p = biased(50, 4)
    torch.testing.assert_close(Refinery(4)(p), p, atol=1e-5, rtol=0)


def test_a_map_is_moved_as_its_pixels_are() -> None:
    p = biased(24, 4)
    refinery = Refinery(4)
    refinery.solve(p, everywhere(p), torch.full((4,), 0.25), 2.0, 10)
    as_map = p.view(2, 3, 4, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(refinery(as_map).permute(0, 2, 3, 1).reshape(24, 4), refinery(p))


def test_rows_that_are_not_valid_have_no_part() -> None:
    p, prior = biased(60, 4), torch.full((4,), 0.25)
    alone, beside = Refinery(4), Refinery(4)
    alone.solve(p[:40], everywhere(p[:40]), prior, 2.0, 10)
    rest = torch.cat([p[:40], torch.zeros(20, 4)])
    beside.solve(rest, torch.arange(60) < 40, prior, 2.0, 10)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(beside.state_dict()[name], value)
    before = {name: value.clone() for name, value in beside.state_dict().items()}
    beside.solve(p, torch.zeros(60, dtype=torch.bool), prior, 2.0, 10)
    assert all(torch.equal(value, before[name]) for name, value in beside.state_dict().items())


@pytest.mark.parametrize("classes", [2, 81])
def test_certain_pixels_and_rare_classes_stay_finite(classes: int) -> None:
    """Where all are certain of one class no v reaches the totals; it stays bounded. Totals far below a pixel keep the
    largest entry."""
    p = torch.zeros(30, classes)
    p[:, 0] = 1
    prior = torch.full((classes,), 1e-4)
    prior[0] = 1 - prior[1:].sum()
    refinery = Refinery(classes)
    for q in (p, biased(30, classes)):
        refinery.solve(q, everywhere(q), prior, 2.0, 10)
        assert all(torch.isfinite(value).all() for value in refinery.state_dict().values())
        assert torch.isfinite(refinery(q)).all()
        torch.testing.assert_close(refinery(q).sum(1), torch.ones(30))
