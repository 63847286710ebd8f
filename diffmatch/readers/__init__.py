"""File formats, for plugins: each reader names the file and says what to do when it cannot be read. The engine itself
reads none.

Import the module that you need; `nifti` and `arrays` want nibabel and h5py, which a plugin that uses them declares.
"""

from __future__ import annotations

import re
from pathlib import Path

from diffmatch.card import InputError


def inside(root: Path, name: str, where: str | Path) -> Path:
    """The path below a data root that a file names.

    Raises:
        InputError: it is absolute or climbs out of the root; `where` is the file that says so.
    """
    if name.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise InputError(f"{where}: '{name[:80]}' leaves the data root; write paths relative to it")
    return root / name
