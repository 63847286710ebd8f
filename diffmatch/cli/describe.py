"""All about one dataset or one method: describe."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from diffmatch.card import Card, ForegroundThirds, Named, Protocol, Recipe
from diffmatch.cli.options import app, console, show
from diffmatch.settings import Section

DOCSTRING = 116
"""Columns of a class's docstring, without its indentation."""

if TYPE_CHECKING:
    from diffmatch.learning.method import Method


@app.command()
def describe(name: Annotated[str, typer.Argument(help="a dataset or a method")]) -> None:
    """A dataset's card and recipe, or what a method does and its settings."""
    from diffmatch import plugins

    if name in plugins.names(plugins.METHODS):
        from diffmatch.learning import registry

        _method(registry.method(name))
    else:
        domain = plugins.domain(name)
        _card(domain.card)
        _recipe(domain.recipe)


def _method(method: type[Method[Section]]) -> None:
    console.print(Text.assemble((method.title, "bold"), f" ({method.citation})"))
    _paragraphs(method.__doc__)
    options = method.Options.model_fields
    if options:
        _paragraphs(method.Options.__doc__)
        console.print()
        show(
            ["setting", "default", "is"],
            ((f"method.{key}", str(info.default), info.description or "") for key, info in options.items()),
        )


def _paragraphs(text: str | None) -> None:
    """A docstring broken at the console's width. A line that ends before it is full, an equation's, stays a line."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines: list[str] = []
        room = 0
        for line in paragraph.splitlines():
            first, *_ = line.split()
            if lines and (line.startswith(" ") or len(first) >= room):
                lines[-1] += f" {line.strip()}"
            else:
                lines.append(line.strip())
            room = DOCSTRING - len(line)
        console.print()
        console.print(Text("\n".join(" ".join(line.split()) for line in lines)))


def _card(card: Card) -> None:
    console.print(Text.assemble((card.title, "bold"), f" ({card.name}, plugin version {card.version})"))
    table = Table.grid(padding=(0, 2))
    dates = f", {card.dates} dates" if card.dates > 1 else ""
    rows: list[tuple[str, RenderableType]] = [
        ("images", Text(f"{card.modality}; {card.channels} channel{'s'[: card.channels > 1]}{dates}")),
        ("classes", _classes(card)),
        ("labels", Text(f"{', '.join(card.budgets)} {card.label_unit}")),
        ("scored", Text("\n".join(map(_scored, card.protocols)))),
        ("headline", Text(card.metric + (", ECE over foreground pixels" if card.foreground_calibration else ""))),
        ("head, tail", Text(_head_tail(card))),
        ("licence", Text(card.licence)),
        ("cite", Text(card.citation)),
        ("data", Text(card.source)),
    ]
    if card.note:
        rows.append(("note", Text(card.note)))
    for key, value in rows:
        table.add_row(Text(key, "bold"), value)
    console.print(table)


def _classes(card: Card) -> Columns:
    """The classes' names, each beside its colour."""
    return Columns(
        [Text.assemble(("\u2588\u2588", f"rgb{info.color}".replace(" ", "")), " ", info.name) for info in card.classes],
        padding=(0, 2),
    )


def _scored(protocol: Protocol) -> str:
    return f"{protocol.name} ({' and '.join(protocol.splits)}): {protocol.title}"


def _head_tail(card: Card) -> str:
    rule = card.head_tail
    if isinstance(rule, Named):
        return "; ".join(", ".join(card.names[c] for c in side) for side in (rule.head, rule.tail))
    if isinstance(rule, ForegroundThirds):
        return "the most and the least labelled third of the foreground classes"
    return f"the {rule.k} classes with the most and with the fewest labelled pixels"


def _recipe(recipe: Recipe) -> None:
    """What the presets set, beside what holds where they are silent."""
    from diffmatch.settings import Settings

    default = Settings().flat()

    def rows() -> Iterator[tuple[str, ...]]:
        presets = [recipe.settings(preset) for preset in recipe.presets]
        for key in sorted({key for preset in presets for key in preset}):
            yield key, *(_plain(preset.get(key, default.get(key, ""))) for preset in presets)

    console.print()
    show(["setting", *recipe.presets], rows())


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
