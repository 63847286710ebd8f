"""Packed studies: many run folders in one zip file, read in place and never unpacked.

A path may lead through such a file as through a folder:
`results/study_camvid.zip/camvid/diffmatch/1-16/0-30db11a4/run.json`. The functions below take such paths and paths on
disk. They are our own because `zipfile.Path` cannot be pickled, compared or searched in Python 3.11, and the report
sends paths to other processes and sorts them.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO

from diffmatch.domain import InputError
from diffmatch.shared.files import write_atomically
from diffmatch.shared.walk import below

SUFFIX = ".zip"
LARGEST = 2**28
"""Bytes of the largest file that is read out of a study. A small zip file can hold a huge one."""
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)
"""What `zipfile` raises for truncated, foreign and encrypted files."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of everything that is packed, so that the same content gives the same bytes."""


def study_of(path: Path) -> Path | None:
    """The packed study that `path` names or lies in; None for a path on disk."""
    return next((file for file in (path, *path.parents) if file.suffix == SUFFIX and file.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """The content of a file on disk or in a packed study.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the packed study cannot be read.
    """
    study = study_of(path)
    if study is None:
        return path.read_bytes()
    archive, name = _opened(study), _name(path, study)
    if name not in archive.NameToInfo:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if (size := archive.getinfo(name).file_size) > LARGEST:
        raise InputError(f"{path}: has {size} bytes, too many for a file of a record")
    try:
        return archive.read(name)
    except DAMAGE as error:
        raise _damaged(study, error) from error


def is_file(path: Path) -> bool:
    """Whether there is such a file on disk or in a packed study."""
    study = study_of(path)
    return path.is_file() if study is None else _name(path, study) in _opened(study).NameToInfo


def files(folder: Path) -> list[Path]:
    """Every file below a folder on disk or in a packed study, sorted; none where there is no such folder."""
    study = study_of(folder)
    if study is None:
        return sorted(below(folder))
    prefix = "" if folder == study else f"{_name(folder, study)}/"
    names = (name for name in _opened(study).NameToInfo if name.startswith(prefix) and not name.endswith("/"))
    return sorted(study / name for name in names)


def folders_with(root: Path, name: str) -> list[Path]:
    """The folders that hold a file called `name`, at or below `root` on disk and in the packed studies there, sorted.

    A packed study below `root` that is damaged stands among them, so that reading from it says so.
    """
    if study_of(root) is not None:
        return [path.parent for path in files(root) if path.name == name]
    folders = []
    for path in below(root):
        if path.name == name:
            folders.append(path.parent)
        elif path.suffix == SUFFIX:
            try:
                folders += folders_with(path, name)
            except InputError:
                folders.append(path)
    return sorted(folders)


def write(study: Path, content: Mapping[str, bytes]) -> None:
    """Write a packed study atomically. The same content gives the same bytes.

    Args:
        content: by path in the study, with `/` between folders.
    """

    def pack(handle: IO[bytes]) -> None:
        with zipfile.ZipFile(handle, "w") as archive:
            for name in sorted(content):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # a plain file, on every system
                archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, compresslevel=9)

    write_atomically(study, pack)


def _name(path: Path, study: Path) -> str:
    return path.relative_to(study).as_posix()


def _opened(study: Path) -> zipfile.ZipFile:
    status = study.stat()
    return _archive(study, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size), os.getpid())


@lru_cache(maxsize=64)
def _archive(study: Path, version: tuple[int, ...], process: int) -> zipfile.ZipFile:
    """The open zip file, opened anew for another version of it and in another process (a fork shares the position).

    Raises:
        InputError: it is damaged, or holds a name that leads out of it.
    """
    try:
        archive = zipfile.ZipFile(study)
    except DAMAGE as error:
        raise _damaged(study, error) from error
    for name in archive.NameToInfo:
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise InputError(f"{study}: holds the path {name!a}, which leads out of it; this is no packed study")
    return archive


def _damaged(study: Path, error: Exception) -> InputError:
    return InputError(
        f"{study}: cannot be read as a packed study ({type(error).__name__}); fetch it again or delete it"
    )
