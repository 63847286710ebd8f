"""Seconds to look at a data set's files: when all are new to the cache, and when they are what they were.

    python benchmarks/speed/fingerprint.py [--data camvid=DIR msd=DIR] [--many 100000]
    [--out benchmarks/speed/results/fingerprint.md]

Each set is opened with an empty cache and again, in one process. `digest` is the time in `look_at`, `open` the whole of
`open_domain` with the plugin's own work. The last row is of small invented files. The files are in the system's
memory; those on a slow disk take as long as reading them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from diffmatch import plugins
from diffmatch.data import fingerprint
from diffmatch.data.opening import open_domain


def looks(paths: dict[str, Path], store: Path) -> tuple[float, float]:
    """Seconds of the first and of the second look; the files are read once before, so that no disk is measured."""
    for path in paths.values():
        path.read_bytes()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        fingerprint.look_at(paths, store)
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def measure(name: str, root: Path) -> tuple[str, ...]:
    """One row of a data set: files, MB, seconds of digest and open, first and second."""
    kind = plugins.domain(name)
    paths = {path.relative_to(root).as_posix(): path for path in kind(root).files()}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DIFFMATCH_CACHE"] = cache
        first, second = looks(paths, Path(cache) / "store.json")
        opens = []
        for _ in range(2):
            began = time.perf_counter()
            open_domain(kind, root)
            opens.append(time.perf_counter() - began)
    return row(f"{name}, {root.name}", paths, first, second, *opens)


def many(count: int) -> tuple[str, ...]:
    """The row of `count` files of 4 KiB in folders of a thousand."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {f"{n // 1000}/{n}.png": Path(folder) / f"{n // 1000}" / f"{n}.png" for n in range(count)}
        for n, path in enumerate(paths.values()):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(n.to_bytes(4, "big") * 1024)
        time.sleep(2.1)  # until the files are old enough to be remembered
        return row("small files", paths, *looks(paths, Path(folder) / "store.json"))


def row(name: str, paths: dict[str, Path], *seconds: float) -> tuple[str, ...]:
    size = sum(path.stat().st_size for path in paths.values()) / 1e6
    shown = [f"{one:.2f}" for one in seconds] + [""] * (4 - len(seconds))
    return name, f"{len(paths):,}", f"{size:,.0f}", *shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = [measure(name, Path(folder)) for name, folder in (pair.split("=", 1) for pair in asked.data)]
    rows.append(many(asked.many))
    head = ("data", "files", "MB", "digest, first s", "second s", "open, first s", "second s")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(one) + " |" for one in rows)]
    text = f"{os.cpu_count()} cores; files in the system's memory.\n\n" + "\n".join(lines)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
