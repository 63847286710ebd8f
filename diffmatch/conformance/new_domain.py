"""A dataset plugin for a stranger to change: an installable package that passes the conformance suite as it is
written."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffmatch.domain import InputError
from diffmatch.plugins import DOMAINS, names

FILES = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
    "diffmatch_{name}.py": "plugin.py.jinja",
    "tests/test_{name}.py": "test_plugin.py.jinja",
}
"""What is written, and the template that it is made of."""


def write_domain(name: str, out: Path) -> Path:
    """Write the distribution `diffmatch-<name>` into a new folder of that name.

    Args:
        name: of the plugin on the command line: lower-case letters, digits and single underscores.
        out: the folder in which the new one is made.

    Returns:
        The new folder.

    Raises:
        InputError: not such a name, one that is taken, or a folder that exists or cannot be made.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise InputError(
            f"'{name}' cannot name a plugin: take lower-case letters, digits and single underscores, as in my_ponds"
        )
    package = f"diffmatch-{name.replace('_', '-')}"
    if name in names(DOMAINS) or _installed(package) or find_spec(f"diffmatch_{name}"):
        raise InputError(f"the name '{name}' is taken by what is installed (`diffmatch domains`); take another")
    folder = out / package
    if folder.exists():
        raise InputError(f"{folder}: exists already; take another name, another --out, or move it away")
    templates = Environment(
        loader=PackageLoader("diffmatch.conformance", "templates/domain"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    words = {
        "name": name,
        "package": package,
        "title": name.replace("_", " "),
        "domain": name.title().replace("_", "") + "Domain",
    }
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
