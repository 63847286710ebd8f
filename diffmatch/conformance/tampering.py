"""Copies of a data root with files destroyed, and which files a read opens: tools of the conformance suite."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffmatch.domain import SPLITS, Domain, InputError, Item


def kind(path: Path) -> tuple[str, str]:
    """Files of one ending, in folders and with names that differ in numbers alone, are of one kind."""
    return path.suffix, re.sub(r"\d+", "#", path.parent.name) + re.sub(r"[^a-z]+", "#", path.stem.lower())[-8:]


def one_of_each_kind(files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """One binary file per kind; text files (lists, headers) are left out."""
    kinds: dict[tuple[str, str], Path] = {}
    text: set[tuple[str, str]] = set()
    for path in files:
        key = kind(path)
        if key not in kinds and key not in text:
            if _is_text(path):
                text.add(key)
            else:
                kinds[key] = path
    return kinds


def _is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_bytes().decode()
    except UnicodeDecodeError:
        return False


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of a folder made of links: files are shared until they are replaced."""
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        yield Path(shutil.copytree(root, Path(folder) / root.name, copy_function=os.link))


def replace(path: Path, content: bytes) -> None:
    """New content under a name, without touching the file that other links share."""
    path.unlink()
    path.write_bytes(content)


_watching: list[set[Path]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watching and isinstance(arguments[0], str | os.PathLike):
        _watching[-1].add(Path(arguments[0]))


def opened_files(opened: Domain, item: Item, mask: bool) -> set[Path]:
    """The files below the root that Python opens to read an item (what C libraries open by themselves is not seen)."""
    if not getattr(sys, "_diffmatch_watch", False):
        sys.addaudithook(_watch)
        sys._diffmatch_watch = True  # type: ignore[attr-defined]
    _watching.append(set())
    try:
        opened.read(item, mask)
        return {path for path in _watching[-1] if path.is_relative_to(opened.root) and path.is_file()}
    finally:
        _watching.pop()


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_everything(domain: type[Domain], root: Path, only: Item | None = None) -> None:
    """Open, list and read all that is there, or one item."""
    opened = domain(root)
    items = [item for split in SPLITS for item in opened.index(split)]
    list(opened.files())
    for item in items:
        if only is None or item.id == only.id:
            opened.read(item, mask=item.masked)
    if not items:
        raise InputError(f"{root}: nothing found")


def refused(action: Callable[[], object], name: str) -> None:
    """Run an action that must raise an InputError of one line that names `name`.

    Raises:
        AssertionError: it does not.
    """
    try:
        action()
    except InputError as error:
        assert name in str(error), f"the message does not name {name}: {error}"
        assert "\n" not in str(error), f"the message has more than one line: {error}"
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__} instead of InputError: {error}") from error
    else:
        raise AssertionError(f"{name} is damaged and nothing was said")
