"""The paper's figures of the site's largest board: matplotlib takes a second or two for each, so they are few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffmatch.domain import InputError
from diffmatch.records.folder import RunFolder
from diffmatch_reports.board import Board, Row
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.names import board_name
from diffmatch_reports.page import write_page

MOST_BOARDS, MOST_METHODS, MOST_SEEDS = 1, 6, 3
GRIDS = {"whu_cd": 11, "acdc": 12, "synapse": 13}
"""Which of the paper's grids of predictions is a dataset's; 9 for the others."""


@dataclass(frozen=True)
class FigurePage:
    """A figure that was drawn: its page is figures/`name`.html, beside it the same name with .svg, .png and .pdf."""

    number: int
    title: str
    name: str


def write_figures(boards: Sequence[Board], out: Path) -> dict[int, list[FigurePage]]:
    """Draw the figures of the best methods of the board that has the most, two at least, into `out`/figures.

    Boards of real data go before boards of invented data; of several, the newest. A board holds comparable runs; the
    others of its dataset and budget are named in the captions. A figure that the records cannot fill is left out.

    Returns:
        Number of a board -> its figures.
    """
    several = [board for board in boards if board.methods > 1]
    several.sort(key=lambda board: board.newest, reverse=True)
    several.sort(key=lambda board: (board.first.record.data.fabricated, -board.methods))
    return {board.number: list(_draw(board, boards, out)) for board in several[:MOST_BOARDS]}


def _draw(board: Board, boards: Iterable[Board], out: Path) -> Iterable[FigurePage]:
    from diffmatch_reports.figures import FIGURES, draw, save  # late: matplotlib
    from diffmatch_reports.figures.comparison import not_comparable

    runs = best_runs(board)
    apart = [not_comparable(other, board) for other in boards if other is not board and other.subject == board.subject]
    grid = GRIDS.get(board.first.record.dataset, 9)
    for number, kind in FIGURES.items():
        if number in (9, *GRIDS.values()) and number != grid:
            continue
        try:
            figure = draw(number, runs, apart)
        except InputError:
            continue
        page = FigurePage(number, kind.title, f"{board_name(board.first)}-{number}")
        save(figure, out / "figures" / page.name)
        figure.clear()  # its pictures are hundreds of MiB and would stay until the collector runs
        write_page(
            out / "figures" / f"{page.name}.html",
            "figure",
            figure=page,
            board=board,
            runs=runs,
            apart=apart,
            root="../",
        )
        yield page


def best_runs(board: Board) -> list[RunView]:
    """Runs of the best methods, with their arrays; of a method the newest row with the fewest overrides."""
    rows: dict[str, Row] = {}
    for row in board.rows:
        if row.runs and row.cells and (row.name not in rows or _plainness(row) > _plainness(rows[row.name])):
            rows[row.name] = row
    best = [run for row in list(rows.values())[:MOST_METHODS] for run in row.runs[:MOST_SEEDS]]
    return [load_run(RunFolder(run.folder)) for run in best]


def _plainness(row: Row) -> tuple[int, str]:
    record = row.runs[0].record
    return -len(record.changes), str(record.environment.get("time", ""))
