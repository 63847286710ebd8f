"""Which runs of a folder fill which cells of a table: from their records alone, without the plugins or the data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffmatch.records.schema import EvaluationRecord
from diffmatch.records.tables import Column, PublishedNumber, Row, Table
from diffmatch.settings import flatten
from diffmatch_reports.load import RunView
from diffmatch_reports.paper import PaperTable, Source, fill, key

Place = tuple[str, str]


@dataclass(frozen=True)
class Filling:
    """A table filled with runs that may stand together.

    Attributes:
        basis: what they share: preset, data, split family, settings that the table does not ask for.
        left_out: finished runs of a cell whose place a newer one has taken.
    """

    basis: str
    filled: PaperTable
    left_out: list[Source]


@dataclass
class _Group:
    """Runs of one preset, data, split family and extra settings, by cell."""

    first: RunView
    extra: dict[str, Any]
    cells: dict[Place, list[Source]] = field(default_factory=lambda: defaultdict(list))


def fillings(table: Table, runs: Iterable[RunView], published: Mapping[Place, PublishedNumber]) -> list[Filling]:
    """The table once for each group of runs that fill at least one of its cells, the fullest first.

    A cell holds the seeds of one hash, the newest; overridden settings are never pooled with others. A run stands in the cells that ask
    for most of its overrides.
    """
    groups: dict[tuple[str, str, str, str], _Group] = {}
    for run in runs:
        record = run.record
        if record.dataset != table.dataset or record.status != "done" or table.kind != "scores":
            continue
        for row, column, extra in _cells(table, run):
            score = _evaluation(run, table, row)
            if score is not None:
                what = record.preset, record.data.fingerprint, record.split.family, json.dumps(extra, sort_keys=True)
                group = groups.setdefault(what, _Group(run, extra))
                group.cells[row.name, key(column)].append(Source(run.folder, record, score))
    found = [_filling(table, group, published) for group in groups.values()]
    return sorted(found, key=lambda filling: -sum(cell.measured is not None for cell in filling.filled.cells.values()))


def _cells(table: Table, run: RunView) -> list[tuple[Row, Column, dict[str, Any]]]:
    """The cells that a run may fill, and which of its overrides they do not ask for: those with the fewest."""
    record = run.record
    settings, overrides = flatten(record.settings), flatten(record.overrides)
    found = []
    for row in table.rows:
        if row.method != record.method:
            continue
        for column in table.columns:
            if (column.labels or run.card.budgets[0]) != record.labels.budget:
                continue
            asked = table.asked(row, column, record.preset, record.seed)
            if all(name in settings and settings[name] == value for name, value in asked.items()):
                found.append((row, column, {name: value for name, value in overrides.items() if name not in asked}))
    fewest = min((len(extra) for *_, extra in found), default=0)
    return [cell for cell in found if len(cell[2]) == fewest]


def _evaluation(run: RunView, table: Table, row: Row) -> EvaluationRecord | None:
    """The last checkpoint's test evaluation that a row asks for: the run's own sampling where the row names no steps."""
    own = run.scores["test"].record if "test" in run.scores else None
    if own is None:
        return None
    wanted = table.protocol or run.card.protocols[0].name, row.steps or own.steps, own.draws
    for e in run.evaluations:
        if (e.split, e.checkpoint) == ("test", "last") and (e.protocol, e.steps, e.draws) == wanted:
            return e
    return None


def _filling(table: Table, group: _Group, published: Mapping[Place, PublishedNumber]) -> Filling:
    record = group.first.record
    sources: dict[Place, list[Source]] = {}
    left_out: dict[Path, Source] = {}
    for place, found in group.cells.items():
        sources[place], older = newest(found)
        left_out |= {source.folder: source for source in older}
    extra = "".join(f", {name}={value}" for name, value in group.extra.items())
    data = f"{'invented' if record.data.fabricated else 'real'} data {record.data.fingerprint[:8]}"
    basis = f"{record.preset} preset, {data}, split {record.split.family}{extra}"
    filled = fill(table, sources, {}, published, preset=record.preset, seeds=1, extra=group.extra)
    return Filling(basis, filled, list(left_out.values()))


def newest(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """The seeds of the hash that was run last, and the rest; of one seed twice (two folders) the later one."""

    def when(source: Source) -> str:
        return str(source.record.environment.get("time", ""))

    ordered = sorted(sources, key=when)
    seeds = {source.record.seed: source for source in ordered if source.record.hash == ordered[-1].record.hash}
    chosen = [seeds[seed] for seed in sorted(seeds)]
    kept = {source.folder for source in chosen}
    return chosen, [source for source in ordered if source.folder not in kept]
