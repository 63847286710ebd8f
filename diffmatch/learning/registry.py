"""The methods that are installed, behind the entry points of the group ``diffmatch.methods``."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from diffmatch.learning.method import Method
from diffmatch.plugins import METHODS, Group
from diffmatch.settings import Section


def _no_method(point: EntryPoint, loaded: Any) -> str | None:
    if not (isinstance(loaded, type) and issubclass(loaded, Method)):
        return f"{point.value} is not a subclass of diffmatch.learning.method.Method"
    if not (hasattr(loaded, "title") and hasattr(loaded, "citation")):
        return f"{point.value} has no title or no citation"
    return None


methods: Group[Method[Section]] = Group(METHODS, "method", _no_method)


def method(name: str) -> type[Method[Section]]:
    """The installed method with that name.

    Raises:
        InputError: the name is unknown (with the near one), or the plugin is broken.
    """
    return methods.get(name)
