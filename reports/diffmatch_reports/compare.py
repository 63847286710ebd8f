"""Two comparable runs: what the page's script needs of each for its paired bootstrap over cases.

The score of a class over the cases drawn is sum(part) / sum(whole). Pooled IoU has part = TP and whole = TP + FP + FN,
mean Dice over cases has part = Dice and whole = 1 where it is defined. templates/compare.js draws the cases.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from diffmatch.domain import Card
from diffmatch.records.counts import Counts, Floats
from diffmatch.scoring.metrics import as_literature
from diffmatch_reports.load import RunView, Score
from diffmatch_reports.names import run_name
from diffmatch_reports.wording import METRICS, labels, stamp

RESAMPLES = 2000
"""Draws of the bootstrap on the page."""


@dataclass(frozen=True)
class Terms:
    """What scores are made of: `part` and `whole`, (cases, C); `absent` is the score of a class that no case has."""

    part: Floats
    whole: Floats
    absent: float


def terms(counts: Counts, card: Card, protocol: str) -> Terms:
    """The terms of a test split, cases sorted, by the card's metric and the protocol's rule for absent classes."""
    empty = card.protocol(protocol).empty
    if card.metric == "mean_dice":
        dices = as_literature(counts, empty)[1]
        return Terms(np.nan_to_num(dices), (~np.isnan(dices)).astype(np.float64), np.nan)
    rows = np.stack([counts.cases[name] for name in sorted(counts.cases)]).astype(np.float64)
    return Terms(rows[:, 0], rows.sum(1), 0.0 if empty == "zero" else np.nan)


def by_case(run: RunView) -> bool:
    """Whether the run has test counts by case; as the record says it, so that it holds of a slim run too."""
    return "test" in run.scores and bool(run.metrics("test").get("cases"))


def script(run: RunView) -> str:
    """data/<run>.js: the run's test counts, handed to the page's `receive`.

    ``items`` is a hash of the test items and their truth: runs that agree in it were scored on the same pixels. A pair
    that differs in one of the ``conditions`` is told what differs, and is not tested.
    """
    card, score = run.card, run.scores["test"]
    case_terms = terms(score.counts, card, score.record.protocol)
    content = {
        "name": run_name(run.folder, run.record),
        "label": title(run),
        "conditions": run.conditions.words(),
        "metric": METRICS[card.metric],
        "classes": card.names,
        "scored": card.scored,
        "items": items(score),
        "absent": None if np.isnan(case_terms.absent) else case_terms.absent,
        "cases": [_sparse(part, whole) for part, whole in zip(case_terms.part, case_terms.whole, strict=True)],
    }
    return f"receive({json.dumps(content, separators=(',', ':'), allow_nan=False)});\n"


def items(score: Score) -> str:
    """Hash of the case names and of each class's pixels in their truth."""
    digest = hashlib.sha256()
    for name, rows in sorted(score.counts.cases.items()):
        digest.update(json.dumps([name, (rows[0] + rows[2]).tolist()]).encode())
    return digest.hexdigest()[:16]


def title(run: RunView) -> str:
    """A run in a list: method, budget, seed, settings that were changed, hash."""
    record = run.record
    changed = "".join(f", {key}={value}" for key, value in record.changes.items())
    return f"{record.method}, {labels(record)}, seed {record.seed}{changed}{stamp(record)} ({record.hash[:8]})"


def _sparse(part: Floats, whole: Floats) -> list[float]:
    """class, part, whole for the classes that the case has."""
    return [number for c in np.flatnonzero(whole) for number in (int(c), _plain(part[c]), _plain(whole[c]))]


def _plain(value: float) -> float:
    return int(value) if value == int(value) else float(value)
