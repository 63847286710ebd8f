"""What the folder says.

The classes of classes.csv, the files of images/ and masks/, and which part each picture belongs to.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffmatch.domain import SPLITS, VOID, ClassInfo, Domain, InputError, SplitName, distinct_color, is_void
from diffmatch.readers import children, composed, text_of
from diffmatch.readers.image import ENDINGS
from diffmatch.readers.lists import ids_of

BESIDE = (".xml", ".tfw", ".jgw", ".pgw", ".wld", ".prj", ".ovr", ".db", ".ini")
"""Endings of files that other programs lay beside pictures."""

EXAMPLE = "write one row `value,name` per class, for example `0,background` and `1,boat`"


@dataclass(frozen=True)
class Classes:
    """The class table.

    Attributes:
        infos: classes in the order of their smallest value.
        mapping: value in the masks to class index, or 255.
        background: the first class is called background.
        colors: value in the masks to the colour that its row names; values without one are left out.
        void_names: customary names of void, other than `void`, that rows have.
    """

    infos: tuple[ClassInfo, ...]
    mapping: Mapping[int, int]
    background: bool
    colors: Mapping[int, tuple[int, int, int]]
    void_names: tuple[str, ...] = ()


def read_classes(path: Path) -> Classes:
    """classes.csv: rows `value,name[,#rrggbb]`, a first row `value,name[,color]` if you like.

    Values that share a name are one class. A row without a name, or with a customary name of void, is void. So is 255
    without a row of its own, unless there are only two values: there it is as likely to be the second class.

    Raises:
        InputError: missing or not such a table; the row is named.
    """
    rows = _rows(path)
    names: dict[int, str] = {}
    colors: dict[str, tuple[int, int, int]] = {}
    void_names: list[str] = []
    for line, cells in rows:
        value, name, color = (*cells, "", "")[:3]
        if len(cells) > 3 or not re.fullmatch(r"\d{1,5}", value) or not re.fullmatch(r"(#[0-9a-fA-F]{6})?", color):
            raise InputError(
                f"{path}, line {line}: '{','.join(cells)}' is not value,name or value,name,#rrggbb; {EXAMPLE}"
            )
        if int(value) in names:
            raise InputError(f"{path}, line {line}: the value {value} has a row already; keep one of them")
        if is_void(name) and name.lower() != "void":
            void_names.append(name)
        names[int(value)] = "" if is_void(name) else name
        if color:
            colors[name] = tuple(bytes.fromhex(color[1:]))  # type: ignore[assignment]
    given = {value: colors[name] for value, name in names.items() if name in colors}
    order = list(dict.fromkeys(names[value] for value in sorted(names) if names[value]))
    if not 2 <= len(order) < VOID:
        raise InputError(f"{path}: {len(order)} classes; at least 2 and at most {VOID - 1} are needed; {EXAMPLE}")
    if order[0].lower() == "background":
        colors.setdefault(order[0], (0, 0, 0))
    infos = tuple(ClassInfo(name=name, color=colors.get(name, distinct_color(i))) for i, name in enumerate(order))
    mapping = {value: order.index(name) if name else VOID for value, name in names.items()}
    if len(mapping) > 2:
        mapping.setdefault(VOID, VOID)
    return Classes(infos, mapping, order[0].lower() == "background", given, tuple(void_names))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of the rows that hold something, without a heading."""
    try:
        rows = csv.reader(io.StringIO(text_of(path), newline=""))
        lines = [(n, [cell.strip() for cell in cells]) for n, cells in enumerate(rows, 1)]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, so the classes are unknown; {EXAMPLE}") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as text ({type(error).__name__}); {EXAMPLE}") from error
    filled = [(n, cells) for n, cells in lines if any(cells)]
    return filled[1:] if filled and filled[0][1][0].lower() == "value" else filled


def scan(folder: Path) -> dict[str, Path]:
    """The pictures of a folder, or of its subfolders train, val and test, by id (`a`, or `train/a`), sorted.

    Raises:
        InputError: no such folder, other subfolders, both kinds at once, two files of one name, or a file that is no
            picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; put pictures into images/, masks of the same names into masks/")
    loose, inner = _split(folder)
    if unknown := sorted(set(inner) - set(SPLITS)):
        raise InputError(
            f"{folder}: subfolder '{unknown[0]}' is none of {', '.join(SPLITS)}; move its files up or rename it"
        )
    if loose and inner:
        raise InputError(
            f"{folder}: files ({loose[0].name}) beside the subfolders {', '.join(inner)}; move them into one of these"
        )
    paths = [(path, "") for path in loose] + [
        (path, f"{name}/") for name in inner for path in _split(folder / name, deepest=True)[0]
    ]
    pictures: dict[str, Path] = {}
    for path, prefix in sorted(paths):
        if path.suffix.lower() not in ENDINGS:
            raise InputError(f"{path}: not one of {', '.join(ENDINGS)}; convert it, or take it out")
        if (other := pictures.setdefault(prefix + composed(path.stem), path)) is not path:
            raise InputError(
                f"{path}: has the name of {other.name}; a picture is known by its name without the ending, rename one"
            )
    return pictures


def _split(folder: Path, deepest: bool = False) -> tuple[list[Path], list[str]]:
    """Files and subfolders, without hidden ones and what other programs leave."""
    kept = children(folder)
    inner = [path.name for path in kept if path.is_dir()]
    if deepest and inner:
        raise InputError(f"{folder}: holds a further subfolder '{inner[0]}'; move its files up")
    return [path for path in kept if path.suffix.lower() not in BESIDE and path.name not in inner], inner


def divide(domain: Domain, ids: Iterable[str], masked: Iterable[str]) -> tuple[dict[SplitName, list[str]], str]:
    """The ids of each part, and where they come from, in words: subfolders, else lists, else a draw.

    Without a test part, val is the test. The draw is of the sorted ids with masks, 70 / 10 / 20 %; the others join
    train.

    Raises:
        InputError: subfolders and lists at once, no train or no test, a list that names what is not there.
    """
    known, drawn = sorted(ids), sorted(masked)
    lists = {part: path for part in SPLITS if (path := domain.root / f"{part}.txt").is_file()}
    inner = any("/" in name for name in known)
    if inner and lists:
        raise InputError(
            f"{lists[next(iter(lists))]}: pictures lie in subfolders too; take out the lists or the subfolders"
        )
    if not inner and not lists:
        order = np.random.default_rng(0).permutation(len(drawn))
        test, val = max(1, round(0.2 * len(drawn))), round(0.1 * len(drawn))
        part_of = {drawn[i]: "test" if n < test else "val" if n < test + val else "train" for n, i in enumerate(order)}
        return {
            part: [name for name in known if part_of.get(name, "train") == part] for part in SPLITS
        }, "a draw of 70 / 10 / 20 %"
    if inner:
        parts = {part: [name for name in known if name.startswith(f"{part}/")] for part in SPLITS}
    else:
        parts = {part: sorted(ids_of(lists[part], domain)) if part in lists else [] for part in SPLITS}
        for part, path in lists.items():
            if missing := sorted(set(parts[part]) - set(known)):
                raise InputError(
                    f"{path}: names {len(missing)} pictures that images/ does not hold ({', '.join(missing[:3])})"
                )
    how = "subfolders" if inner else "lists"
    if not parts["test"]:
        parts["val"], parts["test"] = [], parts["val"]
        how += "; no test part, so val is the test"
    if not parts["train"] or not parts["test"]:
        kind = how.split(";")[0]
        raise InputError(
            f"{domain.root}: the {kind} give {len(parts['train'])} pictures to train and {len(parts['test'])} to "
            "test; both need some"
        )
    return parts, how
