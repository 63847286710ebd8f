"""Commands for those who write plugins: check, new-domain, new-method."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffmatch import plugins
from diffmatch.cli.options import DataOption, app, console
from diffmatch.domain import InputError

NameArgument = Annotated[str, typer.Argument(help="of the plugin, a Python identifier in lower case")]
FolderOption = Annotated[Path, typer.Option("--out", help="folder in which the plugin's folder is made")]


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="a dataset or a method")],
    data: DataOption = None,
) -> None:
    """The conformance suite on one plugin; a domain that cannot invent data needs --data."""
    checks = _method_checks(name, data) if name in plugins.names(plugins.METHODS) else _domain_checks(name, data)
    failed = 0
    for title, test in checks.items():
        began = time.monotonic()
        try:
            skipped = test()
        except Exception as error:  # a stranger's plugin may fail in any way; the other checks go on
            failed += 1
            why = str(error) if isinstance(error, AssertionError | InputError) else f"{type(error).__name__}: {error}"
            console.print(f"  [red]fails[/]  {title}: {escape(' '.join(why.split()))}", soft_wrap=True)
        else:
            seconds = f"[dim]({time.monotonic() - began:.1f} s)[/]"
            outcome = f"[yellow]skipped[/] {title}: {skipped}" if skipped else f"[green]passes[/] {title} {seconds}"
            console.print(f"  {outcome}", soft_wrap=True)
    if failed:
        raise InputError(f"{name}: {failed} of {len(checks)} checks fail")


def _domain_checks(name: str, data: Path | None) -> dict[str, Callable[[], str | None]]:
    from diffmatch.conformance.domain import CHECKS
    from diffmatch.data.opening import find_data

    domain = plugins.domain(name)
    root, fabricated = find_data(domain, data)
    console.print(f"{name} on {'fabricated data in ' if fabricated else ''}{escape(str(root))}", soft_wrap=True)
    return {title: partial(test, domain, root) for title, test in CHECKS.items()}


def _method_checks(name: str, data: Path | None) -> dict[str, Callable[[], str | None]]:
    import torch

    from diffmatch.conformance.method import CHECKS
    from diffmatch.learning import registry

    torch.set_num_threads(1)  # the toy networks are too small to be shared out
    if data is not None:
        raise InputError(f"check {name}: a method is checked on toy images; leave out --data")
    method = registry.method(name)
    console.print(f"{name} on toy images, a tiny network, one thread", soft_wrap=True)
    return {title: partial(test, method) for title, test in CHECKS.items()}


@app.command("new-domain")
def new_domain(name: NameArgument, out: FolderOption = Path()) -> None:
    """Writes a dataset plugin that passes `diffmatch check`, for you to change."""
    from diffmatch.conformance.new_plugin import write_domain

    _next(name, write_domain(name, out))


@app.command("new-method")
def new_method(name: NameArgument, out: FolderOption = Path()) -> None:
    """Writes a method that passes `diffmatch check`, for you to change."""
    from diffmatch.conformance.new_plugin import write_method

    _next(name, write_method(name, out))


def _next(name: str, folder: Path) -> None:
    console.print(
        f"written: {folder}\nnext: pip install -e {folder}; diffmatch check {name}", soft_wrap=True, markup=False
    )
