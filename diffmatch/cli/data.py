"""Commands about data: doctor, splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from diffmatch.cli.options import DataOption, JsonOption, app, console, show
from diffmatch.domain import InputError

DatasetArgument = Annotated[str, typer.Argument(help="one of `diffmatch domains`")]


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
    findings = examine(domain, root, fabricated)
    if as_json:
        typer.echo(json.dumps(findings.model_dump(mode="json"), indent=1))
        return
    for renderable in findings.shown():
        console.print(renderable, soft_wrap=isinstance(renderable, str))
