"""A filled paper table on the terminal, in Markdown, LaTeX and CSV. Names from records are text, never markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.markup import escape, render
from rich.table import Table as RichTable
from rich.text import Text

from diffmatch.records.tables import Column
from diffmatch_reports.paper_cells import Filled, Measured, PaperTable, key
from diffmatch_reports.ranking import BOLD

Decorate = Callable[[str], str]


def decimals(column: Column) -> int:
    if column.metric == "train_seconds":
        return 0
    return 2 if column.metric == "parameters" or (column.metric.startswith("class:") and not column.labels) else 1


def measured(cell: Filled, bold: Decorate = str, each: bool = False) -> str:
    """`83.8 ± 0.4 (3)`, or `83.8 ± 0.4 (83.5, 84.2, 83.7)` with `each`; blank where nothing was measured."""
    if cell.measured is None:
        return ""
    digits = decimals(cell.column)
    text = f"{cell.measured.mean:.{digits}f}"
    return (bold(text) if cell.best else text) + _deviation(cell.measured, digits, each)


def _deviation(numbers: Measured, digits: int, each: bool, sign: str = "-") -> str:
    """` ± 0.4 (3)` or ` ± 0.4 (83.5, 84.2, 83.7)`; empty for a single run. `sign` is `+` for differences."""
    if numbers.std is None:
        return ""
    bracket = ", ".join(f"{value:{sign}.{digits}f}" for value in numbers.values) if each else str(numbers.n)
    return f" ± {numbers.std:.{digits}f} ({bracket})"


def published(cell: Filled, bold: Decorate = str) -> str:
    """`90.5 (-6.7)`, or `90.5†` where the two must not be compared; blank where the paper has no number."""
    if not cell.published:
        return ""
    text = bold(cell.published) if cell.published_best else cell.published
    return f"{text} ({cell.difference:+.1f})" if cell.difference is not None else text + cell.mark


def grid(filled: PaperTable, bold: Decorate, plain: Decorate, each: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text. A column of the table gives two, measured and published; one if none is published.

    Args:
        each: every seed's value instead of their number.
    """
    columns, both = filled.table.columns, any(cell.published for cell in filled.cells.values())
    own = "" if filled.checkpoint == "last" else f" {filled.checkpoint}"
    head = [
        "",
        *(f"{plain(key(column))}{side}" for column in columns for side in ((own, " (paper)") if both else (own,))),
    ]
    rows = []
    for row in filled.table.rows:
        name = plain(row.name) + ("" if row.method or filled.table.kind == "shares" else "*")
        cells = [filled.cells[row.name, key(column)] for column in columns]
        rows.append(
            [
                name,
                *(text for cell in cells for text in (measured(cell, bold, each), published(cell, bold))[: 1 + both]),
            ]
        )
    for name, gains in improvements(filled, each):
        rows.append([plain(name), *(text for pair in gains for text in pair[: 1 + both])])
    return head, rows


def improvements(filled: PaperTable, each: bool = False) -> list[tuple[str, list[tuple[str, str]]]]:
    """The rows below the table: a heading and, per column, `ours` against a baseline, measured and published."""
    rows = []
    for base in filled.table.baseline:
        places = [(base, key(column)) for column in filled.table.columns]
        gains, printed = (
            [filled.improvement.get(p) for p in places],
            [filled.published_improvement.get(p) for p in places],
        )
        if any(gains) or any(gain is not None for gain in printed):
            heading = "improvement" if len(filled.table.baseline) == 1 else f"{filled.table.ours} minus {base}"
            rows.append(
                (
                    heading,
                    [(_gain(m, each), "" if p is None else f"{p:+.1f}") for m, p in zip(gains, printed, strict=True)],
                )
            )
    return rows


def _gain(difference: Measured | None, each: bool) -> str:
    """`+2.3 ± 0.4 (3)`."""
    return "" if difference is None else f"{difference.mean:+.1f}" + _deviation(difference, 1, each, "+")


def remarks(filled: PaperTable) -> list[str]:
    """What the numbers rest on and what the marks mean."""
    lines = [*filled.basis, *filled.table.notes]
    if any(cell.measured for cell in filled.cells.values()) and filled.table.kind == "scores":
        published_best = any(cell.published_best for cell in filled.cells.values())
        lines.append(BOLD + (" Of the published numbers the best is bold." if published_best else ""))
    if any(row.method is None for row in filled.table.rows) and filled.table.kind == "scores":
        lines.append("* not run here: the published number alone.")
    return lines + [
        f"{mark} not comparable with the published number: {reason}." for mark, reason in filled.footnotes.items()
    ]


def notes(filled: PaperTable) -> list[str]:
    """Everything that stands below the table: the remarks, and what is blank and why."""
    return [*remarks(filled), *(f"Blank: {problem}." for problem in filled.blank)]


@dataclass(frozen=True)
class Sheet:
    """A grid of markup on a terminal.

    A grid that is too wide is turned on its side if it is narrower so. What is still too wide is cut into several.
    """

    title: str
    grid: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        turned = [list(column) for column in zip(*self.grid, strict=True)]
        fits = _width(self.grid) <= max(options.max_width, _width(turned))
        yield f"[italic]{self.title}[/]"
        for head, *rows in _cut(self.grid if fits else turned, options.max_width):
            table = RichTable(*head)
            for column in table.columns:
                column.no_wrap = len(head) > 2
                column.justify = "left" if column is table.columns[0] else "right"
            for row in rows:
                table.add_row(*row)
            yield table


def _cut(grid: list[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Grids of as many columns as fit, each behind the first one. A column too wide by itself stays whole."""
    names, *columns = (list(column) for column in zip(*grid, strict=True))
    taken: list[list[str]] = []
    for column in columns:
        if taken and _width([list(row) for row in zip(names, *taken, column, strict=True)]) > width:
            yield [list(row) for row in zip(names, *taken, strict=True)]
            taken = []
        taken.append(column)
    yield [list(row) for row in zip(names, *taken, strict=True)]


def _width(grid: list[list[str]]) -> int:
    """Columns that a grid needs when no cell is broken over two lines."""
    return sum(max(cell_len(render(cell).plain) for cell in column) + 3 for column in zip(*grid, strict=True)) + 1


def as_terminal(filled: PaperTable) -> Group:
    head, rows = grid(filled, lambda text: f"[bold]{text}[/]", escape)
    return Group(Sheet(escape(filled.table.heading), [head, *rows]), *(Text(line) for line in notes(filled)))


def as_markdown(filled: PaperTable) -> str:
    """A table of pipes with every seed's value, for which LaTeX and the terminal have no room.

    Made here and not by tabulate: its one line would be no shorter, and its padding would rewrite every line of a
    document's table when one cell grows.
    """
    head, rows = grid(filled, lambda text: f"**{text}**", markdown, each=True)
    lines = [f"**{markdown(filled.table.heading)}**", ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]
    return "\n".join([*lines, "", *(f"{markdown(line)}  " for line in notes(filled))]) + "\n"


def markdown(text: str) -> str:
    """Text as GitHub shows it literally."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", text.replace("\n", " "))


SPECIAL = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{"|": r"\textbar{}", "±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"\S{}", "¶": r"\P{}"},
    **{"×": r"$\times$", "α": r"$\alpha$", "τ": r"$\tau$"},
}


def latex(text: str) -> str:
    """Text with LaTeX's special characters spelt out; what has no spelling here and is not ASCII becomes `?`."""
    return "".join(SPECIAL.get(c, c if c.isascii() and c.isprintable() else " " if c.isspace() else "?") for c in text)


def as_latex(filled: PaperTable) -> str:
    """A booktabs table that needs no package but booktabs."""
    bold = "\x00{}\x01".format  # put back after the text is escaped
    head, rows = grid(filled, bold, str)

    def cell(text: str) -> str:
        pieces = re.split("(\x00.*?\x01)", text)
        return "".join(rf"\textbf{{{latex(p[1:-1])}}}" if p.startswith("\x00") else latex(p) for p in pieces)

    body = [" & ".join(map(cell, row)) + r" \\" for row in rows]
    if below := len(improvements(filled)):
        body.insert(-below, r"\midrule")
    remarked = [latex(line) + r"\par" for line in notes(filled)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{latex(filled.table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(cell, head)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\footnotesize",
            *remarked,
            r"\end{table}",
            "",
        ]
    )


def as_csv(filled: PaperTable) -> str:
    """One line per cell: everything that the other forms print, and the runs behind it."""
    lines = [
        {
            "table": filled.table.table or filled.table.title,
            "row": row,
            "column": column,
            "metric": cell.column.metric,
            "measured": cell.measured and cell.measured.mean,
            "std": cell.measured and cell.measured.std,
            "n": cell.measured and cell.measured.n,
            "published": cell.published,
            "difference": cell.difference,
            "remark": cell.problem or filled.footnotes.get(cell.mark, ""),
            "runs": " ".join(str(source.folder) for source in cell.sources),
        }
        for (row, column), cell in filled.cells.items()
    ]
    return str(pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n"))


FORMS: dict[str, Callable[[PaperTable], str]] = {"markdown": as_markdown, "latex": as_latex, "csv": as_csv}
"""Forms that are text, by the name on the command line."""
