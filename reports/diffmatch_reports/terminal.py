"""What the terminal shows: the table at the end of a run, and the leaderboards of many."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diffmatch.records.folder import RunFolder
from diffmatch_reports.board import Board, boards
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.sections import basis
from diffmatch_reports.wording import (
    METRICS,
    caveats,
    class_metric,
    decimal,
    ece_scope,
    labels,
    outcome,
    percent,
    share,
    split_id,
    spread,
)


def run_table(folder: RunFolder) -> RenderableType:
    """The numbers of one run by class, the majority baseline beside them, what they rest on below."""
    run = load_run(folder)
    record = run.record
    title = Text(
        f"{record.dataset} · {record.method} · {labels(record)} · seed {record.seed} · preset {record.preset}",
        style="bold",
    )
    parts: list[RenderableType] = [title]
    if record.status != "done":
        parts.append(Text(f"This run is not complete ({outcome(record)}).", style="red"))
    if run.metrics("test"):
        parts += [_classes(run), *_footing(run)]
    else:
        parts.append(Text("No numbers: the test split was not scored."))
    parts += [Text(problem, style="red") for problem in run.problems]
    parts += [Text(f"Warning: {text}", style="yellow") for text in [*record.warnings, *caveats(record)]]
    return Group(*parts)


def _classes(run: RunView) -> Table:
    metrics, card = run.metrics("test"), run.card
    per_class = metrics.get("per_class", {})
    baseline = run.scores["test"].baseline if "test" in run.scores else {}
    key, name = class_metric(card)
    total = sum(run.labelled_pixels)
    head, tail = run.ranks()
    distances = any("hd95_mm" in row for row in per_class.values())

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("class")
    for heading in ("labelled %", f"{name} %", "majority %", *(("HD95 mm", "n") if distances else ())):
        table.add_column(heading, justify="right")
    for pixels, klass in zip(run.labelled_pixels, card.names, strict=True):
        row = per_class.get(klass, {})
        mark = " (head)" if klass in head else " (tail)" if klass in tail else ""
        cells = [
            share(pixels / total if total else None),
            percent(row.get(key)),
            percent(baseline.get("per_class", {}).get(klass, {}).get(key)),
        ]
        if distances:
            cells += [decimal(row.get("hd95_mm")), str(row.get("n_distances", ""))]
        table.add_row(Text(klass + mark), *cells)
    table.add_section()
    for group, label in (("head", "head"), ("tail", "tail"), ("primary", METRICS[card.metric].lower())):
        table.add_row(
            label, "", *(percent(source.get(group, {}).get("value")) for source in (metrics, baseline)), style="bold"
        )
    table.add_row(f"ECE ({ece_scope(card)})", "", percent(metrics.get("ece")), percent(baseline.get("ece")))
    return table


def _footing(run: RunView) -> list[RenderableType]:
    what = basis(run, "test")
    return [
        Text(f"{what[0].upper()}{what[1:]}.", style="dim"),
        Text(f"Split {split_id(run.record)}; majority answers {run.majority_class} everywhere.", style="dim"),
    ]


def leaderboard(runs: Iterable[RunView]) -> RenderableType:
    """Runs side by side, one table for those that are comparable; mean ± std over seeds."""
    grouped = boards(runs)
    return Group(*(Padding(_board(board), (0, 0, 1, 0)) for board in grouped)) if grouped else Text("No runs.")


def _board(board: Board) -> RenderableType:
    caption = Text(f"{board.basis}. Percent; mean ± std over n seeds.")
    # 80 columns hold method, preset, five numbers and status only without rules between them.
    table = Table(
        title=Text(board.title, style="bold"),
        caption=caption,
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold underline",
    )
    table.add_column("method", no_wrap=True)
    table.add_column("settings", overflow="fold", min_width=8)
    table.add_column("n", justify="right", no_wrap=True)
    columns = {key: heading for key, heading in board.columns.items() if not key.startswith("class ")}
    for heading in columns.values():
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in board.rows:
        cells = [spread(c.mean, c.std) if (c := row.cells.get(key)) else "" for key in columns]
        table.add_row(
            Text(row.name),
            Text(row.note),
            str(len(row.seeds)) if row.cells and row.seeds else "",
            *cells,
            Text(row.status),
        )
    reasons = [
        Text(f"{row.name}, seed {row.seeds[0]}, {row.status}: {row.reason}", style="red")
        for row in board.rows
        if row.reason
    ]
    return Group(table, *reasons, *(Text(f"Warning: {text}", style="yellow") for text in board.caveats))
