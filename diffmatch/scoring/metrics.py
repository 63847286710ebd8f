"""The metrics made from the counts of a scored split. numpy only, so that reports need no torch.

Policy: a class that is absent in truth and prediction is NaN and left out of means, `n_valid` says how many remained;
    present in only
one of the two scores 0, and its surface distances are NaN. A protocol may name another policy of the literature
(`Protocol.empty`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Card, Empty
from diffmatch.records.counts import CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, SURFACE, Counts, Floats, Ints

SMALLER_IS_BETTER = frozenset({"ece", "ece_top", "ece_foreground", "ece_classwise", *SURFACE})
"""Of every other metric of a record a larger value is better."""


def direction(metric: str) -> int:
    """1 where a larger value of the metric is better, -1 where a smaller one is."""
    return -1 if metric in SMALLER_IS_BETTER else 1


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Elementwise quotient as float64, NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    quotient: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return quotient


def iou(confusion: Ints) -> Floats:
    """TP / (TP + FP + FN) per class over the whole split, (C,), NaN for a class in neither truth nor prediction."""
    tp = np.diag(confusion)
    return ratio(tp, confusion.sum(0) + confusion.sum(1) - tp)


def dice(rows: Ints) -> Floats:
    """2 TP / (2 TP + FP + FN): (..., 3, C) counts -> (..., C), NaN where a class is in neither truth nor prediction."""
    tp, fp, fn = rows[..., 0, :], rows[..., 1, :], rows[..., 2, :]
    return ratio(2 * tp, 2 * tp + fp + fn)


def case_dice(counts: Counts) -> Floats:
    """Dice per case and class, (cases in sorted order, C)."""
    names = sorted(counts.cases)
    return dice(np.stack([counts.cases[n] for n in names])) if names else np.zeros((0, counts.classes))


def mean(values: NDArray[Any], axis: int | None = None) -> Any:
    """Mean over what is not NaN; NaN, without a warning, where nothing is left."""
    valid = ~np.isnan(values)
    return ratio(np.where(valid, values, 0).sum(axis), valid.sum(axis))


def calibration_error(reliability: Ints) -> Floats:
    """Expected calibration error with equal-width bins: (3, ..., BINS) -> (...), NaN where no pixel fell in any bin.

    Guo et al. 2017, Eq. 3. Confidence exactly 1 falls in the last bin.
    """
    count = reliability[COUNT].astype(np.float64)
    gap = np.abs(reliability[CORRECT] - reliability[CONFIDENCE] / CONFIDENCE_UNIT)
    return ratio(gap.sum(-1), count.sum(-1))


def majority(counts: Counts, klass: int) -> Counts:
    """The counts of the baseline that answers `klass` everywhere.

    They follow from another prediction's truth margins. They have no calibration and no distances.
    """
    truth = counts.confusion.sum(1)
    baseline = Counts(counts.classes)
    baseline.confusion[:, klass] = truth
    for case, rows in counts.cases.items():
        present = rows[0] + rows[2]
        row = np.zeros_like(rows)
        row[2] = present
        row[:, klass] = present[klass], present.sum() - present[klass], 0
        baseline.cases[case] = row
    return baseline


def as_literature(counts: Counts, empty: Empty) -> tuple[Floats, Floats, dict[str, Floats]]:
    """IoU (C,), Dice per case (cases, C) and surface distances with absent classes treated as a protocol says.

    `zero`: absent in truth and prediction scores 0, not NaN (UniMatch). `transunet`: Dice per case is 1 for a class
        that is predicted
    though absent, 0 where it is absent or missed altogether, and distances in voxels are 0 in all three.
    """
    class_iou, dices, surface = iou(counts.confusion), case_dice(counts), dict(counts.surface)
    if empty == "zero":
        class_iou, dices = np.nan_to_num(class_iou), np.nan_to_num(dices)
    if empty == "transunet":
        names = sorted(counts.cases)
        rows = np.stack([counts.cases[n] for n in names]) if names else np.zeros((0, 3, counts.classes), np.int64)
        invented = (rows[:, 0] + rows[:, 2] == 0) & (rows[:, 1] > 0)
        dices = np.where(invented, 1.0, np.nan_to_num(dices))
        surface = {name: np.concatenate([np.nan_to_num(values[:2]), values[2:]]) for name, values in surface.items()}
    return class_iou, dices, surface


def summary(
    counts: Counts, card: Card, labelled_pixels: Sequence[float], pool: bool = False, empty: Empty = "excluded"
) -> dict[str, Any]:
    """The record's numbers of one evaluation. A number that cannot be computed is absent, never 0.

    Args:
        counts: of the whole split.
        card: gives the metric, the classes of the mean and the head/tail rule.
        labelled_pixels: per class in the labelled set, (C,): ranks head and tail.
        pool: the counts are of pseudo-labels: the share accepted is reported too, 0 where none was.
        empty: the protocol's rule for absent classes.

    Returns:
        ``primary`` {name, value, n_valid}, ``per_class`` {class: {metric: value}}, ``head``, ``tail`` {classes, value},
        ``ece`` ...
    """
    per_volume = card.metric == "mean_dice"
    class_iou, dices, surfaces = as_literature(counts, empty)
    class_dice, n_cases = mean(dices, 0), (~np.isnan(dices)).sum(0)
    main = class_dice if per_volume else class_iou
    truth, predicted = counts.confusion.sum(1), counts.confusion.sum(0)
    ece_class = calibration_error(counts.per_class)
    surface = np.stack([surfaces[n] for n in sorted(surfaces)]) if surfaces else None
    distances = mean(surface, 0) if surface is not None else None
    head, tail = card.ranked(labelled_pixels)

    def group(members: Iterable[int]) -> dict[str, Any]:
        chosen = list(members)
        return known({"classes": [card.names[c] for c in chosen], "value": mean(main[chosen])})

    per_class: dict[str, dict[str, Any]] = {}
    for c, name in enumerate(card.names):
        row: dict[str, Any] = {"iou": class_iou[c]}
        if per_volume:
            row |= {"dice": class_dice[c], "n_valid": int(n_cases[c])}
        if distances is not None and surface is not None and c in card.foreground:
            row |= {key: distances[i, c] for i, key in enumerate(SURFACE)}
            row["n_distances"] = sum(not np.isnan(values[0, c]) for values in counts.surface.values())
        row |= {
            "recall": float(ratio(np.diag(counts.confusion), truth)[c]),
            "precision": float(ratio(np.diag(counts.confusion), predicted)[c]),
            "ece": ece_class[c],
            "truth_pixels": int(truth[c]),
            "predicted_pixels": int(predicted[c]),
            "labelled_pixels": int(labelled_pixels[c]),
        }
        per_class[name] = known(row)

    foreground_ece = calibration_error(counts.foreground)
    top_ece = calibration_error(counts.top)
    result: dict[str, Any] = {
        "primary": known(
            {
                "name": card.metric,
                "value": mean(main[card.scored]),
                "n_valid": int((~np.isnan(main[card.scored])).sum()),
            }
        ),
        "per_class": per_class,
        "head": group(head),
        "tail": group(tail),
        "ece": foreground_ece if card.foreground_calibration else top_ece,
        "ece_top": top_ece,
        "ece_foreground": foreground_ece,
        "ece_classwise": mean(ece_class),
        "accuracy": float(ratio(np.diag(counts.confusion).sum(), counts.confusion.sum())),
        "mean_iou": mean(class_iou),
        "cases": len(counts.cases),
        "pixels": int(counts.confusion.sum()),
    }
    if card.metric == "changed_iou":
        result["f1"] = float(ratio(2 * counts.confusion[1, 1], truth[1] + predicted[1]))
    if pool:
        accepted = counts.accepted.sum(0)
        result["acceptance"] = {
            n: known({"share": float(ratio(accepted[c], predicted[c]))}) for c, n in enumerate(card.names)
        }
    return known(result)


def known(values: dict[str, Any]) -> dict[str, Any]:
    """Without the entries that are NaN, numpy scalars as Python numbers."""
    plain = {
        k: v.item() if isinstance(v, np.generic | np.ndarray) and np.ndim(v) == 0 else v for k, v in values.items()
    }
    return {k: v for k, v in plain.items() if not (isinstance(v, float) and np.isnan(v))}
