"""Domains and methods found through entry points: strict about names, and one broken plugin does not take the others down."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from diffmatch.domain import API, Domain, InputError

if TYPE_CHECKING:
    from diffmatch.methods.base import Method

DOMAINS, METHODS = "diffmatch.domains", "diffmatch.methods"


@dataclass(frozen=True)
class Plugin:
    """One entry point: what it loads to, or why it does not."""

    name: str
    distribution: str
    loaded: Any
    error: str | None


def names(group: str) -> list[str]:
    """Names of a group's plugins; nothing is loaded."""
    return sorted({point.name for point in entry_points(group=group)})


def plugins(group: str) -> dict[str, Plugin]:
    """All plugins of a group by name, loaded; import errors are kept as text.

    Raises:
        InputError: two distributions claim one name.
    """
    return {name: Plugin(name, _distribution(point), *_load(group, point)) for name, point in _points(group).items()}


def _points(group: str, only: str | None = None) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda p: p.name):
        if only in (None, point.name):
            other = _distribution(found.setdefault(point.name, point))
            if other != _distribution(point):
                raise InputError(f"two plugins are called '{point.name}': {other} and {_distribution(point)}; uninstall one")
    return found


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _load(group: str, point: EntryPoint) -> tuple[Any, str | None]:
    try:
        loaded = point.load()
        if group == DOMAINS:
            if not (isinstance(loaded, type) and issubclass(loaded, Domain)):
                return None, f"{point.value} is not a subclass of diffmatch.domain.Domain"
            if loaded.card.api != API:
                return None, f"written for plugin interface {loaded.card.api}, this is {API}"
            if loaded.card.name != point.name:
                return None, f"its card is called '{loaded.card.name}', its entry point '{point.name}'"
        else:
            from diffmatch.methods.base import Method  # late: brings torch

            if not (isinstance(loaded, type) and issubclass(loaded, Method)):
                return None, f"{point.value} is not a subclass of diffmatch.methods.base.Method"
            if not (hasattr(loaded, "title") and hasattr(loaded, "citation")):
                return None, f"{point.value} has no title or no citation"
        return loaded, None
    except Exception as error:  # a stranger's code may fail in any way; the others go on
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


@cache
def _found(group: str, name: str) -> Any:
    points = _points(group, name)
    kind = "dataset" if group == DOMAINS else "method"
    if not points:
        known = names(group)
        near = difflib.get_close_matches(name, known, 1, 0.5)
        raise InputError(f"unknown {kind} '{name}'" + (f"; did you mean '{near[0]}'?" if near else f"; installed: {', '.join(known)}"))
    loaded, error = _load(group, points[name])
    if error:
        raise InputError(f"the {kind} plugin '{name}' ({points[name].value}) is broken: {error}")
    return loaded


def domain(name: str) -> type[Domain]:
    """The installed domain of that name.

    Raises:
        InputError: unknown (with the near name) or broken.
    """
    found: type[Domain] = _found(DOMAINS, name)
    return found


def method(name: str) -> type[Method]:
    """The installed method of that name.

    Raises:
        InputError: unknown (with the near name) or broken.
    """
    found: type[Method] = _found(METHODS, name)
    return found
