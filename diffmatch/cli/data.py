"""Commands about data and the plugins that read them: doctor, check, splits, new-domain."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffmatch.cli.options import DataOption, JsonOption, app, console, show
from diffmatch.domain import InputError

DatasetArgument = Annotated[str, typer.Argument(help="one of `diffmatch domains`")]


@app.command()
def check(dataset: DatasetArgument, data: DataOption = None) -> None:
    """The conformance suite on one dataset plugin."""
    from diffmatch import plugins
    from diffmatch.conformance.domain import CHECKS
    from diffmatch.data.opening import find_data

    domain = plugins.domain(dataset)
    root, fabricated = find_data(domain, data)
    console.print(f"{dataset} on {'fabricated data in ' if fabricated else ''}{escape(str(root))}", soft_wrap=True)
    failed = 0
    for name, test in CHECKS.items():
        began = time.monotonic()
        try:
            test(domain, root)
        except Exception as error:  # a stranger's plugin may fail in any way; the other checks go on
            failed += 1
            why = str(error) if isinstance(error, AssertionError | InputError) else f"{type(error).__name__}: {error}"
            console.print(f"  [red]fails[/]  {name}: {escape(' '.join(why.split()))}", soft_wrap=True)
        else:
            console.print(f"  [green]passes[/] {name} [dim]({time.monotonic() - began:.1f} s)[/]")
    if failed:
        raise InputError(f"{dataset}: {failed} of {len(CHECKS)} checks fail")


@app.command()
def splits(
    dataset: DatasetArgument,
    source: Annotated[Path | None, typer.Option("--from", help="folder of community split lists to install")] = None,
) -> None:
    """Installs community split lists, each named by its hash; without --from, those that are installed."""
    from diffmatch import plugins
    from diffmatch.readers.lists import identity, install, installed, store

    domain = plugins.domain(dataset)
    families = [family for family, _ in install(domain, source)] if source else installed(domain)
    rows = []
    for family in families:
        parts = (family.labelled, family.unlabelled, family.val, family.test)
        ids = family.labelled or family.unlabelled or family.test or ()
        rows.append(
            (
                family.name,
                family.budget or "",
                *("" if part is None else f"{len(part):,}" for part in parts),
                identity(ids)[:12],
            )
        )
    if not rows:
        raise InputError(
            f"no split lists of {dataset} in {store()}; `diffmatch splits {dataset} --from DIR` installs them"
        )
    show(["family", "labels", "labelled", "unlabelled", "val", "test", "sha256"], rows)
    if source:
        console.print(f"installed in {store() / dataset}", soft_wrap=True, markup=False)


@app.command()
def doctor(dataset: DatasetArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """What is on disk: counts, class shares, value ranges, split families, doubles across splits, what is missing."""
    from diffmatch import plugins
    from diffmatch.data.doctor import examine
    from diffmatch.data.opening import find_data

    domain = plugins.domain(dataset)
    root, fabricated = find_data(domain, data)
    found = examine(domain, root, fabricated)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=1))
        return
    for renderable in found.shown():
        console.print(renderable, soft_wrap=isinstance(renderable, str))


@app.command("new-domain")
def new_domain(
    name: Annotated[str, typer.Argument(help="of the plugin, a Python identifier in lower case")],
    out: Annotated[Path, typer.Option("--out", help="folder in which the plugin's folder is made")] = Path(),
) -> None:
    """Writes a dataset plugin that passes `diffmatch check`, for you to change."""
    from diffmatch.conformance.new_domain import write_domain

    folder = write_domain(name, out)
    console.print(
        f"written: {folder}\nnext: pip install -e {folder}; diffmatch check {name}", soft_wrap=True, markup=False
    )
