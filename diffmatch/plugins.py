"""Domains and methods found through entry points.

Names are strict, and a broken plugin does not take the others down.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from diffmatch.domain import API, Domain, InputError

DOMAINS, METHODS = "diffmatch.domains", "diffmatch.methods"
"""The entry-point groups."""

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """One entry point: the class behind it, or why it cannot be used."""

    name: str
    distribution: str
    loaded: type[T] | None
    error: str | None


def names(group: str) -> list[str]:
    """Names of a group's plugins; nothing is loaded."""
    return sorted({point.name for point in entry_points(group=group)})


class Group(Generic[T]):
    """The plugins of one entry-point group.

    Args:
        group: of the entry points.
        kind: what a plugin of it is called in messages.
        problem: says why a loaded object is no such plugin; None where it is one.
    """

    def __init__(self, group: str, kind: str, problem: Callable[[EntryPoint, Any], str | None]) -> None:
        self.group, self.kind, self.problem = group, kind, problem
        self._loaded: dict[str, type[T]] = {}

    def all(self) -> dict[str, Plugin[T]]:
        """Every plugin by name, loaded. The error of one that cannot be loaded is kept as text.

        Raises:
            InputError: two distributions claim one name.
        """
        return {name: Plugin(name, _distribution(point), *self._load(point)) for name, point in self._points().items()}

    def names(self) -> list[str]:
        """Names of the group's plugins; nothing is loaded."""
        return names(self.group)

    def usable(self) -> dict[str, type[T]]:
        """The classes of the plugins that can be loaded, by name."""
        return {name: plugin.loaded for name, plugin in self.all().items() if plugin.loaded is not None}

    def find(self, name: str) -> type[T] | None:
        """The class of the plugin with that name, None where there is none that can be loaded."""
        try:
            return self.get(name)
        except InputError:
            return None

    def get(self, name: str) -> type[T]:
        """The class of the plugin with that name.

        Raises:
            InputError: the name is unknown (with the near one), or the plugin is broken.
        """
        if name not in self._loaded:
            self._loaded[name] = self._get(name)
        return self._loaded[name]

    def forget(self) -> None:
        """Drop what was loaded, for a process in which packages are installed while it runs."""
        self._loaded.clear()

    def _get(self, name: str) -> type[T]:
        points = self._points(name)
        if not points:
            known = names(self.group)
            near = difflib.get_close_matches(name, known, 1, 0.5)
            advice = f"did you mean '{near[0]}'?" if near else f"installed: {', '.join(known)}"
            raise InputError(f"unknown {self.kind} '{name}'; {advice}")
        loaded, error = self._load(points[name])
        if loaded is None:
            raise InputError(f"the {self.kind} plugin '{name}' ({points[name].value}) is broken: {error}")
        return loaded

    def _points(self, only: str | None = None) -> dict[str, EntryPoint]:
        points: dict[str, EntryPoint] = {}
        for point in sorted(entry_points(group=self.group), key=lambda p: p.name):
            if only in (None, point.name):
                other = _distribution(points.setdefault(point.name, point))
                if other != _distribution(point):
                    both = f"{other} and {_distribution(point)}"
                    raise InputError(f"two plugins are called '{point.name}': {both}; uninstall one")
        return points

    def _load(self, point: EntryPoint) -> tuple[type[T] | None, str | None]:
        try:
            loaded = point.load()
            error = self.problem(point, loaded)
        except Exception as failure:  # a stranger's code may fail in any way; the others go on
            message = str(failure).splitlines()[0] if str(failure) else "no message"
            return None, f"{type(failure).__name__}: {message}"
        return (loaded, None) if error is None else (None, error)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _no_domain(point: EntryPoint, loaded: Any) -> str | None:
    if not (isinstance(loaded, type) and issubclass(loaded, Domain)):
        return f"{point.value} is not a subclass of diffmatch.domain.Domain"
    if loaded.card.api != API:
        return f"written for plugin interface {loaded.card.api}, this is {API}"
    if loaded.card.name != point.name:
        return f"its card is called '{loaded.card.name}', its entry point '{point.name}'"
    return None


domains: Group[Domain] = Group(DOMAINS, "dataset", _no_domain)
"""The installed data sets. The installed methods are `diffmatch.learning.registry.methods`."""


def domain(name: str) -> type[Domain]:
    """The installed domain with that name.

    Raises:
        InputError: the name is unknown (with the near one), or the plugin is broken.
    """
    return domains.get(name)
