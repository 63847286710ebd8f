"""Runs side by side. Only runs on the same data, split and protocol share a board; seeds of the same settings share a row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffmatch.domain import Card
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import METRICS, changed, class_metric, labels, machines, page_caveats

MANY_COLUMNS = 12
EXTRA = {"val": "chosen on the validation split", "oracle": "best on test"}
ORACLE = (
    "The column oracle is the best of a run's test evaluations, where there are several. It was chosen by looking at the test split, "
    "so it is not a result: it says how much the choice of checkpoint and sampling could have given."
)


@dataclass(frozen=True)
class Cell:
    """Mean over `n` seeds; the standard deviation (n - 1) exists from two seeds on."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One line of a board. Without cells it says why in `status` and, where it is known, `reason`."""

    name: str
    note: str
    seeds: list[int]
    status: str
    cells: dict[str, Cell]
    runs: list[RunView] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class Board:
    """Runs that may be compared: same dataset and data fingerprint, same split hash, same protocol.

    Attributes:
        columns: key of a cell -> its heading; the headline is `primary`.
        extra: columns shown on demand, `val` and `oracle`, of the same metric; only those that have a number.
        number: counted from 1 over all boards.
        scored: test items behind every number, None before the first score.
        shared: changed settings that all runs have in common, `key=value`; the rows' notes leave them out.
    """

    first: RunView
    columns: dict[str, str]
    extra: dict[str, str]
    rows: list[Row]
    scored: int | None
    shared: list[str]
    number: int = 1

    @property
    def title(self) -> str:
        return f"{self.first.card.title}, {labels(self.first.record)} labelled"

    @property
    def basis(self) -> str:
        record = self.first.record
        n = f", n = {self.scored}" if self.scored is not None else ""
        mixed = machines(run.record for row in self.rows for run in row.runs if row.cells)
        return (
            f"Test split{n}, protocol {self.first.protocol}, last checkpoint, split {record.split.family} "
            f"(sha256 {record.split.sha256[:8]}), {'invented ' if record.data.fabricated else ''}data {record.data.fingerprint[:8]}"
            + (f"; all with {', '.join(self.shared)}" if self.shared else "")
            + "".join(f"; {text[0].lower()}{text[1:-1]}" for text in mixed)
        )

    @property
    def methods(self) -> int:
        """How many different methods have a number."""
        return len({row.name for row in self.rows if row.runs and row.cells})

    @property
    def caveats(self) -> list[str]:
        return page_caveats([run.record for row in self.rows for run in row.runs])


def boards(runs: Iterable[RunView]) -> list[Board]:
    """Group runs into boards, in the order in which they come."""
    groups: dict[tuple[str, str, str, str], list[RunView]] = defaultdict(list)
    for run in runs:
        record = run.record
        groups[record.dataset, record.data.fingerprint, record.split.sha256, run.protocol].append(run)
    return [replace(_board(group), number=number) for number, group in enumerate(groups.values(), 1)]


def values(metrics: dict[str, Any], card: Card) -> dict[str, float]:
    """The numbers of one evaluation that a board has columns for; missing ones are left out."""
    key, _ = class_metric(card)
    found = {group: metrics.get(group, {}).get("value") for group in ("primary", "head", "tail")}
    found["ece"] = metrics.get("ece")
    found |= {f"class {name}": row.get(key) for name, row in metrics.get("per_class", {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def chosen(run: RunView) -> dict[str, float]:
    """The primary metric on test, under the headline's protocol, of the checkpoint chosen on val, and of the best evaluation of several."""
    found = [
        (e, e.metrics["primary"]["value"])
        for e in run.evaluations
        if e.split == "test" and e.protocol == run.protocol and "value" in e.metrics.get("primary", {})
    ]
    own = run.scores["test"].record if "test" in run.scores else None
    known: dict[str, float] = {}
    for e, value in found:
        if own and e.checkpoint == "val" and (e.steps, e.draws) == (own.steps, own.draws):
            known["val"] = value
    if len(found) > 1:
        known["oracle"] = max(value for _, value in found)
    return known


def _board(runs: list[RunView]) -> Board:
    first = runs[0]
    head, tail = first.ranks()
    classes = [first.card.names[c] for c in first.card.scored]
    if len(classes) > MANY_COLUMNS:
        classes = list(dict.fromkeys(head + tail))
    columns = {"primary": METRICS[first.card.metric], "head": "Head", "tail": "Tail", "ece": "ECE"}
    columns |= {f"class {name}": name for name in classes}

    each = [changed(run.record) for run in runs]
    shared = [what for what in each[0] if all(what in one for one in each)]
    rows = []
    done: dict[tuple[str, str, str], dict[int, RunView]] = defaultdict(dict)
    others = []
    for run in runs:
        if run.record.status == "done" and run.metrics("test"):
            done[run.record.method, run.record.preset, run.record.hash][run.record.seed] = run
        else:
            others.append(run)
    for (method, _, _), seeds in done.items():
        rows.append(
            Row(method, _note(next(iter(seeds.values())), shared), sorted(seeds), "done", _cells(seeds.values()), list(seeds.values()))
        )
    notes = Counter((row.name, row.note) for row in rows)
    rows = [replace(r, note=f"{r.note}, hash {r.runs[0].record.hash[:8]}") if notes[r.name, r.note] > 1 else r for r in rows]
    rows.sort(key=lambda row: -row.cells["primary"].mean if "primary" in row.cells else 0)
    for run in others:
        status = run.record.status if run.record.status != "done" else "not scored"
        rows.append(Row(run.record.method, _note(run, shared), [run.record.seed], status, {}, [run], run.record.reason or ""))

    extra = {key: hint for key, hint in EXTRA.items() if any(key in row.cells for row in rows)}
    scored = next((run for run in runs if "test" in run.scores), None)
    if scored:
        cells = {name: Cell(value, None, 1) for name, value in values(scored.scores["test"].baseline, scored.card).items()}
        rows.append(Row("majority", f"always {scored.majority_class}", [], "baseline", cells))
    return Board(first, columns, extra, rows, scored.metrics("test").get("cases") if scored else None, shared)


def _cells(runs: Iterable[RunView]) -> dict[str, Cell]:
    collected: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for name, value in (values(run.metrics("test"), run.card) | chosen(run)).items():
            collected[name].append(value)
    return {
        name: Cell(float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else None, len(found))
        for name, found in collected.items()
    }


def _note(run: RunView, shared: Sequence[str]) -> str:
    return ", ".join([run.record.preset, *(what for what in changed(run.record) if what not in shared)])
