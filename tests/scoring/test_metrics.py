"""The numbers made from counts: hand-worked values, policy for what is absent, merging and files."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffmatch.domain import Card, ClassInfo, ForegroundThirds, Named, Protocol, TopBottom
from diffmatch.records.counts import BINS, CONFIDENCE_UNIT, SURFACE, Counts
from diffmatch.scoring.metrics import as_literature, calibration_error, case_dice, dice, iou, majority, mean, summary


def card(classes: int = 4, **changes) -> Card:
    base = {
        "version": 1,
        "name": "toy",
        "title": "toy",
        "modality": "none",
        "label_unit": "cases",
        "budgets": ("1",),
        "classes": tuple(ClassInfo(name=f"c{i}", color=(0, 0, 0)) for i in range(classes)),
        "metric": "mean_dice",
        "protocols": (Protocol(name="volume", title="volume", mode="volume"),),
        "head_tail": ForegroundThirds(),
        "licence": "",
        "citation": "",
        "source": "",
    }
    return Card(**(base | changes))


def random_counts(classes: int, seed: int, cases: int = 3) -> Counts:
    rng = np.random.default_rng(seed)
    counts = Counts(classes)
    for k in range(cases):
        confusion = rng.integers(0, 50, (classes, classes))
        counts.confusion += confusion
        tp = np.diag(confusion)
        counts.cases[f"case{seed}-{k}"] = np.stack([tp, confusion.sum(0) - tp, confusion.sum(1) - tp])
    for array in (counts.accepted, counts.top, counts.foreground, counts.per_class):
        array += rng.integers(0, 1000, array.shape)
    return counts


# -- IoU, Dice and the empty cases -------------------------------------------------------------------------------------


def test_iou_by_hand():
    # Class 0: TP 5, FP 1, FN 3. Class 1: TP 2, FP 3, FN 1. Class 2 is in neither.
    confusion = np.array([[5, 3, 0], [1, 2, 0], [0, 0, 0]])
    assert_allclose(iou(confusion), [5 / 9, 2 / 6, np.nan])


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "expected"),
    [(0, 0, 7, 0.0), (0, 7, 0, 0.0), (0, 0, 0, math.nan), (4, 0, 0, 1.0), (3, 1, 2, 6 / 9)],
    ids=["missed", "invented", "absent from both", "perfect", "partly"],
)
def test_dice_of_one_case(tp, fp, fn, expected):
    assert_allclose(dice(np.array([[tp], [fp], [fn]])), [expected])


def test_a_case_in_which_a_class_is_absent_is_left_out_of_its_mean_and_counted():
    counts = Counts(4)
    counts.confusion[0, 0] = 1
    counts.cases = {
        "a": np.array([[9, 3, 0, 0], [0, 1, 0, 5], [0, 2, 0, 0]]),
        "b": np.array([[9, 4, 0, 0], [0, 0, 0, 0], [0, 0, 6, 0]]),
    }
    assert_allclose(case_dice(counts), [[1, 6 / 9, np.nan, 0], [1, 1, 0, np.nan]])
    found = summary(counts, card(), [1, 1, 1, 1])
    assert found["per_class"]["c1"]["dice"] == pytest.approx((6 / 9 + 1) / 2)
    assert found["per_class"]["c1"]["n_valid"] == 2
    assert found["per_class"]["c2"]["dice"] == 0
    assert found["per_class"]["c2"]["n_valid"] == 1
    assert found["primary"] == {"name": "mean_dice", "value": pytest.approx((10 / 12 + 0 + 0) / 3), "n_valid": 3}


def test_mean_leaves_nan_out_without_a_warning(recwarn):
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    assert_array_equal(mean(values, 0), [2, np.nan])
    assert mean(values) == 2
    assert np.isnan(mean(np.array([np.nan])))
    assert not recwarn.list


# -- calibration -------------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    # 4 pixels at 0.9, of which 2 are right; 1 right pixel at 0.5: |2 - 3.6| and |1 - 0.5| over 5 pixels.
    rows = np.zeros((3, BINS), np.int64)
    rows[:, 13] = 4, 2, round(3.6 * CONFIDENCE_UNIT)
    rows[:, 7] = 1, 1, CONFIDENCE_UNIT // 2
    assert calibration_error(rows) == pytest.approx((1.6 + 0.5) / 5, abs=1e-6)


def test_calibration_error_of_nothing_is_nan_and_keeps_the_leading_axes():
    rows = np.zeros((3, 2, BINS), np.int64)
    rows[:, 1, 14] = 10, 10, 10 * CONFIDENCE_UNIT
    assert_array_equal(calibration_error(rows), [np.nan, 0.0])


# -- merging and files -------------------------------------------------------------------------------------------------


def equal(a: Counts, b: Counts) -> bool:
    arrays = ("confusion", "accepted", "top", "foreground", "per_class")
    return (
        all(np.array_equal(getattr(a, n), getattr(b, n)) and getattr(a, n).dtype == getattr(b, n).dtype for n in arrays)
        and a.cases.keys() == b.cases.keys()
        and all(np.array_equal(a.cases[k], b.cases[k]) for k in a.cases)
        and a.surface.keys() == b.surface.keys()
        and all(np.array_equal(a.surface[k], b.surface[k], equal_nan=True) for k in a.surface)
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_merging_in_any_order_gives_the_same_integers(order):
    parts = [random_counts(3, seed) for seed in range(3)]
    for part in parts:
        part.cases["shared"] = np.full((3, 3), 1)
    total = Counts(3)
    for k in order:
        total.merge(parts[k])
    assert_array_equal(total.confusion, sum(p.confusion for p in parts))
    assert_array_equal(total.top, sum(p.top for p in parts))
    assert_array_equal(total.per_class, sum(p.per_class for p in parts))
    assert_array_equal(total.cases["shared"], np.full((3, 3), 3))
    assert len(total.cases) == 10
    assert_array_equal(parts[1].cases["shared"], 1, err_msg="merging changes only the target")


def test_a_file_holds_all_of_it(tmp_path):
    counts = random_counts(4, 0)
    counts.surface = {"b": np.full((4, 4), np.nan), "a": np.arange(16.0).reshape(4, 4)}
    counts.save(tmp_path / "new" / "counts.npz")
    assert equal(Counts.load(tmp_path / "new" / "counts.npz"), counts)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["counts.npz"], "nothing temporary stays"


def test_an_empty_file_is_loaded_too(tmp_path):
    Counts(2).save(tmp_path / "empty.npz")
    assert equal(Counts.load(tmp_path / "empty.npz"), Counts(2))


def test_memory_does_not_depend_on_pixels():
    fields = {
        f.name: getattr(Counts(5), f.name)
        for f in dataclasses.fields(Counts)
        if f.name not in ("classes", "cases", "surface")
    }
    assert {n: a.shape for n, a in fields.items()} == {
        "confusion": (5, 5),
        "accepted": (5, 5),
        "top": (3, BINS),
        "foreground": (3, BINS),
        "per_class": (3, 5, BINS),
    }
    assert all(a.dtype == np.int64 for a in fields.values())


# -- the baseline that always gives one answer -------------------------------------------------------------------------


@pytest.mark.parametrize("klass", [0, 2])
def test_majority_equals_counting_a_constant_prediction(klass):
    rng = np.random.default_rng(1)
    other, constant = Counts(3), Counts(3)
    for case in ("a", "b"):
        truth = rng.integers(0, 3 if case == "a" else 2, 40)
        for counts, predicted in ((other, rng.integers(0, 3, 40)), (constant, np.full(40, klass))):
            confusion = np.zeros((3, 3), np.int64)
            np.add.at(confusion, (truth, predicted), 1)
            tp = np.diag(confusion)
            counts.confusion += confusion
            counts.cases[case] = np.stack([tp, confusion.sum(0) - tp, confusion.sum(1) - tp])
    assert equal(majority(other, klass), constant)


# -- the record's numbers ----------------------------------------------------------------------------------------------


def numbers(tree):
    for value in tree.values():
        if isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, float):
            yield value


def test_a_number_that_cannot_be_computed_is_absent():
    found = summary(Counts(4), card(), [0, 0, 0, 0])
    assert "value" not in found["primary"]
    assert found["primary"]["n_valid"] == 0
    for key in ("ece", "ece_top", "ece_foreground", "ece_classwise", "accuracy", "mean_iou", "acceptance", "f1"):
        assert key not in found
    assert "value" not in found["head"]
    for row in found["per_class"].values():
        assert not {"iou", "dice", "recall", "precision", "ece", *SURFACE} & row.keys()
        assert row["truth_pixels"] == 0
    assert found["cases"] == found["pixels"] == 0


def test_no_nan_and_no_numpy_in_a_record():
    import json

    counts = random_counts(4, 3)
    counts.confusion[:, 2] = counts.confusion[2] = 0
    counts.surface = {"x": np.full((4, 4), np.nan)}
    found = summary(counts, card(), np.array([5, 4, 3, 2]))
    json.dumps(found, allow_nan=False)
    assert not [v for v in numbers(found) if math.isnan(v)]
    assert "iou" not in found["per_class"]["c2"]
    assert found["per_class"]["c1"]["n_distances"] == 0
    assert "hd95_mm" not in found["per_class"]["c1"]


def test_mean_dice_leaves_the_background_out_and_mean_iou_does_not():
    counts = random_counts(3, 4)
    assert summary(counts, card(3), [3, 2, 1])["primary"]["value"] == pytest.approx(
        mean(case_dice(counts), 0)[1:].mean()
    )
    images = card(3, metric="mean_iou", label_unit="images", head_tail=TopBottom(k=1))
    found = summary(counts, images, [3, 2, 1])
    assert found["primary"] == {"name": "mean_iou", "value": pytest.approx(iou(counts.confusion).mean()), "n_valid": 3}
    assert "dice" not in found["per_class"]["c0"]


def test_changed_iou_is_the_changed_class_alone_with_f1():
    counts = Counts(2)
    counts.confusion[:] = [[50, 6], [4, 10]]
    change = card(2, metric="changed_iou", label_unit="images", head_tail=Named(head=(0,), tail=(1,)), dates=2)
    found = summary(counts, change, [60, 14])
    assert found["primary"] == {"name": "changed_iou", "value": pytest.approx(0.5), "n_valid": 1}
    assert found["f1"] == pytest.approx(20 / 30)
    assert found["accuracy"] == pytest.approx(60 / 70)
    assert found["tail"] == {"classes": ["c1"], "value": pytest.approx(0.5)}
    assert found["per_class"]["c1"]["recall"] == pytest.approx(10 / 14)
    assert found["per_class"]["c1"]["precision"] == pytest.approx(10 / 16)


@pytest.mark.parametrize(
    ("rule", "pixels", "head", "tail"),
    [
        (TopBottom(k=2), [5, 9, 1, 7, 1], ["c1", "c3"], ["c2", "c4"]),
        (ForegroundThirds(), [999, 9, 1, 7, 2], ["c1"], ["c2"]),
        (Named(head=(0,), tail=(3, 4)), [0, 0, 0, 0, 0], ["c0"], ["c3", "c4"]),
    ],
)
def test_head_and_tail_by_the_rule_of_the_card(rule, pixels, head, tail):
    counts = random_counts(5, 5)
    images = card(5, metric="mean_iou", head_tail=rule)
    found = summary(counts, images, pixels)
    assert (found["head"]["classes"], found["tail"]["classes"]) == (head, tail)
    values = iou(counts.confusion)
    assert found["tail"]["value"] == pytest.approx(np.mean([values[int(name[1:])] for name in tail]))


def test_accepted_shares_are_of_the_predicted_pixels_of_each_class():
    counts = Counts(2)
    counts.confusion[:] = [[30, 10], [0, 10]]
    assert "acceptance" not in summary(counts, card(2), [1, 1])
    assert summary(counts, card(2), [1, 1], pool=True)["acceptance"] == {
        "c0": {"share": 0.0},
        "c1": {"share": 0.0},
    }  # computed, and none
    counts.accepted[:] = [[15, 4], [0, 1]]
    assert summary(counts, card(2), [1, 1], pool=True)["acceptance"] == {
        "c0": {"share": pytest.approx(0.5)},
        "c1": {"share": pytest.approx(0.25)},
    }


def test_the_headline_calibration_follows_the_card():
    counts = random_counts(2, 6)
    counts.top[:] = 0
    counts.top[:, 14] = 10, 9, 10 * CONFIDENCE_UNIT
    counts.foreground[:] = 0
    counts.foreground[:, 14] = 10, 4, 10 * CONFIDENCE_UNIT
    assert summary(counts, card(2), [1, 1])["ece"] == pytest.approx(0.1)
    assert summary(counts, card(2, foreground_calibration=True), [1, 1])["ece"] == pytest.approx(0.6)


def test_distances_are_means_over_cases_where_they_exist():
    counts = random_counts(3, 7)
    first, second = np.full((4, 3), np.nan), np.full((4, 3), np.nan)
    first[:, 1], second[:2, 1] = [2, 1, 6, 3], [4, 3]
    counts.surface = {"a": first, "b": second}
    rows = summary(counts, card(3), [1, 1, 1])["per_class"]
    counts.surface["c"] = np.full((4, 3), np.nan)
    assert summary(counts, card(3), [1, 1, 1])["per_class"] == rows
    assert {k: rows["c1"][k] for k in (*SURFACE, "n_distances")} == {
        "hd95_voxel": 3,
        "asd_voxel": 2,
        "hd95_mm": 6,
        "asd_mm": 3,
        "n_distances": 2,
    }
    assert "hd95_voxel" not in rows["c2"]
    assert "n_distances" not in rows["c0"], "the background has no distances"
    assert summary(counts, card(3), [1, 1, 1], empty="transunet")["per_class"]["c1"]["n_distances"] == 2, (
        "zeros put in are no distances"
    )


# -- absent classes, as the literature has them (the six rules differ in these cells only) -----------------------------


@pytest.mark.parametrize(
    ("truth", "predicted", "ours", "zero", "transunet"),
    [(0, 0, math.nan, 0, 0), (0, 5, 0, 0, 1), (5, 0, 0, 0, 0), (5, 5, 1, 1, 1)],
)
def test_the_rule_for_absent_classes_follows_the_protocol(truth, predicted, ours, zero, transunet):
    counts = Counts(2)
    both = min(truth, predicted)
    counts.cases["a"] = np.array([[90, both], [0, predicted - both], [0, truth - both]])
    counts.confusion[:] = [[90, predicted - both], [truth - both, both]]
    counts.surface["a"] = np.full((4, 2), 0.0 if truth and predicted else np.nan)
    for rule, value in {"excluded": ours, "zero": zero, "transunet": transunet}.items():
        class_iou, dices, surface = as_literature(counts, rule)
        np.testing.assert_equal(dices[0, 1], value)
        np.testing.assert_equal(surface["a"][0, 1], 0.0 if rule == "transunet" or both else math.nan)
        np.testing.assert_equal(surface["a"][2, 1], 0.0 if both else math.nan)
        if rule != "transunet":
            np.testing.assert_equal(class_iou[1], value)
