"""Commands that tell what is installed and what it costs: domains, methods, cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.markup import escape

from diffmatch.card import Preset
from diffmatch.cli.options import JsonOption, MethodOption, SetOption, app, console, show
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


FAMILIES = (
    *("supervised", "consistency", "self-training", "co-training", "class-imbalance", "contrastive", "generative"),
    "other",
)
"""Groups of `diffmatch methods`, in their order; a method of another family is listed under the last."""


@app.command()
def methods(
    sort: Annotated[Literal["family", "cost"], typer.Option("--sort", help="cost: the cheapest first")] = "family",
    as_json: JsonOption = False,
) -> None:
    """Installed methods: when to use one, whose labels it learns from, what it costs; broken plugins are named."""
    from diffmatch.learning import registry
    from diffmatch.progress import Bar
    from diffmatch.running.cost import method_costs

    usable = list(_usable(registry.methods))
    with Bar("cost of a step", len(usable), shown=sys.stderr.isatty()) as bar:
        found = [
            {**_about(method), "name": name, "distribution": where, **method_costs(method)}
            for name, method, where in bar.track(usable)
        ]
    base = next((method.get("gmac") for method in found if method["name"] == "supervised"), None)
    for method in found:
        if base and "gmac" in method:
            method["cost"] = round(method["gmac"] / base, 2)
    found.sort(key=lambda method: method.get("cost", float("inf")))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    columns = ["name", "when to use it", "labels by", "CutMix", "feature noise", "cost*"]
    if sort == "cost":
        show(columns, map(_row, found))
    else:
        for family in FAMILIES:
            if own := [method for method in found if method["family"] == family]:
                show([family, *columns[1:]], map(_row, own))
                console.print()
    console.print(
        "labels by: the network that gives pseudo-labels and its mode; (own): a teacher with BatchNorm statistics of "
        "its own\n* multiply-accumulates of a training step, supervised = 1; 21 classes, DeepLabv3+ on ResNet-50; "
        f"{UNKNOWN} where it cannot be measured\n"
        "diffmatch describe NAME: equations, settings, source, what differs from the authors' code"
    )


def _about(method: type[Method[Section]]) -> dict[str, Any]:
    """What a method's class says of itself."""
    by, mode, buffers = method.labelling
    return {
        "title": method.title,
        "citation": method.citation,
        "version": method.version,
        "family": method.family if method.family in FAMILIES else FAMILIES[-1],
        "use": method.use,
        "labels_by": by,
        "mode": mode if by != "nobody" else None,
        "teacher_buffers": buffers if by == "teacher" else None,
        "cutmix": method.views.cutmix,
        "features": method.features,
        "factor": method.factor,
    }


def _row(method: dict[str, Any]) -> tuple[str, ...]:
    own = " (own)" if method["teacher_buffers"] == "own" else ""
    labels = f"{method['labels_by']}, {method['mode']}{own}" if method["mode"] else UNKNOWN
    source = f" [{method['distribution']}]" if method["distribution"] != OWN else ""
    return (
        method["name"],
        method["use"] + source,
        labels,
        f"{method['cutmix']:g}" if method["cutmix"] else UNKNOWN,
        method["features"] if method["features"] != "none" else UNKNOWN,
        f"{method['cost']:.1f}" if "cost" in method else UNKNOWN,
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
