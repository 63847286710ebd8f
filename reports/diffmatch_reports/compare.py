"""Two runs on the same test items: the paired bootstrap over cases, and a run's counts as the page's script reads them.

A class's score is sum(w part) / sum(w whole) over cases, w being how often a case was drawn: pooled IoU with part = TP and
whole = TP + FP + FN, mean Dice over cases with part = Dice and whole = 1 where it is defined. templates/compare.js does the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Card
from diffmatch.records.counts import Counts, Floats
from diffmatch.scoring.metrics import as_literature, mean, ratio
from diffmatch_reports.load import RunView, Score
from diffmatch_reports.names import run_name
from diffmatch_reports.wording import METRICS, labels, stamp

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Terms:
    """Of each case and class, what its score is made of: `part` and `whole`, (cases, C); `absent` scores a class that no case has."""

    part: Floats
    whole: Floats
    absent: float


@dataclass(frozen=True)
class Interval:
    """Second minus first of the primary metric, and the percentile interval of its bootstrap."""

    difference: float
    low: float
    high: float


def terms(counts: Counts, card: Card, protocol: str) -> Terms:
    """The counts of a test split, cases in sorted order, as the card's metric and the protocol's rule for absent classes read them."""
    empty = card.protocol(protocol).empty
    if card.metric == "mean_dice":
        dices = as_literature(counts, empty)[1]
        return Terms(np.nan_to_num(dices), (~np.isnan(dices)).astype(np.float64), np.nan)
    rows = np.stack([counts.cases[name] for name in sorted(counts.cases)]).astype(np.float64)
    return Terms(rows[:, 0], rows.sum(1), 0.0 if empty == "zero" else np.nan)


def by_class(found: Terms, weights: NDArray[Any]) -> Floats:
    """Scores of each class, (..., C), with cases drawn `weights` (..., cases) times."""
    scores: Floats = ratio(weights @ found.part, weights @ found.whole)
    scores[np.isnan(scores)] = found.absent
    return scores


def paired_bootstrap(first: Terms, second: Terms, scored: Sequence[int], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Difference of the primary metric, second minus first; cases are drawn with replacement, the same for both.

    Args:
        scored: classes whose mean is the primary metric.

    Returns:
        The 95 % percentile interval; a draw in which the metric is not defined is left out.
    """
    cases = len(first.part)
    drawn = (uniform(seed, resamples * cases) * cases).astype(np.int64).reshape(resamples, cases)
    weights = np.stack([np.bincount(row, minlength=cases) for row in drawn])

    def difference(w: NDArray[Any]) -> Any:
        before, after = (mean(by_class(found, w)[..., list(scored)], -1) for found in (first, second))
        return after - before

    found = difference(weights)
    low, high = np.percentile(found[~np.isnan(found)], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(difference(np.ones(cases))), float(low), float(high))


def uniform(seed: int, count: int) -> Floats:
    """Mulberry32: `count` numbers in [0, 1), the same in the page's script; its state after n numbers is seed + n * 0x6D2B79F5."""
    state = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5) + np.uint32(seed)
    t = (state ^ (state >> np.uint32(15))) * (state | np.uint32(1))
    t ^= t + (t ^ (t >> np.uint32(7))) * (t | np.uint32(61))
    numbers: Floats = (t ^ (t >> np.uint32(14))).astype(np.float64)
    return numbers / 2**32


def comparable(run: RunView) -> bool:
    """Whether the run has test counts by case; as the record says it, so that it holds of a slim run too."""
    return "test" in run.scores and bool(run.metrics("test").get("cases"))


def script(run: RunView) -> str:
    """data/<run>.js: the run's test counts, handed to the page's `receive`.

    ``items`` is a hash of the test items and their truth: runs that agree in it were scored on the same pixels.
    """
    record, card, score = run.record, run.card, run.scores["test"]
    found = terms(score.counts, card, score.record.protocol)
    content = {
        "name": run_name(run.folder, run.record),
        "label": title(run),
        "dataset": record.dataset,
        "protocol": score.record.protocol,
        "metric": METRICS[card.metric],
        "classes": card.names,
        "scored": card.scored,
        "items": items(score),
        "absent": None if np.isnan(found.absent) else found.absent,
        "cases": [_sparse(part, whole) for part, whole in zip(found.part, found.whole, strict=True)],
    }
    return f"receive({json.dumps(content, separators=(',', ':'), allow_nan=False)});\n"


def items(score: Score) -> str:
    """Hash of the case names and of each class's pixels in their truth."""
    found = hashlib.sha256()
    for name, rows in sorted(score.counts.cases.items()):
        found.update(json.dumps([name, (rows[0] + rows[2]).tolist()]).encode())
    return found.hexdigest()[:16]


def title(run: RunView) -> str:
    """A run in a list: method, budget, seed, settings that were changed, hash."""
    record = run.record
    changed = "".join(f", {key}={value}" for key, value in record.overrides.items())
    return f"{record.method}, {labels(record)}, seed {record.seed}{changed}{stamp(record)} ({record.hash[:8]})"


def _sparse(part: Floats, whole: Floats) -> list[float]:
    """class, part, whole for the classes that the case has."""
    return [number for c in np.flatnonzero(whole) for number in (int(c), _plain(part[c]), _plain(whole[c]))]


def _plain(value: float) -> float:
    return int(value) if value == int(value) else float(value)
