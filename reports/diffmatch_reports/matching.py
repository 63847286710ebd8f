"""Which runs of a folder fill which cells of a table: from their records alone, without the plugins or the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from diffmatch.records.comparable import Conditions
from diffmatch.records.schema import EvaluationRecord
from diffmatch.records.select import select_evaluation
from diffmatch.records.tables import Column, PublishedNumber, Row, Table
from diffmatch.settings import flatten
from diffmatch_reports.load import RunView
from diffmatch_reports.paper import fill
from diffmatch_reports.paper_cells import PaperTable, Place, Source, key

PLACE = ["row", "column"]


@dataclass(frozen=True)
class Filling:
    """A table filled with runs that may stand together.

    Attributes:
        basis: what they share: preset, data, split family, settings that the table does not ask for, and the conditions
            in which they differ from the table's other fillings.
        left_out: finished runs of a cell whose place a newer one has taken.
    """

    basis: str
    filled: PaperTable
    left_out: list[Source]


def fillings(table: Table, runs: Iterable[RunView], published: Mapping[Place, PublishedNumber]) -> list[Filling]:
    """The table once for each group of runs that fill at least one of its cells, the fullest first.

    A cell holds the seeds of one hash, the newest; overridden settings are never pooled with others. A run stands in
    the cells that ask for most of its overrides.
    """
    settings = (table.set, *(column.set for column in table.columns), *(row.set for row in table.rows))
    asked = {"network.encoder" for column in table.columns if column.backbone}.union(*settings)
    sources: list[Source] = []
    extras: list[dict[str, Any]] = []
    conditions: list[dict[str, str]] = []
    claims = []
    for run in runs:
        record = run.record
        if record.dataset != table.dataset or record.status != "done" or table.kind != "scores":
            continue
        for row, column, extra in _cells(table, run):
            evaluation = _evaluation(run, table, row)
            if evaluation is None:
                continue
            shared = Conditions.of(record, evaluation.protocol).words(without=("split", *asked))
            conditions.append(shared)
            group = [shared, record.split.family, extra]
            when = str(record.environment.get("time", ""))
            claims.append((json.dumps(group, sort_keys=True), row.name, key(column), record.hash, record.seed, when))
            sources.append(Source(run.folder, record, evaluation))
            extras.append(extra)
    if not claims:
        return []
    claimed = pd.DataFrame(claims, columns=["group", *PLACE, "hash", "seed", "time"])
    differing = {name for one in conditions for name in one if one[name] != conditions[0][name]} - {"preset", "data"}
    apart = ["".join(f", {name} {value}" for name, value in one.items() if name in differing) for one in conditions]
    filled = [
        _filling(table, extras[own.index[0]], apart[own.index[0]], own, sources, published)
        for _, own in claimed.groupby("group", sort=False)
    ]
    return sorted(filled, key=lambda one: -sum(cell.measured is not None for cell in one.filled.cells.values()))


def _cells(table: Table, run: RunView) -> list[tuple[Row, Column, dict[str, Any]]]:
    """The cells that a run may fill, and which of its overrides they do not ask for: those with the fewest."""
    record = run.record
    settings, overrides = flatten(record.settings), record.changes
    name = f"{record.seed}-{record.hash}"
    own = [row for row in table.rows if row.method == record.method]
    naming = [row for row in own if name in row.records.get(record.labels.budget, ())]
    fitting = []
    for row in naming or [row for row in own if not row.records]:
        for column in table.columns:
            if (column.labels or run.card.budgets[0]) != record.labels.budget:
                continue
            asked = table.asked(row, column, record.preset, record.seed)
            if all(name in settings and settings[name] == value for name, value in asked.items()):
                fitting.append((row, column, {name: value for name, value in overrides.items() if name not in asked}))
    fewest = min((len(extra) for *_, extra in fitting), default=0)
    return [cell for cell in fitting if len(cell[2]) == fewest]


def _evaluation(run: RunView, table: Table, row: Row) -> EvaluationRecord | None:
    """The last checkpoint's test evaluation that a row asks for; the headline's steps where the row names none."""
    protocol = table.protocol or run.card.protocols[0].name
    return select_evaluation(run.record, run.evaluations, protocol=protocol, steps=row.steps)


def _filling(
    table: Table,
    extra: Mapping[str, Any],
    apart: str,
    claimed: Any,
    sources: Sequence[Source],
    published: Mapping[Place, PublishedNumber],
) -> Filling:
    """One group's table. The index of `claimed` says which of the sources makes the claim."""
    ordered = claimed.sort_values("time", kind="stable")
    newest = ordered[ordered.hash == ordered.groupby(PLACE).hash.transform("last")]
    kept = newest.drop_duplicates([*PLACE, "seed"], keep="last").sort_values("seed", kind="stable")
    cells = {place: [sources[n] for n in own.index] for place, own in kept.groupby(PLACE, sort=False)}
    left_out = {sources[n].folder: sources[n] for n in ordered.index.difference(kept.index, sort=False)}
    record = sources[claimed.index[0]].record
    settings = "".join(f", {name}={value}" for name, value in extra.items())
    data = f"{'invented' if record.data.fabricated else 'real'} data {record.data.fingerprint[:8]}"
    basis = f"{record.preset} preset, {data}, split {record.split.family}{apart}{settings}"
    filled = fill(table, cells, {}, published, preset=record.preset, seeds=1, extra=extra)
    return Filling(basis, filled, list(left_out.values()))
