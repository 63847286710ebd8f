"""The run folder: one training and the evaluations made of its checkpoints, as plain files that outlive the code.

::

    runs/<dataset>/<method>/<labels>/<seed>-<hash>/
        run.json      `RunRecord`: about the training; its headline is the last checkpoint, always
        evaluations/<checkpoint>-<split>-<protocol>-<steps>x<draws>.{json,npz}
        curves.csv    long table: step, name, class, value
        samples/*.npz image, truth and the label map after each sampling step
        last.ckpt val_best.ckpt log.txt
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffmatch.domain import InputError, write_atomically
from diffmatch.metrics import Counts

SCHEMA = 1
Status = Literal["running", "done", "failed", "interrupted"]


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Labels(Record):
    """The labelled set: the budget as typed, its unit, the labelled item ids and their pixels per class."""

    budget: str
    unit: Literal["images", "cases"]
    items: list[str]
    pixels: dict[str, int]


class SplitId(Record):
    """Family name and sha256 of the sorted labelled, unlabelled, val and test ids. Tables never mix hashes in a column."""

    family: str
    sha256: str
    asked: str | None = Field(default=None, description="what --split named: a folder of lists or an installed family")
    counts: dict[str, int] = Field(description="items: labelled, unlabelled, val, test")


class DataId(Record):
    """Where the data are (below the cache folder if they are invented), and the hash of their file names and sizes."""

    root: str
    fabricated: bool
    invented: int = Field(default=0, description="size of fabricated data, in units of the smallest set")
    fingerprint: str


class RunRecord(Record):
    """run.json. A number not computed is absent, never 0."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    status: Status
    reason: str | None = Field(default=None, description="why a run failed or stopped")
    dataset: str
    method: str
    seed: int
    preset: Literal["quick", "paper"]
    overrides: dict[str, Any]
    labels: Labels
    split: SplitId
    data: DataId
    card: dict[str, Any] = Field(description="the dataset's card as it was: reports need no plugin")
    settings: dict[str, Any]
    hash: str
    parameters: dict[str, int]
    timing: dict[str, float]
    environment: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict, description="split -> numbers of the last checkpoint")

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class EvaluationRecord(Record):
    """evaluations/*.json: which checkpoint was scored on what and how. The .npz beside it holds the counts."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    checkpoint: Literal["last", "val"]
    step: int
    selection: str = Field(description="the rule by which this checkpoint was chosen")
    split: Literal["test", "val", "unlabeled"]
    protocol: str
    steps: int
    draws: int
    seconds: float
    images_per_second: float
    environment: dict[str, Any]
    metrics: dict[str, Any]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @property
    def name(self) -> str:
        return f"{self.checkpoint}-{self.split}-{self.protocol}-{self.steps}x{self.draws}"


class RunFolder:
    """Reads and writes one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record_path(self) -> Path:
        return self.path / "run.json"

    def create(self) -> RunFolder:
        """Make the folder; the ranks of one run may all do so at once.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(f"{self.path}: cannot write ({error.strerror}); choose another folder with --out") from error
        return self

    def record(self) -> RunRecord:
        """Parse run.json.

        Raises:
            InputError: missing, not JSON, or not this schema.
        """
        try:
            return RunRecord.model_validate_json(self.record_path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{self.path}: no run.json here; give a folder under runs/") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{self.record_path}: not a run record of schema {SCHEMA} ({where}: {first['msg']})") from error

    def write(self, record: RunRecord) -> None:
        write_json(self.record_path, record.model_dump(mode="json", by_alias=True, exclude_none=True))

    def write_evaluation(self, record: EvaluationRecord, counts: Counts) -> None:
        """Write it and its counts. The one that run.json has its numbers from stays: another machine's digits would part the two."""
        path = self.path / "evaluations" / f"{record.name}.json"
        try:
            kept, _ = self._read(path)
            if self.record_path.exists() and self.record().metrics.get(record.split) == kept.metrics:
                return
        except InputError:
            pass  # there is none, or none that is readable
        counts.save(path.with_suffix(".npz"))
        write_json(path, record.model_dump(mode="json", by_alias=True, exclude_none=True))

    def _read(self, path: Path) -> tuple[EvaluationRecord, Counts]:
        try:
            return EvaluationRecord.model_validate_json(path.read_bytes()), Counts.load(path.with_suffix(".npz"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"{path}: it or its .npz is not readable ({type(error).__name__}); make it again or delete it") from error

    def evaluations(self) -> list[tuple[EvaluationRecord, Counts]]:
        """All evaluations, sorted by name.

        Raises:
            InputError: one of them is not readable.
        """
        return [self._read(path) for path in sorted((self.path / "evaluations").glob("*.json"))]

    def evaluation(self, split: str, checkpoint: str = "last") -> tuple[EvaluationRecord, Counts] | None:
        """The headline evaluation of a split: the one whose numbers stand in run.json."""
        return headline(self.record(), self.evaluations(), split, checkpoint)

    def samples(self) -> list[Path]:
        return sorted((self.path / "samples").glob("*.npz"))


def headline(
    run: RunRecord, evaluations: Iterable[tuple[EvaluationRecord, Counts]], split: str, checkpoint: str = "last"
) -> tuple[EvaluationRecord, Counts] | None:
    """Of a run's evaluations the one whose numbers stand in run.json; the first of the split where none stand there."""
    metrics = run.metrics.get(split)
    for record, counts in evaluations:
        if record.split == split and record.checkpoint == checkpoint and (metrics is None or record.metrics == metrics):
            return record, counts
    return None


class Curves:
    """curves.csv: appended as training goes; on resume, rows after the checkpoint's step are dropped."""

    FIELDS = ("step", "name", "class", "value")

    def __init__(self, path: Path, upto: int = -1) -> None:
        self.path = path
        kept = [row for row in self.read(path) if int(row["step"]) <= upto] if path.exists() else []
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, self.FIELDS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, rows: Iterable[tuple[int, str, str, float | int]]) -> None:
        with self.path.open("a", newline="") as handle:
            csv.writer(handle).writerows(rows)

    @staticmethod
    def read(path: Path) -> Iterator[dict[str, str]]:
        """Complete rows; a line cut off by a kill is left out."""
        with path.open(newline="") as handle:
            rows = csv.reader(handle)
            names = next(rows, [])
            for row in rows:
                if len(row) == len(names) and row[-1]:
                    yield dict(zip(names, row, strict=True))


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, atomically; NaN is refused, because a number not computed is absent."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda handle: handle.write(text.encode()))


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of `content`: the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def find_runs(root: Path) -> list[RunFolder]:
    """Every run folder under `root` (or `root` itself), sorted."""
    return [RunFolder(path.parent) for path in sorted(root.rglob("run.json"))]


def budget_folder(budget: str) -> str:
    """`1/16` -> `1-16`, `5%` -> `5pct`, `3` -> `3`."""
    return budget.replace("/", "-").replace("%", "pct")


def usable_cores() -> int:
    """Cores that this process may use: on a shared node fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(device: str, precision: str, world_size: int) -> dict[str, Any]:
    """Versions, machine and commit that a number was made with."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES if installed(name)},
        "device": device,
        "cores": usable_cores(),
        "precision": precision,
        "world_size": world_size,
        "git": git_state(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


PACKAGES = ("diffmatch-bench", "torch", "lightning-fabric", "segmentation-models-pytorch", "timm", "monai", "numpy")


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and whether the tree differs from it; None outside a checkout."""
    try:
        here = Path(__file__).parent
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        if commit.returncode:
            return None
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=10)
        return {"commit": commit.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
    except (OSError, subprocess.TimeoutExpired):
        return None
