"""From probabilities to counts: constant memory, exact integers, so that ranks and batches may come in any order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from diffmatch.domain import VOID, Mask
from diffmatch.records.counts import BINS, CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Counts


def count(
    counts: Counts,
    case: str,
    probabilities: Tensor,
    truth: Tensor,
    accepted: Tensor | None = None,
    background: bool = True,
) -> None:
    """Add one item to the counts.

    Args:
        counts: changed in place.
        case: the row to which its true and false positives go; slices of one case add up.
        probabilities: (C, ...) float, on any device.
        truth: (...) uint8 with 255 = void, on the same grid.
        accepted: (...) bool, pixels whose pseudo-label would be trained on.
        background: class 0 is background, and the foreground calibration leaves out pixels where it is both true and
            predicted.
    """
    classes = counts.classes
    valid = truth.flatten() != VOID
    p = probabilities.flatten(1)[:, valid]
    y = truth.flatten()[valid].long()
    confidence, predicted = p.max(0)
    confusion = _bincount(y * classes + predicted, classes * classes).reshape(classes, classes)
    counts.confusion += confusion
    tp = np.diag(confusion)
    rows = np.stack([tp, confusion.sum(0) - tp, confusion.sum(1) - tp])
    counts.cases[case] = counts.cases[case] + rows if case in counts.cases else rows
    if accepted is not None:
        taken = accepted.flatten()[valid]
        counts.accepted += _bincount((y * classes + predicted)[taken], classes * classes).reshape(classes, classes)

    right = predicted == y
    _reliability(counts.top, confidence, right)
    kept = (predicted > 0) | (y > 0) if background else torch.ones_like(right)
    _reliability(counts.foreground, confidence[kept], right[kept])
    for c in range(classes):
        _reliability(counts.per_class[:, c], p[c], y == c)


def bins(confidence: Tensor) -> Tensor:
    """Index of the equal-width bin, 0..BINS-1; confidence 1 falls in the last."""
    return (confidence.double() * BINS).long().clamp(0, BINS - 1)


def _reliability(rows: NDArray[np.int64], confidence: Tensor, right: Tensor) -> None:
    index = bins(confidence)
    units = (confidence.double() * CONFIDENCE_UNIT).round().long()
    rows[COUNT] += _bincount(index, BINS)
    rows[CORRECT] += _bincount(index[right], BINS)
    total = torch.zeros(BINS, dtype=torch.int64, device=index.device).scatter_add_(0, index, units)
    rows[CONFIDENCE] += total.cpu().numpy()


def _bincount(index: Tensor, length: int) -> NDArray[np.int64]:
    return torch.bincount(index, minlength=length).cpu().numpy()


def surface_distances(
    predicted: Mask, truth: Mask, classes: Sequence[int], total: int, spacing: Sequence[float] | None
) -> NDArray[np.float64]:
    """HD95 and average symmetric surface distance per class of one volume, rows named by `metrics.SURFACE`, (4, total).

    NaN where truth or prediction has no voxel of the class, in millimetres also where the spacing is unknown; the
    classes that are not asked for stay NaN. MONAI measures: HD95 is the larger of the two directed 95th percentiles
    (medpy: that of both together, smaller).

    Args:
        predicted, truth: (Z, H, W) class indices; void in the truth counts as background.
        spacing: millimetres along (Z, H, W).
    """
    result = np.full((4, total), np.nan)
    for c in classes:
        a, b = predicted == c, truth == c
        if not a.any() or not b.any():
            continue
        from monai.metrics import (  # takes seconds to import
            compute_average_surface_distance,
            compute_hausdorff_distance,
        )

        # Only the box around both surfaces matters; a margin of one voxel keeps their borders.
        where = np.argwhere(a | b)
        box = tuple(slice(max(lo - 1, 0), hi + 2) for lo, hi in zip(where.min(0), where.max(0), strict=True))
        pair = [torch.from_numpy(np.pad(m[box], 1))[None, None] for m in (a, b)]
        for row, mm in ((0, None), (2, spacing)):
            if row and mm is None:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kwargs = {"include_background": True, "spacing": None if mm is None else list(mm)}
                result[row, c] = float(compute_hausdorff_distance(*pair, percentile=95, **kwargs))
                result[row + 1, c] = float(compute_average_surface_distance(*pair, symmetric=True, **kwargs))
    return result


def gathered(counts: Counts) -> Counts:
    """All ranks' counts added up, on every rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return counts
    parts: list[Counts] = [counts] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, counts)
    total = Counts(counts.classes)
    for part in parts:
        total.merge(part)
    return total
