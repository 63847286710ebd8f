"""The application, its console, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

app = typer.Typer(
    help="Semi-supervised semantic segmentation under class imbalance: "
    "DiffMatch and its rivals, one loop, one protocol.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

SetOption = Annotated[
    list[str], typer.Option("--set", help="a setting, key=value; may be repeated", metavar="KEY=VALUE")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="a YAML file of settings")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="data root; absent: $DIFFMATCH_DATA/<name>, else fabricated where the domain can"),
]
OutOption = Annotated[Path, typer.Option("--out", help="where run folders go")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="processes: GPUs, or CPU processes over gloo")]
Workers = Annotated[int | None, typer.Option("--workers", min=0, help="loading processes per device")]
MethodOption = Annotated[str, typer.Option("--method", help="one of `diffmatch methods`")]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON on stdout")]


def show(columns: list[str], rows: Iterable[tuple[str, ...]]) -> None:
    """A plain table on the console: the first column stays whole on one line, the others are broken, never cut off."""
    first, *others = columns
    table = Table(Column(first, no_wrap=True), *(Column(name, overflow="fold") for name in others), box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
