"""File formats, for plugins and for files from elsewhere.

A file that cannot be read raises an `InputError` that names it and says what to do.

Each module wraps the library that knows the format (Pillow, nibabel, h5py, numpy) and adds the checks that its errors
lack. `outside` reads what no data set holds.

Import the module that you need; `nifti` and `arrays` want nibabel and h5py, which a plugin that uses them declares.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from diffmatch.card import InputError
from diffmatch.shared.walk import below, children, composed

__all__ = ["below", "children", "composed", "inside"]


def text_of(path: Path) -> str:
    """A text file in UTF-8 or UTF-16, with or without the mark that editors and spreadsheets write first.

    Raises:
        InputError: another encoding.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not {encoding.removesuffix('-sig')} text (byte {error.start}); save it as UTF-8"
        ) from error


def inside(root: Path, name: str, where: str | Path) -> Path:
    """The path below a data root that a file names.

    Raises:
        InputError: it is absolute or climbs out of the root; `where` is the file that says so.
    """
    if name.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise InputError(f"{where}: '{name[:80]}' leaves the data root; write paths relative to it")
    return root / name
