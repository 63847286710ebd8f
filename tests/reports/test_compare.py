"""What the page's bootstrap adds up gives the metric itself, computed afresh on every draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diffmatch.domain import Card, Protocol
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.scoring.metrics import summary
from diffmatch_reports.compare import Terms, items, script, terms
from diffmatch_reports.load import load_run

Make = Callable[..., RunFolder]


def counts(rng: np.random.Generator, cases: int = 7, classes: int = 4) -> Counts:
    """Random cases that lack classes here and there; the confusion matrix has their margins."""
    found = Counts(classes)
    for n in range(cases):
        rows = rng.integers(0, 20, (3, classes)) * rng.integers(0, 2, (1, classes))
        found.cases[f"case{n}"] = rows
    return found


def drawn(found: Counts, indices: np.ndarray) -> Counts:
    """The counts of a resample: the cases at `indices`, each under a name of its own."""
    names = sorted(found.cases)
    again = Counts(found.classes)
    again.cases = {f"{n:03d}": found.cases[names[i]] for n, i in enumerate(indices)}
    tp, fp, fn = np.sum([again.cases[n] for n in again.cases], axis=0)
    again.confusion = np.zeros(
        (found.classes + 1, found.classes + 1), np.int64
    )  # errors go to and come from a class beyond
    again.confusion[:-1, :-1] = np.diag(tp)
    again.confusion[-1, :-1], again.confusion[:-1, -1] = fp, fn
    return again


def primary(found: Counts, card: Card, empty: Any) -> float:
    """The metric as the record has it, from diffmatch.metrics.summary."""
    extended = Counts(found.classes + 1)
    extended.confusion = found.confusion
    extended.cases = {name: np.pad(rows, ((0, 0), (0, 1))) for name, rows in found.cases.items()}
    wider = card.model_copy(update={"classes": (*card.classes, card.classes[0].model_copy(update={"name": "beyond"}))})
    per_class = summary(extended, wider, [1] * (found.classes + 1), empty=empty)["per_class"]
    key = "dice" if card.metric == "mean_dice" else "iou"
    return float(np.mean([v for c in card.scored if (v := per_class[card.names[c]].get(key)) is not None]))


def score(found: Terms, indices: np.ndarray, scored: list[int]) -> float:
    """The primary metric of the cases at `indices`, as templates/compare.js has it."""
    whole = found.whole[indices].sum(0)
    classes = np.where(whole > 0, found.part[indices].sum(0) / np.maximum(whole, 1e-12), found.absent)[scored]
    return float(np.nanmean(classes))


@pytest.mark.parametrize("metric", ["mean_dice", "mean_iou", "changed_iou"])
@pytest.mark.parametrize("empty", ["excluded", "zero", "transunet"])
def test_terms_give_the_metric_of_every_resample(make_run: Make, metric: str, empty: str) -> None:
    protocols = (Protocol(name="p", title="p", mode="image", empty=empty),)
    card = load_run(make_run(full=False)).card.model_copy(update={"metric": metric, "protocols": protocols})
    rng = np.random.default_rng(3)
    found = counts(rng)
    own = terms(found, card, "p")
    for indices in (np.arange(7), *rng.integers(0, 7, (40, 7))):
        assert score(own, indices, card.scored) == pytest.approx(primary(drawn(found, indices), card, empty))


def test_terms_give_the_records_own_number(make_run: Make) -> None:
    run = load_run(make_run())
    own = run.scores["test"]
    found = terms(own.counts, run.card, own.record.protocol)
    value = score(found, np.arange(len(found.part)), run.card.scored)
    assert value == pytest.approx(run.metrics("test")["primary"]["value"])


def test_the_data_file_holds_the_terms_and_the_hash_of_the_items(make_run: Make) -> None:
    run, other = load_run(make_run(light=True)), load_run(make_run(light=True, method="fixmatch", skill=1.0))
    text = script(run)
    content = json.loads(text.removeprefix("receive(").removesuffix(");\n"))
    found = terms(run.scores["test"].counts, run.card, "volume")
    first = dict(zip(content["cases"][0][::3], content["cases"][0][1::3], strict=True))
    assert first == {c: found.part[0, c] for c in np.flatnonzero(found.whole[0])}
    assert content["items"] == items(other.scores["test"])[:16]
    other.scores["test"].counts.cases["patient000"][2, 1] += 1
    assert content["items"] != items(other.scores["test"]), "another truth is another test set"
