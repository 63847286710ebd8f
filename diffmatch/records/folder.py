"""The run folder: one training and the evaluations made of its checkpoints, as plain files that outlive the code.

::

    runs/<dataset>/<method>/<labels>/<seed>-<hash>/
        run.json      `RunRecord`: about the training; its headline is the last checkpoint, always
        split.json    `Members`: the ids of the labelled, unlabelled, val and test items
        evaluations/<checkpoint>-<split>-<protocol>-<steps>x<draws>.{json,npz}
        curves.csv    long table: step, name, class, value
        samples/*.npz image, truth and the label map after each sampling step
        last.ckpt val_best.ckpt log.txt

A path that leads through a packed study (`diffmatch.records.packed`) names a run in it, which can be read only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

from pydantic import ValidationError

from diffmatch.domain import InputError
from diffmatch.records import packed
from diffmatch.records.counts import Counts
from diffmatch.records.schema import SCHEMA, EvaluationRecord, Members, RunRecord
from diffmatch.records.select import select_evaluation
from diffmatch.shared.files import write_json


class RunFolder:
    """Reads and writes one run folder; reads one in a packed study."""

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
        self._refuse_packed()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write ({error.strerror}); choose another folder with --out"
            ) from error
        return self

    def _refuse_packed(self) -> None:
        if study := packed.study_of(self.path):
            raise InputError(
                f"{self.path}: cannot write into a packed study; unpack {study.name} and name the run's folder"
            )

    def exists(self) -> bool:
        """Whether there is a run.json."""
        return packed.is_file(self.record_path)

    def record(self) -> RunRecord:
        """Parse run.json.

        Raises:
            InputError: missing, not JSON, or not this schema.
        """
        try:
            return RunRecord.model_validate_json(packed.read_bytes(self.record_path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{self.path}: no run.json here; give a folder under runs/") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{self.record_path}: not a run record of schema {SCHEMA} or older ({where}: {first['msg']})"
            ) from error

    def members(self) -> Members | None:
        """Parse split.json; None for a run of schema 1, which has none.

        Raises:
            InputError: it is not readable.
        """
        path = self.path / "split.json"
        try:
            return Members.model_validate_json(packed.read_bytes(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable ({type(error).__name__}); copy the run folder again") from error

    def write_members(self, members: Members) -> None:
        self._refuse_packed()
        write_json(self.path / "split.json", members.model_dump(mode="json", exclude_none=True))

    def write(self, record: RunRecord) -> None:
        self._refuse_packed()
        write_json(self.record_path, record.model_dump(mode="json", by_alias=True, exclude_none=True))

    def write_evaluation(self, record: EvaluationRecord, counts: Counts) -> None:
        """Write an evaluation and its counts.

        The evaluation that run.json quotes is kept. Scoring it again on another machine may change the last digits,
        and the two would disagree.
        """
        self._refuse_packed()
        path = self.path / "evaluations" / f"{record.name}.json"
        try:
            kept = self.evaluation_record(record.name)
            self.counts(record.name)
            if self.record_path.exists() and self.record().metrics.get(record.split) == kept.metrics:
                return
        except InputError:
            pass  # there is none, or none that is readable
        counts.save(path.with_suffix(".npz"))
        write_json(path, record.model_dump(mode="json", by_alias=True, exclude_none=True))

    def evaluation_names(self) -> list[str]:
        """Names of the evaluations, sorted; some may be unreadable."""
        return [path.stem for path in packed.files(self.path / "evaluations") if path.suffix == ".json"]

    def evaluation_record(self, name: str) -> EvaluationRecord:
        """One evaluation without its counts.

        Raises:
            InputError: it is not readable, or holds an evaluation of another name.
        """
        path = self.path / "evaluations" / f"{name}.json"
        try:
            record = EvaluationRecord.model_validate_json(packed.read_bytes(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable ({type(error).__name__}); make it again or delete it") from error
        if record.name != name:
            raise InputError(f"{path}: holds the evaluation {record.name}; rename or delete it")
        return record

    def counts(self, name: str) -> Counts:
        """The counts of one evaluation.

        Raises:
            InputError: they are not readable.
        """
        path = self.path / "evaluations" / f"{name}.npz"
        try:
            return Counts.load(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"{path}: not readable ({type(error).__name__}); make it again or delete it") from error

    def readable_evaluations(self) -> tuple[list[EvaluationRecord], list[str]]:
        """The evaluations that can be read, sorted by name and without counts; what is wrong with the others."""
        records, problems = [], []
        for name in self.evaluation_names():
            try:
                records.append(self.evaluation_record(name))
            except InputError as error:
                problems.append(str(error))
        return records, problems

    def evaluations(self) -> list[tuple[EvaluationRecord, Counts]]:
        """All evaluations with their counts, sorted by name.

        Raises:
            InputError: one of them is not readable.
        """
        return [(self.evaluation_record(name), self.counts(name)) for name in self.evaluation_names()]

    def evaluation(self, split: str) -> tuple[EvaluationRecord, Counts] | None:
        """The headline of a split with its counts; None where the split was not scored.

        Raises:
            InputError: one of the evaluations is not readable.
        """
        records = [self.evaluation_record(name) for name in self.evaluation_names()]
        headline = select_evaluation(self.record(), records, split=split)
        return None if headline is None else (headline, self.counts(headline.name))

    def samples(self) -> list[Path]:
        return [path for path in packed.files(self.path / "samples") if path.suffix == ".npz"]


def find_runs(root: Path) -> list[RunFolder]:
    """Every run at or below `root`, sorted: run folders, and the runs of packed studies."""
    return [RunFolder(path) for path in packed.folders_with(root, "run.json")]


def runs_named(name: Path, root: Path) -> Iterator[RunFolder]:
    """The runs called <dataset>/<method>/<labels>/<seed>-<hash> in `root`: as a folder, then in packed studies."""
    for place in (root, *sorted(root.glob(f"*{packed.SUFFIX}"))):
        if (run := RunFolder(place / name)).exists():
            yield run


def budget_folder(budget: str) -> str:
    """`1/16` -> `1-16`, `5%` -> `5pct`, `3` -> `3`."""
    return budget.replace("/", "-").replace("%", "pct")
