"""A plugin for a stranger to change: an installable package that passes its conformance suite as it is written."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffmatch.domain import InputError
from diffmatch.plugins import DOMAINS, METHODS, names

FILES = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
    "diffmatch_{name}.py": "plugin.py.jinja",
    "tests/test_{name}.py": "test_plugin.py.jinja",
}
"""What is written, and the template that it is made of."""


def write_domain(name: str, out: Path) -> Path:
    """Write a dataset plugin, the distribution `diffmatch-<name>`; see `_write`."""
    return _write("domain", name, out)


def write_method(name: str, out: Path) -> Path:
    """Write a method, the distribution `diffmatch-<name>`; see `_write`."""
    return _write("method", name, out)


def _write(kind: str, name: str, out: Path) -> Path:
    """Write a distribution into a new folder of its name.

    Args:
        kind: `domain` or `method`, the folder of the templates.
        name: of the plugin on the command line: lower-case letters, digits and single underscores.
        out: the folder in which the new one is made.

    Returns:
        The new folder.

    Raises:
        InputError: the name has other characters or is taken, or the folder exists or cannot be made.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise InputError(
            f"'{name}' cannot name a plugin: take lower-case letters, digits and single underscores, as in my_ponds"
        )
    package = f"diffmatch-{name.replace('_', '-')}"
    if name in {*names(DOMAINS), *names(METHODS)} or _installed(package) or find_spec(f"diffmatch_{name}"):
        raise InputError(f"the name '{name}' is taken by what is installed (`diffmatch {kind}s`); take another")
    folder = out / package
    if folder.exists():
        raise InputError(f"{folder}: exists already; take another name, another --out, or move it away")
    templates = Environment(
        loader=PackageLoader("diffmatch.conformance", f"templates/{kind}"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    camel = name.title().replace("_", "")
    words = {"name": name, "package": package, "title": name.replace("_", " "), "camel": camel}
    try:
        for target, template in FILES.items():
            path = folder / target.format(name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(templates.get_template(template).render(words), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); take another --out") from error
    return folder


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
