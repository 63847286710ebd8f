"""Which files a prediction is made of, and what the files that it writes are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from diffmatch.domain import InputError
from diffmatch.shared.walk import below, children, composed

Source = Path | tuple[Path, Path]
"""A file, or two dates of one place."""


def named(paths: Sequence[Path], endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Files by the names that what is written of them gets.

    A name is that of the file without the ending; of a folder's files, the path below the folder. Hidden files and
    folders, and what systems leave there, are passed over.

    Args:
        paths: files, or folders in which all files with these endings are taken.

    Raises:
        InputError: a path that does not exist or holds no such file, or two files of one name.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        folder = path if path.is_dir() else path.parent
        fitting = {p: stem for p in _inside(path) if (stem := without_ending(p.name, endings)) is not None}
        if not fitting:
            what = "holds no" if path.is_dir() else "is no"
            raise InputError(f"{path}: {what} file of this model's kind ({', '.join(endings)})")
        for file, stem in fitting.items():
            name = composed(file.relative_to(folder).with_name(stem).as_posix())
            if (other := seen.setdefault(name, file)) != file:
                raise InputError(f"{file}: its mask would be called as that of {other}; predict them into two folders")
            yield name, file


def pairs(before: Path, after: Path, endings: tuple[str, ...]) -> dict[str, tuple[Path, Path]]:
    """Two dates by name: of two files that of the earlier one, of two folders those of the files that both hold.

    Raises:
        InputError: a path that does not exist, a file and a folder, or a file that the other folder lacks.
    """
    if before.is_dir() != after.is_dir():
        raise InputError(f"{before}, {after}: a file and a folder; name two files or two folders")
    if not before.is_dir():
        first, second = (next(named([path], endings)) for path in (before, after))
        return {first[0]: (first[1], second[1])}
    first_date, second_date = (dict(named([path], endings)) for path in (before, after))
    for names, others, folder in ((first_date, second_date, after), (second_date, first_date, before)):
        if missing := sorted(names.keys() - others.keys()):
            raise InputError(
                f"{names[missing[0]]}: {folder} has no file of this name ({len(missing)} missing there); both folders "
                "must hold the same names"
            )
    return {name: (path, second_date[name]) for name, path in first_date.items()}


def pairs_below(paths: Sequence[Path], endings: tuple[str, ...]) -> dict[str, tuple[Path, Path]]:
    """Two dates by name: of folders with A/ and B/ in them, of a folder called A with B beside it, of files in such.

    Raises:
        InputError: a path that is none of these, or as `pairs`.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        if path.is_dir() and (path / "A").is_dir():
            folder = path / "A"
        if folder.name != "A" or not folder.with_name("B").is_dir():
            raise InputError(
                f"{path}: two dates are needed: name them with --before and --after, or a folder that holds A/ and B/"
            )
        chosen = pairs(folder, folder.with_name("B"), endings)
        if not path.is_dir():
            chosen = {name: pair for name, pair in chosen.items() if pair[0] == path}
        if not chosen:
            raise InputError(f"{path}: is no file of this model's kind ({', '.join(endings)})")
        if twice := found.keys() & chosen.keys():
            raise InputError(f"{path}: '{min(twice)}' is the name of two inputs; predict them into two folders")
        found |= chosen
    return found


def later(path: Path) -> Path:
    """The file B/NAME of the later date, for the earlier one's A/NAME.

    Raises:
        InputError: the file does not lie in a folder A, or B beside it has no file of this name.
    """
    there = [other for other in children(path.parent.with_name("B")) if composed(other.stem) == composed(path.stem)]
    if path.parent.name != "A" or not there:
        raise InputError(
            f"{path}: two dates are needed: give the pair (before, after), or a file in a folder A with one of its "
            "name in B beside it"
        )
    return there[0]


def without_ending(name: str, endings: Iterable[str]) -> str | None:
    """The name without the longest of the endings that it has, in whichever case; None if it has none of them."""
    return next((name[: -len(e)] for e in sorted(endings, key=len, reverse=True) if name.lower().endswith(e)), None)


def _inside(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(below(path))
