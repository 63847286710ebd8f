"""Leaderboards: comparable runs share a board, seeds of the same settings share a row."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from diffmatch.records.comparable import Conditions
from diffmatch.records.frame import scores, tidy
from diffmatch.records.select import select_evaluation
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import METRICS, changed, class_key, labels, machines, page_caveats, training

MANY_COLUMNS = 12
WHOLE = ("primary", "head", "tail", "ece")
"""Metrics of the whole split that a board has a column for."""
ROW = ("board", "method", "hash")
"""Runs that agree in these are seeds of one row."""
NO_NUMBERS, COPY = -1, -2
EXTRA = {"val": "chosen on the validation split", "oracle": "best on test"}
ORACLE = (
    "The column oracle is the best of a run's test evaluations, where there are several. It was chosen by looking at "
    "the test split, so it is not a result: it says how much the choice of checkpoint and sampling could have given."
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
    """Comparable runs: they have the same `Conditions`, such as data, labelled split, encoder, weights and steps.

    Attributes:
        columns: key of a cell -> its heading; the headline is `primary`.
        extra: columns shown on demand, `val` and `oracle`, of the same metric; only those that have a number.
        number: counted from 1 over all boards.
        scored: test items behind every number, None before the first score.
        shared: changed settings that all runs have in common, `key=value`; the rows' notes leave them out.
        apart: the conditions in which it differs from other boards of its dataset and label budget, in words.
    """

    first: RunView
    columns: dict[str, str]
    extra: dict[str, str]
    rows: list[Row]
    scored: int | None
    shared: list[str]
    number: int = 1
    apart: str = ""

    @property
    def title(self) -> str:
        return f"{self.subject} ({self.apart})" if self.apart else self.subject

    @property
    def subject(self) -> str:
        """What it is about, whatever the conditions: dataset and label budget."""
        return f"{self.first.card.title}, {labels(self.first.record)} labelled"

    @property
    def basis(self) -> str:
        record = self.first.record
        n = f", n = {self.scored}" if self.scored is not None else ""
        mixed = machines(run.record for row in self.rows for run in row.runs if row.cells)
        data = f"{'invented ' if record.data.fabricated else ''}data {record.data.fingerprint[:8]}"
        return (
            f"Test split{n}, protocol {self.first.protocol}, last checkpoint, split {record.split.family} "
            f"(sha256 {record.split.sha256[:8]}), {data}, {training(self.first.conditions)}"
            + (f"; all with {', '.join(self.shared)}" if self.shared else "")
            + "".join(f"; {text[0].lower()}{text[1:-1]}" for text in mixed)
        )

    @property
    def runs(self) -> list[RunView]:
        return [run for row in self.rows for run in row.runs]

    @property
    def newest(self) -> str:
        """When its newest run was recorded."""
        return max(str(run.record.environment.get("time", "")) for run in self.runs)

    @property
    def methods(self) -> int:
        """How many different methods have a number."""
        return len({row.name for row in self.rows if row.runs and row.cells})

    @property
    def caveats(self) -> list[str]:
        return page_caveats([run.record for run in self.runs])


def boards(runs: Iterable[RunView]) -> list[Board]:
    """Group runs into boards of comparable ones, in the order in which they come."""
    views = {str(run.folder): run for run in runs}
    if not views:
        return []
    listed = _listed(views)
    cells = _cells(views, listed.row[listed.row >= 0])
    found = [
        _board(number, [(views[folder], row) for folder, row in board.row.items()], cells)
        for number, (_, board) in enumerate(listed.groupby("board", sort=False), 1)
    ]
    return [replace(board, apart=_apart(board, found)) for board in found]


def _apart(board: Board, boards: Iterable[Board]) -> str:
    """The conditions of a board that another one of its subject does not share: `weights none, steps 2400`."""
    own = board.first.conditions.words()
    others = [one.first.conditions.words() for one in boards if one.subject == board.subject]
    return ", ".join(f"{name} {value}" for name, value in own.items() if any(one[name] != value for one in others))


def _listed(views: Mapping[str, RunView]) -> Any:
    """Of each run folder the board and the row.

    A row is a number, NO_NUMBERS, or COPY: the run has the settings and the seed of a newer one, which is counted.
    """
    records = [run.record for run in views.values()]
    listed = pd.DataFrame(
        {
            "board": _numbered(run.conditions for run in views.values()),
            "method": [record.method for record in records],
            "hash": [record.hash for record in records],
            "seed": [record.seed for record in records],
            "time": [str(record.environment.get("time", "")) for record in records],
            "row": NO_NUMBERS,
        },
        index=list(views),
    )
    scored = listed[[run.record.status == "done" and bool(run.metrics("test")) for run in views.values()]]
    copies = scored.sort_values("time", kind="stable").duplicated([*ROW, "seed"], keep="last")
    counted = scored.drop(copies.index[copies])
    listed.loc[counted.index, "row"] = counted.groupby(list(ROW), sort=False).ngroup()
    listed.loc[copies.index[copies], "row"] = COPY
    return listed


def _numbered(each: Iterable[Conditions]) -> list[int]:
    """A number for each of the conditions, the same one for equal ones."""
    known: dict[Conditions, int] = {}
    return [known.setdefault(one, len(known)) for one in each]


def _cells(views: Mapping[str, RunView], rows: Any) -> dict[int, dict[str, Cell]]:
    """Row -> key -> mean, deviation and number of its runs' test scores. `rows` has the row of each run folder."""
    if rows.empty:
        return {}
    table = tidy(views[folder] for folder in rows.index)
    test = table[table.evaluated_split == "test"]
    headline = test[test.headline]
    whole = headline[(headline["class"] == "") & headline.metric.isin(WHOLE)]
    by_class = headline[(headline["class"] != "") & (headline.metric == headline.card_metric.map(class_key))]

    primary = test[
        (test.metric == "primary") & (test.protocol == test.run.map({f: views[f].protocol for f in rows.index}))
    ]
    on_val = {f: select_evaluation(views[f].record, views[f].evaluations, checkpoint="val") for f in rows.index}
    chosen = primary[primary.evaluation == primary.run.map({f: each.name for f, each in on_val.items() if each})]
    several = primary[primary.groupby("run").value.transform("size") > 1]
    numbers = pd.concat(
        [
            whole.assign(key=whole.metric),
            by_class.assign(key="class " + by_class["class"]),
            chosen.assign(key="val"),
            several.groupby("run", as_index=False).value.max().assign(key="oracle"),
        ]
    )
    cells: dict[int, dict[str, Cell]] = defaultdict(dict)
    groups = numbers.groupby([numbers.run.map(rows), "key"], sort=False).value
    for one in groups.agg(["mean", "std", "count"]).itertuples():
        row, key = one.Index
        cells[row][key] = Cell(one.mean, None if math.isnan(one.std) else one.std, one.count)
    return cells


def baseline(run: RunView) -> Row:
    """What answering the majority class everywhere would have scored on the same items as `run`."""
    metric = class_key(run.card.metric)
    numbers = {
        f"class {klass}" if klass else name: value
        for klass, name, value in scores(run.scores["test"].baseline)
        if (name == metric if klass else name in WHOLE)
    }
    cells = {key: Cell(value, None, 1) for key, value in numbers.items()}
    return Row("majority", f"always {run.majority_class}", [], "baseline", cells)


def _board(number: int, row_of: Sequence[tuple[RunView, int]], cells: Mapping[int, dict[str, Cell]]) -> Board:
    runs = [run for run, _ in row_of]
    first = runs[0]
    head, tail = first.ranks()
    classes = [first.card.names[c] for c in first.card.scored]
    if len(classes) > MANY_COLUMNS:
        classes = list(dict.fromkeys(head + tail))
    columns = {"primary": METRICS[first.card.metric], "head": "Head", "tail": "Tail", "ece": "ECE"}
    columns |= {f"class {name}": name for name in classes}

    each = [changed(run.record) for run in runs]
    shared = [what for what in each[0] if all(what in one for one in each)]
    counted: dict[int, list[RunView]] = defaultdict(list)
    for run, row in row_of:
        if row >= 0:
            counted[row].append(run)
    rows = [
        Row(
            own[0].record.method, _note(own[0], shared), sorted(run.record.seed for run in own), "done", cells[row], own
        )
        for row, own in counted.items()
    ]
    notes = Counter((row.name, row.note) for row in rows)
    rows = [
        replace(r, note=f"{r.note}, hash {r.runs[0].record.hash[:8]}") if notes[r.name, r.note] > 1 else r for r in rows
    ]
    rows.sort(key=lambda row: -row.cells["primary"].mean if "primary" in row.cells else 0)
    rows += [_without_numbers(run, row, rows, shared) for run, row in row_of if row < 0]

    extra = {key: hint for key, hint in EXTRA.items() if any(key in row.cells for row in rows)}
    scored = next((run for run in runs if "test" in run.scores), None)
    if scored:
        rows.append(baseline(scored))
    return Board(first, columns, extra, rows, scored.metrics("test").get("cases") if scored else None, shared, number)


def _without_numbers(run: RunView, row: int, counted: Iterable[Row], shared: Sequence[str]) -> Row:
    """A run that failed, was not scored, or is the older copy of a run that is counted."""
    record = run.record
    status = str(record.status) if record.status != "done" else "not scored"
    reason = record.reason or ""
    if row == COPY:
        twins = (r for one in counted for r in one.runs)
        twin = next(r for r in twins if (r.record.hash, r.record.seed) == (record.hash, record.seed))
        status, reason = (
            "copy",
            f"{run.folder} has the same settings and seed as {twin.folder}, which is newer and counted",
        )
    return Row(record.method, _note(run, shared), [record.seed], status, {}, [run], reason)


def _note(run: RunView, shared: Sequence[str]) -> str:
    return ", ".join([run.record.preset, *(what for what in changed(run.record) if what not in shared)])
