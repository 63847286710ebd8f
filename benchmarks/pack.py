"""Adds finished runs to a packed study: one zip file of records that reports, tables and figures read like a folder.

    python benchmarks/pack.py benchmarks/results/study_camvid.zip RUN [RUN ...]

RUN is a run folder or a folder of them. A run that the study already holds is replaced. Of each run these are kept:
run.json, evaluations, curves.csv, and the diagnosis.json and posthoc.json of the scripts beside this one. Checkpoints,
pictures, logs and split.json, whose hash run.json has, are left out. Absolute paths in the records lose the folders of
this machine.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffmatch.domain import InputError
from diffmatch.records import packed
from diffmatch.records.folder import RunFolder, budget_folder, find_runs

KEPT = ("run.json", "diagnosis.json", "posthoc.json", "curves.csv", "evaluations/*.json", "evaluations/*.npz")
FOLDERS = re.compile(rb"""(?<=["'\s=:(,])/(?:(?!fabricated/)[^/\s"]+/)+""")
"""The folders of an absolute path in JSON text, up to its last name. The name of invented data has two parts."""


def name_of(run: RunFolder) -> str:
    """The run's place in a study: <dataset>/<method>/<labels>/<seed>-<hash>, as below runs/.

    Raises:
        InputError: run.json cannot be read, or the run is not finished.
    """
    record = run.record()
    if record.status != "done":
        raise InputError(f"{run.path}: is {record.status}; only finished runs are kept as records")
    return f"{record.dataset}/{record.method}/{budget_folder(record.labels.budget)}/{record.seed}-{record.hash[:8]}"


def kept(run: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Path within the run folder and content of each file that belongs to the record."""
    for path in packed.files(run.path):
        inside = path.relative_to(run.path)
        if any(inside.match(pattern) and len(inside.parts) == pattern.count("/") + 1 for pattern in KEPT):
            content = packed.read_bytes(path)
            yield inside.as_posix(), FOLDERS.sub(b"", content) if path.suffix == ".json" else content


def add(study: Path, runs: Sequence[RunFolder]) -> list[str]:
    """Write the study with these runs beside those that it holds. Returns the runs' names in it.

    Raises:
        InputError: a run is not finished or cannot be read, or another study in the same folder holds it.
    """
    names = {name_of(run): run for run in runs}
    for other in study.parent.glob(f"*{packed.SUFFIX}"):
        for name, run in names.items():
            if other != study and RunFolder(other / name).exists():
                raise InputError(f"{run.path}: {other.name} holds this run already; a run belongs to one study")
    replaced = tuple(f"{name}/" for name in names)
    before = {path.relative_to(study).as_posix(): path for path in (packed.files(study) if study.exists() else [])}
    content = {name: packed.read_bytes(path) for name, path in before.items() if not name.startswith(replaced)}
    for name, run in names.items():
        content |= {f"{name}/{path}": data for path, data in kept(run)}
    packed.write(study, content)
    return list(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the zip file; it is made if there is none")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    study: Path = arguments.study
    try:
        if study.suffix != packed.SUFFIX:
            raise InputError(f"{study}: the name of a packed study ends in {packed.SUFFIX}")
        runs = [run for root in arguments.runs for run in find_runs(root)]
        if not runs:
            raise InputError(f"{', '.join(map(str, arguments.runs))}: no run.json below")
        names = add(study, runs)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    print(*(study / name for name in names), sep="\n")
    print(f"{study} holds {len(find_runs(study))} runs, {study.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
