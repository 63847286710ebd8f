"""The fast counting against loops over pixels, and surface distances against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import binary_erosion, generate_binary_structure

from diffmatch.domain import VOID
from diffmatch.records.counts import BINS, CONFIDENCE_UNIT, Counts
from diffmatch.scoring.counting import bins, count, surface_distances
from diffmatch.scoring.metrics import calibration_error, case_dice, iou

ARRAYS = ("confusion", "accepted", "top", "foreground", "per_class")


@st.composite
def scored(draw):
    """Probabilities (C, H, W), truth with void, acceptance."""
    classes, height, width = draw(st.integers(2, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharpness = draw(st.sampled_from([0.3, 2.0, 200.0]))
    scores = torch.from_numpy(rng.normal(0, sharpness, (classes, height, width)).astype(np.float32))
    truth = rng.integers(0, draw(st.integers(1, classes)), (height, width)).astype(np.uint8)
    truth[rng.random((height, width)) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = VOID
    return scores.softmax(0), torch.from_numpy(truth), torch.from_numpy(rng.random((height, width)) < 0.5)


def brute_force(probabilities, truth, accepted):
    """One pixel after the other, in Python numbers."""
    classes, height, width = probabilities.shape
    counts = Counts(classes)
    row = np.zeros((3, classes), np.int64)

    def note(target, confidence, right):
        b = min(int(confidence * BINS), BINS - 1)
        target[0, b] += 1
        target[1, b] += right
        target[2, b] += round(confidence * CONFIDENCE_UNIT)

    for i in range(height):
        for j in range(width):
            y = int(truth[i, j])
            if y == VOID:
                continue
            p = [float(v) for v in probabilities[:, i, j]]
            predicted = max(range(classes), key=lambda c: (p[c], -c))
            counts.confusion[y, predicted] += 1
            if accepted[i, j]:
                counts.accepted[y, predicted] += 1
            if y == predicted:
                row[0, y] += 1
            else:
                row[1, predicted] += 1
                row[2, y] += 1
            note(counts.top, p[predicted], y == predicted)
            if y or predicted:
                note(counts.foreground, p[predicted], y == predicted)
            for c in range(classes):
                note(counts.per_class[:, c], p[c], y == c)
    counts.cases["case"] = row
    return counts


@settings(max_examples=60, deadline=None)
@given(scored())
def test_counting_equals_a_loop_over_pixels(sample):
    probabilities, truth, accepted = sample
    counts, expected = Counts(len(probabilities)), brute_force(*sample)
    count(counts, "case", probabilities, truth, accepted)
    for name in ARRAYS:
        assert_array_equal(getattr(counts, name), getattr(expected, name), err_msg=name)
    assert_array_equal(counts.cases["case"], expected.cases["case"])


@settings(max_examples=40, deadline=None)
@given(scored())
def test_iou_dice_and_calibration_equal_a_loop_over_pixels(sample):
    probabilities, truth, _ = sample
    classes = len(probabilities)
    counts = Counts(classes)
    count(counts, "case", probabilities, truth)
    labels, confidence = probabilities.argmax(0).numpy(), probabilities.max(0).values.double().numpy()
    y, valid = truth.numpy(), truth.numpy() != VOID
    for c in range(classes):
        a, b = (labels == c) & valid, (y == c) & valid
        union = int((a | b).sum())
        expected_iou = (a & b).sum() / union if union else np.nan
        expected_dice = 2 * (a & b).sum() / (a.sum() + b.sum()) if union else np.nan
        assert_allclose(iou(counts.confusion)[c], expected_iou)
        assert_allclose(case_dice(counts)[0, c], expected_dice)
    if valid.any():
        total = 0.0
        for k in range(BINS):
            inside = valid & (np.minimum((confidence * BINS).astype(int), BINS - 1) == k)
            if inside.any():
                total += inside.sum() * abs((labels == y)[inside].mean() - confidence[inside].mean())
        assert calibration_error(counts.top) == pytest.approx(total / valid.sum(), abs=2e-6)
    else:
        assert np.isnan(calibration_error(counts.top))


@settings(max_examples=25, deadline=None)
@given(st.lists(scored(), min_size=1, max_size=4), st.integers(1, 3), st.randoms(use_true_random=False))
def test_any_split_over_ranks_and_any_order_gives_the_same_integers(samples, ranks, random):
    classes = 5
    samples = [(torch.cat([p, torch.zeros(classes - len(p), *p.shape[1:])]), y, a) for p, y, a in samples]
    whole = Counts(classes)
    for k, (p, y, a) in enumerate(samples):
        count(whole, f"case{k % 2}", p, y, a)
    parts = [Counts(classes) for _ in range(ranks)]
    order = list(enumerate(samples))
    random.shuffle(order)
    for k, (p, y, a) in order:
        count(parts[random.randrange(ranks)], f"case{k % 2}", p, y, a)
    merged = Counts(classes)
    for part in parts:
        merged.merge(part)
    for name in ARRAYS:
        assert_array_equal(getattr(merged, name), getattr(whole, name), err_msg=name)
    assert merged.cases.keys() == whole.cases.keys()
    for case, rows in whole.cases.items():
        assert_array_equal(merged.cases[case], rows)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.0, 0), (0.5, 7), (14 / 15 - 1e-6, 13), (14 / 15 + 1e-6, 14), (1.0, 14), (1.0000001, 14)],
)
def test_confidence_one_falls_in_the_last_bin(confidence, expected):
    assert bins(torch.tensor([confidence])).tolist() == [expected]


def test_certain_and_right_is_perfectly_calibrated():
    counts = Counts(2)
    truth = torch.tensor([[0, 1]], dtype=torch.uint8)
    count(counts, "a", torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), truth)
    assert counts.top[:, -1].tolist() == [2, 2, 2 * CONFIDENCE_UNIT]
    assert calibration_error(counts.top) == 0


def test_foreground_calibration_leaves_out_background_that_is_both_true_and_predicted():
    # Pixels (truth, predicted): (0, 0), (0, 1), (1, 0), (1, 1).
    truth = torch.tensor([0, 0, 1, 1], dtype=torch.uint8)
    first = torch.tensor([0.9, 0.2, 0.7, 0.4])
    p = torch.stack([first, 1 - first])
    counts = Counts(2)
    count(counts, "a", p, truth)
    assert counts.top[0].sum() == 4
    assert counts.foreground[0].sum() == 3
    # 0.8 wrong, 0.7 wrong, 0.6 right, each in its own bin.
    assert calibration_error(counts.foreground) == pytest.approx((0.8 + 0.7 + 0.4) / 3, abs=1e-6)
    everything = Counts(2)
    count(everything, "a", p, truth, background=False)
    assert_array_equal(everything.foreground, everything.top)


def test_slices_of_one_case_add_up():
    rng = torch.Generator().manual_seed(0)
    p, truth = (
        torch.rand(3, 4, 6, 6, generator=rng).softmax(0),
        torch.randint(0, 3, (4, 6, 6), generator=rng).to(torch.uint8),
    )
    slices, volume = Counts(3), Counts(3)
    for z in range(4):
        count(slices, "patient", p[:, z], truth[z])
    count(volume, "patient", p, truth)
    assert_array_equal(slices.cases["patient"], volume.cases["patient"])


# -- surface distances -------------------------------------------------------------------------------------------------


def by_definition(a, b, spacing):
    """HD95 as the larger directed 95th percentile, and the mean over both surfaces, from all pairs of surface
    voxels."""
    surfaces = [
        np.argwhere(m & ~binary_erosion(m, generate_binary_structure(m.ndim, 1))) * np.array(spacing) for m in (a, b)
    ]
    pairs = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    there, back = pairs.min(1), pairs.min(0)
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


@pytest.mark.parametrize("seed", range(6))
def test_surface_distances_equal_their_definition(seed):
    rng = np.random.default_rng(seed)
    shape, spacing = tuple(rng.integers(1, 8, 3)), (6.0, 1.5, 0.75)
    predicted, truth = (rng.integers(0, 3, shape).astype(np.uint8) for _ in range(2))
    predicted.flat[:2], truth.flat[-2:] = [1, 2], [1, 2]
    found = surface_distances(predicted, truth, [1, 2], 3, spacing)
    for c in (1, 2):
        a, b = predicted == c, truth == c
        expected = [*by_definition(a, b, (1, 1, 1)), *by_definition(a, b, spacing)]
        assert_allclose(found[:, c], expected, rtol=1e-5, err_msg=str(shape))
    assert np.isnan(found[:, 0]).all()


def test_a_shift_by_one_slice_is_one_voxel_and_as_many_millimetres_as_slices_are_apart():
    predicted, truth = np.zeros((2, 6, 5, 5), np.uint8)
    predicted[2, 2, 2], truth[3, 2, 2] = 1, 1
    assert surface_distances(predicted, truth, [1], 2, (8.0, 1.0, 1.0))[:, 1].tolist() == [1, 1, 8, 8]


@pytest.mark.parametrize("empty", ["truth", "prediction", "both"])
def test_distances_to_nothing_are_nan(empty):
    full = np.ones((2, 3, 3), np.uint8)
    predicted, truth = (full * (empty == "truth"), full * (empty == "prediction"))
    assert np.isnan(surface_distances(predicted, truth, [1], 2, (1, 1, 1))).all()


def test_without_spacing_there_are_no_millimetres():
    mask = np.ones((2, 3, 3), np.uint8)
    found = surface_distances(mask, mask, [1], 2, None)
    assert found[:2, 1].tolist() == [0, 0]
    assert np.isnan(found[2:, 1]).all()
