"""Commands that tell what is installed and what it costs: domains, methods, cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from diffmatch.cli.options import JsonOption, MethodOption, Preset, SetOption, app, console, show
from diffmatch.settings import Section

if TYPE_CHECKING:
    from diffmatch.learning.method import Method
    from diffmatch.plugins import Group

T = TypeVar("T")
OWN = "diffmatch-bench"
"""The distribution that needs no naming."""
UNKNOWN = "–"


@app.command()
def domains() -> None:
    """Installed datasets; broken plugins are named."""
    from diffmatch import plugins

    rows = (
        (name, about.card.title, f"{', '.join(about.card.budgets)} {about.card.label_unit}", where)
        for name, about, where in _usable(plugins.domains)
    )
    show(["name", "title", "labels", "distribution"], rows)


@app.command()
def methods() -> None:
    """Installed methods with source and cost; broken plugins are named."""
    from diffmatch.learning import registry
    from diffmatch.running.cost import method_costs

    def row(name: str, about: type[Method[Section]], where: str) -> tuple[str, ...]:
        costs = method_costs(about)
        parameters = f"{costs['parameters'] / 1e6:.2f}" if "parameters" in costs else UNKNOWN
        passes = (f"{costs[name]:g}" if name in costs else UNKNOWN for name in ("trained", "taught"))
        source = f"{about.title}: {about.citation}" + (f" [{where}]" if where != OWN else "")
        return name, parameters, *passes, source

    show(["name", "M param.*", "trained*", "taught*", "source"], (row(*plugin) for plugin in _usable(registry.methods)))
    console.print(
        "* 21 classes, DeepLabv3+ on ResNet-50; images through a whole network per step and labelled image, "
        "with and without gradient; – where it cannot be measured"
    )


def _usable(group: Group[T]) -> Iterator[tuple[str, type[T], str]]:
    """Name, class and distribution of the plugins that work; a line is printed for each of the others."""
    for name, plugin in group.all().items():
        if plugin.loaded is None:
            console.print(f"[red]{name}[/] ({plugin.distribution}) is broken: {escape(str(plugin.error))}")
        else:
            yield name, plugin.loaded, plugin.distribution


@app.command()
def cost(
    dataset: Annotated[str | None, typer.Argument(help="a dataset; without one, --classes")] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=2, help="21: DeepLabv3+, ResNet-50, 513 x 513")
    ] = None,
    method: MethodOption = "diffmatch",
    preset: Annotated[Preset, typer.Option("--preset")] = "paper",
    sets: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Parameters, multiply-accumulates and the memory of a training step; needs no data."""
    from diffmatch.running.cost import cost_of
    from diffmatch.settings import flatten, parse_assignments

    costs = cost_of(dataset, classes, method, preset, parse_assignments(sets))
    if as_json:
        typer.echo(json.dumps(costs, indent=1))
        return
    show(
        ["what", "value"],
        (
            (key, f"{value:,}" if isinstance(value, int | float) else str(value))
            for key, value in flatten(costs).items()
        ),
    )
