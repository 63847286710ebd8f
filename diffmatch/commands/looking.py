"""Commands that tell what is installed and what it costs: domains, methods, cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from diffmatch.commands.options import JsonOption, MethodOption, Preset, SetOption, app, console, show

if TYPE_CHECKING:
    from diffmatch.methods.base import Method

OWN = "diffmatch-bench"
"""The distribution that needs no naming."""


@app.command()
def domains() -> None:
    """Installed datasets; broken plugins are named."""
    from diffmatch.plugins import DOMAINS

    rows = (
        (name, about.card.title, f"{', '.join(about.card.budgets)} {about.card.label_unit}", where)
        for name, about, where in _sound(DOMAINS)
    )
    show(["name", "title", "labels", "distribution"], rows)


@app.command()
def methods() -> None:
    """Installed methods with source and cost; broken plugins are named."""
    from diffmatch.cost import method_costs
    from diffmatch.plugins import METHODS

    def row(name: str, about: type[Method], where: str) -> tuple[str, ...]:
        parameters, seen = method_costs(about)
        source = f"{about.title}: {about.citation}" + (f" [{where}]" if where != OWN else "")
        return name, f"{parameters / 1e6:.2f}", f"{seen['trained']:g}", f"{seen['taught']:g}", source

    show(["name", "M param.*", "trained*", "taught*", "source"], (row(*found) for found in _sound(METHODS)))
    console.print(
        "* 21 classes, DeepLabv3+ on ResNet-50; images through a whole network per step and labelled image, with and without gradient"
    )


def _sound(group: str) -> Iterator[tuple[str, Any, str]]:
    """Name, class and distribution of the plugins that work; the others are told on the way."""
    from diffmatch.plugins import plugins

    for name, plugin in plugins(group).items():
        if plugin.error:
            console.print(f"[red]{name}[/] ({plugin.distribution}) is broken: {escape(str(plugin.error))}")
        else:
            yield name, plugin.loaded, plugin.distribution


@app.command()
def cost(
    dataset: Annotated[str | None, typer.Argument(help="a dataset; without one, --classes")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="21: DeepLabv3+, ResNet-50, 513 x 513")] = None,
    method: MethodOption = "diffmatch",
    preset: Annotated[Preset, typer.Option("--preset")] = "paper",
    sets: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Parameters, multiply-accumulates and the memory of a training step; needs no data."""
    from diffmatch.cost import cost_of
    from diffmatch.settings import flatten, parse_assignments

    found = cost_of(dataset, classes, method, preset, parse_assignments(sets))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    show(
        ["what", "value"], ((key, f"{value:,}" if isinstance(value, int | float) else str(value)) for key, value in flatten(found).items())
    )
