"""The paper's tables, filled from records: measured beside published, a difference only where both mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.records.tables import COSTS, Column, PublishedNumber, Row, Table
from diffmatch_reports.wording import class_key, machines

SELECTION = {
    "last": "last checkpoint", "val": "best checkpoint on val",
    "oracle": "better of last and val's best checkpoint ON TEST, which is not a result",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One run behind a cell and the evaluation that was read."""

    folder: Path
    record: RunRecord
    evaluation: EvaluationRecord | None


@dataclass(frozen=True)
class Measured:
    """The values of one or more runs, seed by seed, as printed: percent, millions, images/s, seconds."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def std(self) -> float | None:
        """Standard deviation (n - 1), from two runs on."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else None


@dataclass(frozen=True)
class Filled:
    """A cell as it is printed.

    Attributes:
        measured: None where nothing was measured: the cell is blank, whatever the reason in `problem`.
        published: the paper's number, as printed there.
        difference: measured minus published, None where the two do not mean the same; `mark` is then the footnote that says why.
        best, published_best: the largest of its column.
    """

    row: Row
    column: Column
    measured: Measured | None = None
    published: str | None = None
    difference: float | None = None
    mark: str = ""
    problem: str = ""
    best: bool = False
    published_best: bool = False
    sources: tuple[Source, ...] = ()


@dataclass
class PaperTable:
    """A filled table with the footnotes that its marks refer to, and by which rule of SELECTION its checkpoints were chosen.

    Attributes:
        improvement: (baseline, `key` of the column) -> `ours` minus that row, seed by seed.
    """

    table: Table
    cells: dict[tuple[str, str], Filled]
    footnotes: dict[str, str]
    basis: list[str]
    improvement: dict[tuple[str, str], Measured] = field(default_factory=dict)
    published_improvement: dict[tuple[str, str], float] = field(default_factory=dict)
    checkpoint: str = "last"

    @property
    def blank(self) -> list[str]:
        """Cells that an installed method should have filled and did not."""
        return [
            f"{cell.row.name}, {cell.column.group} {cell.column.name}: {cell.problem or 'not run'}".replace("  ", " ")
            for cell in self.cells.values()
            if cell.row.method and cell.measured is None and "not installed" not in cell.problem
        ]


def key(column: Column) -> str:
    return f"{column.group} {column.name}".strip()


def number(column: Column, source: Source) -> float | None:
    """What a column prints of a run; None where it was not computed."""
    if column.metric == "parameters":
        return source.record.parameters["total"] / 1e6
    if column.metric == "train_seconds":
        return source.record.timing.get("train_seconds")
    if source.evaluation is None:
        return None
    if column.metric == "images_per_second":
        return source.evaluation.images_per_second
    metrics: Mapping[str, Any] = source.evaluation.metrics
    if column.metric.startswith("class:"):
        value = metrics["per_class"].get(column.metric[6:], {}).get(class_key(source.record.card["metric"]))
    elif column.metric in ("primary", "head", "tail"):
        value = metrics.get(column.metric, {}).get("value")
    else:
        value = metrics.get(column.metric)
    return None if value is None else 100 * float(value)


def why_not_comparable(table: Table, source: Source, preset: str, extra: Mapping[str, Any], checkpoint: str = "last") -> str:
    """Why a run's number may not be set against the published one; empty where it may."""
    record = source.record
    reasons = []
    if record.data.fabricated:
        reasons.append("invented data")
    if preset != "paper":
        reasons.append(f"{preset} preset")
    if extra:
        reasons.append("settings changed: " + ", ".join(f"{name}={value}" for name, value in extra.items()))
    if table.comparable is None:
        reasons.append("the published protocol is not one of ours")
    else:
        if source.evaluation and source.evaluation.protocol != table.comparable.protocol:
            reasons.append(f"protocol {source.evaluation.protocol}, published {table.comparable.protocol}")
        if record.split.family not in table.comparable.families:
            reasons.append(f"split {record.split.family}, published {' or '.join(table.comparable.families)}")
        if table.comparable.selection:
            reasons.append(f"{SELECTION[checkpoint]}, published {table.comparable.selection}")
    return "; ".join(reasons)


def fill(
    table: Table, sources: Mapping[tuple[str, str], Sequence[Source]], problems: Mapping[tuple[str, str], str],
    published: Mapping[tuple[str, str], PublishedNumber], *, preset: str, seeds: int, extra: Mapping[str, Any],
    checkpoint: str = "last",
) -> PaperTable:  # fmt: skip
    """Fill a table.

    Args:
        sources: (row name, `key` of the column) -> finished runs.
        problems: the same keys -> why a run has no number.
        seeds: a cell with fewer runs is blank, so that no column mixes different numbers of seeds.
        extra: settings of the command line, which no published number had.
    """
    cells: dict[tuple[str, str], Filled] = {}
    marks: dict[str, str] = {}
    hashes: dict[tuple[str, int], set[str]] = {}
    for row in table.rows:
        for column in table.columns:
            place = row.name, key(column)
            found = tuple(sources.get(place, ()))
            values = [v for source in found if (v := number(column, source)) is not None]
            for source in found:
                draw = source.record.seed if table.redraw else 0
                hashes.setdefault((key(column), draw), set()).add(source.record.split.sha256)
            paper = published.get((row.name, column.published or column.name))
            problem = problems.get(place, "") if len(values) < seeds else ""
            if len(values) < seeds or not values:
                cells[place] = Filled(row, column, published=paper.value if paper else None, problem=problem, sources=found)
                continue
            measured = Measured(tuple(values))
            why = (why_not_comparable(table, s, preset, extra, checkpoint) for s in found if paper)
            reason = next(filter(None, why), "")
            mark = marks.setdefault(reason, _mark(len(marks))) if reason else ""
            difference = measured.mean - float(paper.value) if paper and not reason else None
            cells[place] = Filled(row, column, measured, paper.value if paper else None, difference, mark, "", sources=found)
    for (name, _), found_hashes in hashes.items():
        if len(found_hashes) > 1:
            for place, cell in cells.items():
                if place[1] == name and cell.measured:
                    cells[place] = Filled(cell.row, cell.column, published=cell.published, problem="two splits in one column")
    filled = PaperTable(
        table, cells, {mark: reason for reason, mark in marks.items()}, basis(table, cells, preset, checkpoint), checkpoint=checkpoint
    )
    _embolden(filled)
    for name in table.baseline if table.ours else ():
        for column in (c for c in table.columns if c.metric not in COSTS):
            _improve(filled, filled.cells[str(table.ours), key(column)], filled.cells[name, key(column)])
    return filled


def _improve(filled: PaperTable, ours: Filled, base: Filled) -> None:
    """What `ours` has more than `base`: of the published numbers, and seed by seed of the measured ones."""
    place = base.row.name, key(base.column)
    if ours.published and base.published:
        filled.published_improvement[place] = float(ours.published) - float(base.published)
    if ours.measured and base.measured:
        mine, theirs = ({s.record.seed: v for s in cell.sources if (v := number(cell.column, s)) is not None} for cell in (ours, base))
        if pairs := [mine[seed] - theirs[seed] for seed in mine if seed in theirs]:
            filled.improvement[place] = Measured(tuple(pairs))


def _mark(n: int) -> str:
    return "†‡§¶"[n] if n < 4 else f"†{n - 2}"


def _embolden(filled: PaperTable) -> None:
    """The best measured and the largest published number of a column; costs and shares are not contested."""
    if filled.table.kind == "shares":
        return
    for column in filled.table.columns:
        if column.metric in COSTS:
            continue
        places = [(row.name, key(column)) for row in filled.table.rows]
        measured = {p: m.mean for p in places if (m := filled.cells[p].measured)}
        printed = {p: float(v) for p in places if (v := filled.cells[p].published)}
        sign = -1 if column.metric == "ece" else 1
        for place in places:
            cell = filled.cells[place]
            best = len(measured) > 1 and place in measured and sign * measured[place] == max(sign * v for v in measured.values())
            top = len(printed) > 1 and place in printed and printed[place] == max(printed.values())
            filled.cells[place] = Filled(**{**vars(cell), "best": best, "published_best": top})


def fill_shares(table: Table, shares: Mapping[str, float], published: Mapping[tuple[str, str], PublishedNumber], note: str) -> PaperTable:
    """The class distribution tables: shares (class -> 0..1, of the classes that the table has) of what the doctor counted."""
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


def basis(table: Table, cells: Mapping[tuple[str, str], Filled], preset: str, checkpoint: str) -> list[str]:
    """What the measured numbers rest on: data, preset, encoder, protocol, selection, split hashes."""
    sources = [source for cell in cells.values() if cell.measured for source in cell.sources]
    if not sources:
        return ["Nothing measured yet."]
    records = [source.record for source in sources]
    lines = []
    if any(record.data.fabricated for record in records):
        lines.append("Measured on INVENTED data: the numbers show that the software runs and say nothing about how well a method works.")
    encoders = sorted({f"{r.settings['network']['decoder']} on {r.settings['network']['encoder']}" for r in records})
    several = any(cell.measured and cell.measured.n > 1 for cell in cells.values())
    steps = sorted({int(s.evaluation.step) for s in sources if s.evaluation})
    protocols = sorted({s.evaluation.protocol for s in sources if s.evaluation})
    lines.append(
        f"Measured with the {preset} preset: {', '.join(encoders)}; {', '.join(map(str, steps))} steps; {SELECTION[checkpoint]}; "
        f"protocol {', '.join(protocols)}; "
        f"{'mean ± standard deviation over seeds (how many, or each one)' if several else 'one seed'}"
        f"{', each with its own label draw' if several and table.redraw else ''}."
    )
    splits: dict[str, dict[str, None]] = {}
    for cell in cells.values():
        for source in cell.sources:
            name = f"{source.record.split.family} {source.record.split.sha256[:8]}"
            splits.setdefault(source.record.labels.budget, {})[name] = None
    lines.append("Splits: " + "; ".join(f"{budget}: {', '.join(names)}" for budget, names in splits.items()) + ".")
    groups = sorted({column.metric for column in table.columns} & {"head", "tail"})
    lines += [line for group in groups if (line := differing_classes(group, sources))]
    lines += machines(records)
    commits = {(r.environment.get("git") or {}).get("commit", "unknown")[:8] for r in records}
    if len(commits) > 1:
        lines.append(f"Runs of {len(commits)} commits: {', '.join(sorted(commits))}.")
    return lines


def differing_classes(group: str, sources: Iterable[Source]) -> str:
    """Which classes `group` (head or tail) is made of in each split, if that is not the same in all: they rank by labelled pixels."""
    splits: dict[tuple[str, ...], dict[str, None]] = {}
    for source in sources:
        if source.evaluation and (classes := source.evaluation.metrics[group]["classes"]):
            splits.setdefault(tuple(sorted(classes)), {})[source.record.split.sha256[:8]] = None
    if len(splits) < 2:
        return ""
    return (
        f"{group.capitalize()} is not the same everywhere: "
        + "; ".join(f"{', '.join(c)} in {', '.join(s)}" for c, s in splits.items())
        + "."
    )
