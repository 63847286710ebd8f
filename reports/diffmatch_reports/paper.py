"""The paper's tables, filled from records: measured beside published, a difference only where both mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from diffmatch.records.frame import Run, tidy
from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.records.tables import COSTS, Column, PublishedNumber, Table
from diffmatch.scoring.metrics import direction
from diffmatch_reports.paper_cells import Filled, Measured, PaperTable, Place, Source, key
from diffmatch_reports.paper_notes import basis, why_not_comparable
from diffmatch_reports.ranking import comparable, winners
from diffmatch_reports.wording import class_key

OF_TRAINING = ("parameters", "train_seconds")
"""Metrics that a run has once, whatever is scored."""
UNIT = {"parameters": 1e-6, "train_seconds": 1, "images_per_second": 1, "volumes_per_second": 1}
"""Factor between a record's number and the printed one. It is 100 for all others, which are printed in percent."""
BY_SEED = ["row", "column", "seed"]
OTHER_SPEED = {"images_per_second": "volumes_per_second", "volumes_per_second": "images_per_second"}


def readings(table: Table, sources: Mapping[Place, Sequence[Source]]) -> Any:
    """The numbers of all cells: row, column, seed, split, value as printed. What was not computed is absent."""
    runs: dict[Path, tuple[RunRecord, dict[str, EvaluationRecord]]] = {}
    for source in (source for sources_of_cell in sources.values() for source in sources_of_cell):
        _, scored = runs.setdefault(source.folder, (source.record, {}))
        if source.evaluation:
            scored[source.evaluation.name] = source.evaluation
    wanted = [
        (row.name, key(column), source.record.seed, source.record.split.sha256, str(source.folder), *number)
        for row in table.rows
        for column in table.columns
        for source in sources.get((row.name, key(column)), ())
        if (number := _number(column, source))
    ]
    asked = pd.DataFrame(wanted, columns=["row", "column", "seed", "split", "run", "evaluation", "class", "metric"])
    if asked.empty:
        return asked.assign(value=0.0)
    recorded = tidy(Run(folder, record, list(scored.values())) for folder, (record, scored) in runs.items())
    numbers = asked.merge(recorded[["run", "evaluation", "class", "metric", "value"]])
    return numbers.assign(value=numbers.value * numbers.metric.map(UNIT).fillna(100))


def _number(column: Column, source: Source) -> tuple[str, str, str] | None:
    """Evaluation, class and metric of the number that a column prints of a run; None where the run was not scored."""
    if column.metric in OF_TRAINING:
        return "", "", column.metric
    if source.evaluation is None:
        return None
    if column.metric.startswith("class:"):
        return source.evaluation.name, column.metric.removeprefix("class:"), class_key(source.record.card["metric"])
    return source.evaluation.name, "", column.metric


def fill(
    table: Table,
    sources: Mapping[Place, Sequence[Source]],
    problems: Mapping[Place, str],
    published: Mapping[Place, PublishedNumber],
    *,
    preset: str,
    seeds: int,
    extra: Mapping[str, Any],
    checkpoint: str = "last",
) -> PaperTable:
    """Fill a table.

    Args:
        sources: (row name, `key` of the column) -> finished runs.
        problems: the same keys -> why a run has no number.
        seeds: a cell with fewer runs is blank, so that no column mixes different numbers of seeds.
        extra: settings of the command line, which no published number had.
    """
    numbers = readings(table, sources)
    measured = {
        place: Measured(tuple(values)) for place, values in numbers.groupby(["row", "column"], sort=False).value
    }
    draw = numbers.seed if table.redraw else numbers.seed * 0
    splits = numbers.groupby(["column", draw]).split.nunique()
    mixed = set(splits.index.get_level_values("column")[splits > 1])

    cells: dict[Place, Filled] = {}
    marks: dict[str, str] = {}
    for row in table.rows:
        for column in table.columns:
            place = row.name, key(column)
            runs = tuple(sources.get(place, ()))
            paper = published.get((row.name, column.published or column.name))
            cell = Filled(row, column, published=paper.value if paper else None, sources=runs)
            value = measured.get(place)
            if value is None or value.n < seeds:
                problem = problems.get(place, "") or _other_speed(column, runs)
                cells[place] = replace(cell, problem=problem)
                continue
            if place[1] in mixed:
                cells[place] = replace(cell, problem="two splits in one column", sources=())
                continue
            why = (why_not_comparable(table, column, source, preset, extra, checkpoint) for source in runs if paper)
            reason = next(filter(None, why), "")
            mark = marks.setdefault(reason, _mark(len(marks))) if reason else ""
            difference = value.mean - float(paper.value) if paper and not reason else None
            cells[place] = replace(cell, measured=value, difference=difference, mark=mark)
    by_seed = numbers.drop_duplicates(BY_SEED, keep="last").set_index(BY_SEED).value.sort_index()
    _embolden(cells, by_seed)
    footnotes = {mark: reason for reason, mark in marks.items()}
    filled = PaperTable(table, cells, footnotes, basis(table, cells, preset, checkpoint), checkpoint=checkpoint)
    for name in table.baseline if table.ours else ():
        for column in (c for c in table.columns if c.metric not in COSTS):
            _improve(filled, str(table.ours), name, column, by_seed)
    return filled


def _other_speed(column: Column, runs: Sequence[Source]) -> str:
    """Why a cell that asks for images a second is blank where whole volumes were scored, and the other way round."""
    other = OTHER_SPEED.get(column.metric)
    return f"the evaluation has {other}, not {column.metric}" if other and any(run.evaluation for run in runs) else ""


def _improve(filled: PaperTable, ours: str, base: str, column: Column, by_seed: Any) -> None:
    """`ours` against `base`: of the published numbers, and seed by seed of the measured ones that are comparable."""
    sign = direction(column.metric) if len(filled.table.baseline) == 1 else 1
    mine, theirs, place = filled.cells[ours, key(column)], filled.cells[base, key(column)], (base, key(column))
    if mine.published and theirs.published:
        filled.published_improvement[place] = sign * (float(mine.published) - float(theirs.published))
    if mine.measured and theirs.measured and comparable(mine, theirs):
        gains = sign * (by_seed[ours, key(column)] - by_seed[place]).dropna()
        if len(gains):
            filled.improvement[place] = Measured(tuple(gains))


def _mark(n: int) -> str:
    return "†‡§¶"[n] if n < 4 else f"†{n - 2}"


def _embolden(cells: dict[Place, Filled], by_seed: Any) -> None:
    """Mark the measured numbers that win their column, and its best published one. Costs are not contested."""
    contested = {place: cell for place, cell in cells.items() if cell.column.metric not in COSTS}
    best = winners(contested, by_seed)
    published_best = _best({p: float(cell.published) for p, cell in contested.items() if cell.published}, contested)
    for place, cell in contested.items():
        cells[place] = replace(cell, best=place in best, published_best=place in published_best)


def _best(values: Mapping[Place, float], cells: Mapping[Place, Filled]) -> set[Place]:
    """The places with the best value of their column, where at least two rows have one."""
    if not values:
        return set()
    oriented = pd.Series({place: value * direction(cells[place].column.metric) for place, value in values.items()})
    columns = oriented.groupby(level=1)
    return set(oriented.index[(oriented == columns.transform("max")) & (columns.transform("size") > 1)])


def fill_shares(
    table: Table, shares: Mapping[str, float], published: Mapping[Place, PublishedNumber], note: str
) -> PaperTable:
    """The class distribution tables, from the shares that the doctor counted: class -> 0..1."""
    row = table.rows[0]
    chosen = {key(column): shares[column.metric[6:]] for column in table.columns if column.metric[6:] in shares}
    total = sum(chosen.values()) or 1.0
    cells = {}
    for column in table.columns:
        paper = published.get((row.name, column.published or column.name))
        value = chosen.get(key(column))
        measured = None if value is None else Measured((100 * value / total,))
        cells[row.name, key(column)] = Filled(row, column, measured, paper.value if paper else None)
    return PaperTable(table, cells, {}, [note])
