"""The threshold between right and wrong predictions and the alignment of confidence, against the authors' numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import multiprocessing

from diffmatch.domain import VOID
from diffmatch.learning.confidence import ConfidenceAlignment, CrossingThreshold, crossing


def waves(scale: float, shift: float = 0.0) -> torch.Tensor:
    i = torch.arange(2 * 3 * 4 * 5).float()
    return (scale * torch.sin(1.7 * i + shift)).view(2, 3, 4, 5).softmax(1)


def flags(**blank: tuple[object, ...]) -> torch.Tensor:
    where = torch.ones(2, 4, 5, dtype=torch.bool)
    for index in blank.values():
        where[index] = False
    return where


def golden() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions of two labelled images, their masks (29 pixels right, 6 or 15 wrong, 5 void), two kinds of weak views
    with padding."""
    scores = waves(2.0)
    confidence, labels = scores.max(1)
    masks = torch.where(confidence > 0.6, labels, (labels + 1) % 3).to(torch.uint8)
    masks[1, 3] = VOID
    inside = torch.cat([flags(a=(0, 0)), flags(a=(1, slice(None), 0))])
    return scores, masks, torch.cat([waves(1.5, 0.3), waves(1.5, 0.9)]), inside


def test_the_crossing_by_hand() -> None:
    """optimal_threshold of yuisuen/DAW d1d46443 (daw.py 424-498): between the means, nearer to the narrower one."""

    def at(means: tuple[float, float], variances: tuple[float, float], classes: int = 2) -> float:
        return float(crossing(torch.tensor(means), torch.tensor(variances), torch.tensor(0.95), 1 / classes))

    assert at((0.9, 0.6), (0.01, 0.04)) == pytest.approx(0.7581654, abs=1e-6)
    assert at((0.9, 0.6), (0.04, 0.01)) == pytest.approx(0.7418345, abs=1e-6)
    assert at((0.5, 0.5), (0.5, 0.5)) == pytest.approx(0.95)  # where training starts: nothing crosses
    assert at((0.9, 0.6), (0.01, 0.04)) < at((0.9, 0.8), (0.01, 0.04)) < 1  # surer when wrong: higher


def test_the_threshold_starts_low_and_takes_hundreds_of_steps() -> None:
    """The same code with constant means .95 and .6, variances .005 and .03, C = 21, after so many steps."""
    threshold, found = CrossingThreshold(21, 0.99), {}
    for step in range(1, 1001):
        threshold.means.lerp_(torch.tensor([0.95, 0.6]), 0.01)
        threshold.variances.lerp_(torch.tensor([0.005, 0.03]), 0.01)
        if step in (1, 10, 50, 100, 200, 500, 1000):
            found[step] = float(crossing(threshold.means, threshold.variances, threshold.value, 1 / 21))
    expected = {1: 0.04762, 10: 0.08158, 50: 0.29992, 100: 0.47555, 200: 0.65250, 500: 0.79733, 1000: 0.81944}
    assert found == pytest.approx(expected, abs=2e-4)


def test_golden_steps() -> None:
    """optimal_threshold of yuisuen/DAW d1d46443 (daw.py 403-498), momentum 0.5, the same batch four times. Only six
    pixels are wrong, so that their mean and variance stay."""
    threshold, alignment = CrossingThreshold(3, 0.5), ConfidenceAlignment(3, 0.5)
    probabilities, masks, weak, inside = golden()
    taus = []
    for _ in range(4):
        alignment.update(probabilities, masks != VOID, weak, inside)
        threshold.update(probabilities, masks)
        taus.append(float(threshold.value))
    assert taus == pytest.approx([0.33333334, 0.33333334, 0.36593503, 0.44593856], abs=1e-5)
    torch.testing.assert_close(threshold.means, torch.tensor([0.76860321, 0.33333334]))
    torch.testing.assert_close(threshold.variances, torch.tensor([0.04134829, 0.5]))
    expected = [[0.65996563, 0.81903559, 0.68232721], [0.64295530, 0.71075749, 0.61734426]]
    torch.testing.assert_close(alignment.confidence, torch.tensor(expected))
    aligned = alignment(weak)
    torch.testing.assert_close(aligned[0, :, 0, 0], torch.tensor([0.43707138, 0.46151960, 0.10140895]))
    accepted = (aligned.amax(1) >= threshold.value) & inside
    assert (accepted[:2].sum(), accepted[2:].sum()) == (35, 36)


def test_wrong_pixels_that_are_sure_raise_the_threshold() -> None:
    """The mean confidence of all pixels is the same .75 in both batches; a constant or that mean would not move."""

    def after(right: float, wrong: float, rights: int) -> float:
        order = torch.arange(400)
        confidence = torch.where(order < rights, right, wrong) + 0.04 * torch.sin(order.float())
        threshold = CrossingThreshold(2, 0.0)
        probabilities = torch.stack([confidence, 1 - confidence]).view(1, 2, 1, 400)
        threshold.update(probabilities, (order >= rights).to(torch.uint8).view(1, 1, 400))
        return float(threshold.value)

    assert after(0.8, 0.6, 300) == pytest.approx(0.7, abs=0.02)
    assert after(0.9, 0.7, 100) == pytest.approx(0.8, abs=0.02)


def test_alignment_by_hand() -> None:
    """distribution_alignment of yuisuen/DAW d1d46443 (daw.py 396-400)."""
    alignment = ConfidenceAlignment(2, 0.99)
    alignment.confidence.copy_(torch.tensor([[0.9, 0.6], [0.6, 0.6]]))
    found = alignment(torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.69230771, 0.30769232]))


def test_a_rare_class_is_not_raised_for_being_rare() -> None:
    """Nine pixels of class 0 at .8 and one of class 1 at .8, on both kinds of images: nothing changes. The mean of p
    over all pixels, which is distribution alignment elsewhere, would differ where one kind has more of class 1."""
    alignment = ConfidenceAlignment(2, 0.0)
    often = torch.tensor([[0.8, 0.2]] * 9 + [[0.2, 0.8]]).T.reshape(1, 2, 1, 10)
    everywhere = torch.ones(1, 1, 10, dtype=torch.bool)
    alignment.update(often, everywhere, often.flip(1), everywhere)
    torch.testing.assert_close(alignment(often), often)


def test_nothing_to_learn_from_changes_nothing() -> None:
    threshold, alignment = CrossingThreshold(3, 0.5), ConfidenceAlignment(3, 0.5)
    probabilities, masks, weak, inside = golden()
    before = {k: v.clone() for k, v in (threshold.state_dict() | alignment.state_dict()).items()}
    threshold.update(probabilities, torch.full_like(masks, VOID))
    alignment.update(probabilities, torch.zeros_like(masks, dtype=torch.bool), weak, torch.zeros_like(inside))
    after = threshold.state_dict() | alignment.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def _updated(rank: int, folder: str, parts: torch.nn.ModuleList, batch: tuple[torch.Tensor, ...]) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    threshold, alignment = parts
    probabilities, masks, weak, inside = (x[rank::2] for x in batch)
    threshold.update(probabilities, masks)
    alignment.update(probabilities, masks != VOID, weak, inside)
    torch.save(parts.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_ranks_share_the_statistics(tmp_path: Path) -> None:
    """Two processes get what one gets from all pixels."""

    def parts() -> torch.nn.ModuleList:
        return torch.nn.ModuleList([CrossingThreshold(3, 0.5), ConfidenceAlignment(3, 0.5)])

    alone, batch = parts(), golden()
    alone[0].update(*batch[:2])
    alone[1].update(batch[0], batch[1] != VOID, *batch[2:])
    multiprocessing.start_processes(_updated, (str(tmp_path), parts(), batch), nprocs=2, start_method="fork")
    for rank in (0, 1):
        for key, value in torch.load(tmp_path / f"{rank}.pt").items():
            torch.testing.assert_close(value, alone.state_dict()[key])
