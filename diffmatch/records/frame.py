"""Records of many runs as one tidy pandas table: a row for each number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from diffmatch.domain import InputError
from diffmatch.records import packed
from diffmatch.records.folder import RunFolder, find_runs
from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.records.select import select_evaluation

if TYPE_CHECKING:
    from pandas import (
        DataFrame,
    )  # imported late below: it takes half a second, and most readers of a record need no table

RUN = (
    *("run", "dataset", "method", "seed", "preset", "labels", "split_family", "split_hash", "data_fingerprint"),
    *("fabricated", "status", "hash", "settings", "time", "card_metric"),
)
EVALUATION = ("evaluation", "checkpoint", "evaluated_split", "protocol", "steps", "draws", "headline")
NUMBER = ("class", "metric", "value")

Number = tuple[str, str, float]
"""Class (empty for a metric of the whole split), metric, value."""


class Recorded(Protocol):
    """A run as it was read: where it lies, its record, and its evaluations."""

    @property
    def folder(self) -> Path: ...
    @property
    def record(self) -> RunRecord: ...
    @property
    def evaluations(self) -> Sequence[EvaluationRecord]: ...


@dataclass(frozen=True)
class Run:
    """The smallest `Recorded`."""

    folder: Path
    record: RunRecord
    evaluations: Sequence[EvaluationRecord]


def frame(paths: str | Path | Iterable[str | Path]) -> DataFrame:
    """All numbers of the runs in and below `paths`: one row per run, evaluation, class and metric.

    A number that was not computed has no row. Nothing is rounded, and shares are between 0 and 1. ::

        from diffmatch.records import frame

        table = frame("runs")
        test = table[table.headline & (table.evaluated_split == "test") & (table.metric == "primary")]
        test.groupby(["dataset", "split_hash", "protocol", "method", "hash"]).value.agg(["mean", "std", "count"])

    Columns:
        run: the run folder.
        dataset, method, seed, preset, status, hash: as in run.json.
        labels: the label budget as it was typed, for example `1/16` or `3`.
        split_family, split_hash: the split of the data. Numbers of different hashes must not be compared.
        data_fingerprint: hash of the data; of their names and sizes alone in older records.
        fabricated: whether the data were invented. Then no number says how well a method works.
        settings: what a file or the command line changed, as JSON with dotted keys in sorted order; with them `init`,
            the weights that a run started from.
        time: when the run was recorded, ISO 8601; empty where the record does not say.
        card_metric: which metric `primary` is: `mean_dice`, `mean_iou` or `changed_iou`.
        evaluation: name of the evaluation; empty for numbers of the training, such as parameters and seconds.
        checkpoint, evaluated_split, protocol, steps, draws: what was scored and how; empty for the training.
        headline: whether run.json quotes this evaluation: the last checkpoint, one evaluation for each split.
        class: name of the class; empty for a metric of the whole split.
        metric: `primary`, `head`, `tail`, `ece`, `dice`, `iou`, `parameters`, `train_seconds` and so on.
        value: the number.

    The speed of an evaluation is `images_per_second`, or `volumes_per_second` where whole volumes were scored. If the
    evaluation that run.json quotes is lost, its numbers are read from run.json and the evaluation's name is empty.

    Args:
        paths: run folders, packed studies, or folders that hold them at any depth.

    Returns:
        The table. `table.attrs["problems"]` lists what could not be read, one sentence each; the rest is there.

    Raises:
        InputError: a path does not exist.
    """
    roots = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    for root in roots:
        if not (root.exists() or packed.study_of(root)):
            raise InputError(f"{root}: no such file or folder; name run folders, or a folder of them")
    runs: list[Run] = []
    problems: list[str] = []
    for folder in dict.fromkeys(folder.path for root in roots for folder in find_runs(root)):
        try:
            run, unreadable = _read(RunFolder(folder))
        except InputError as error:
            problems.append(str(error))
            continue
        runs.append(run)
        problems += unreadable
    table = tidy(runs)
    table.attrs["problems"] = problems
    return table


def _read(folder: RunFolder) -> tuple[Run, list[str]]:
    """A run without the evaluations that cannot be read, and what is wrong with these.

    Raises:
        InputError: the record cannot be read, or it or an evaluation holds something else than numbers.
    """
    record = folder.record()
    evaluations, problems = folder.readable_evaluations()
    run = Run(folder.path, record, evaluations)
    try:
        verify(run)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{folder.record_path}: it or its evaluations hold what no run writes ({what})") from error
    return run, problems


def verify(run: Recorded) -> None:
    """Raises what `tidy` would raise of this run, without making a table, which takes some 20 ms."""
    _run(run)
    for _ in _evaluations(run):
        pass


def tidy(runs: Iterable[Recorded]) -> DataFrame:
    """The table of `frame` for runs that were read already.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: a record holds something else than numbers.
    """
    import pandas as pd

    of_runs: list[tuple[Any, ...]] = []
    of_evaluations: list[tuple[Any, ...]] = []
    numbers: list[tuple[int, int, str, str, float]] = []
    for run in runs:
        of_runs.append(_run(run))
        for scored, values in _evaluations(run):
            of_evaluations.append(scored)
            numbers += ((len(of_runs) - 1, len(of_evaluations) - 1, *number) for number in values)
    table = pd.DataFrame(numbers, columns=["of_run", "of_evaluation", *NUMBER])
    table["value"] = table["value"].astype(float)
    evaluations = pd.DataFrame(of_evaluations, columns=list(EVALUATION)).astype({"steps": "Int64", "draws": "Int64"})
    parts = [
        pd.DataFrame(of_runs, columns=list(RUN)).take(table.pop("of_run")).reset_index(drop=True),
        evaluations.take(table.pop("of_evaluation")).reset_index(drop=True),
    ]
    return pd.concat([*parts, table], axis=1)


def _run(run: Recorded) -> tuple[Any, ...]:
    record, split, data = run.record, run.record.split, run.record.data
    settings, time = json.dumps(record.changes, sort_keys=True), str(record.environment.get("time", ""))
    return (
        *(str(run.folder), record.dataset, record.method, record.seed, record.preset, record.labels.budget),
        *(split.family, split.sha256, data.fingerprint, data.fabricated, str(record.status), record.hash),
        *(settings, time, record.card["metric"]),
    )


def _evaluations(run: Recorded) -> Iterator[tuple[tuple[Any, ...], list[Number]]]:
    """Columns EVALUATION and numbers: of the training, of each evaluation, of each headline whose file is lost."""
    record = run.record
    yield ("", "", "", "", None, None, False), _training(record)
    headlines = {
        split: select_evaluation(record, run.evaluations, split=split) for split in ("test", "val", "unlabeled")
    }
    for each in run.evaluations:
        columns = (
            each.name,
            each.checkpoint,
            each.split,
            each.protocol,
            each.steps,
            each.draws,
            each is headlines[each.split],
        )
        speed = "", f"{items_of(record, each)}_per_second", each.images_per_second
        yield columns, [*scores(each.metrics), speed, ("", "seconds", each.seconds)]
    for split, metrics in record.metrics.items():
        if headlines.get(split) is None:
            yield ("", "last", split, "", None, None, True), list(scores(metrics))


def items_of(record: RunRecord, evaluation: EvaluationRecord) -> Literal["images", "volumes"]:
    """What the speed of an evaluation counts. The unlabelled pool is scored image by image, whatever the protocol."""
    modes = {each["name"]: each["mode"] for each in record.card["protocols"]}
    return "volumes" if modes.get(evaluation.protocol) == "volume" and evaluation.split != "unlabeled" else "images"


def _training(record: RunRecord) -> list[Number]:
    """`parameters` is the total; parts of the network come with their name before it."""
    sizes = [
        ("", "parameters" if name == "total" else f"{name}_parameters", n) for name, n in record.parameters.items()
    ]
    return [*sizes, *(("", name, value) for name, value in record.timing.items())]


def scores(metrics: Mapping[str, Any]) -> Iterator[Number]:
    """The numbers of one evaluation's metrics, as `diffmatch.scoring.metrics.summary` nests them.

    Raises:
        AttributeError, TypeError: the metrics are of another form.
    """
    for name, content in metrics.items():
        if name == "per_class":
            yield from ((klass, metric, _number(v)) for klass, row in content.items() for metric, v in row.items())
        elif name == "acceptance":
            yield from ((klass, "accepted", _number(row["share"])) for klass, row in content.items() if "share" in row)
        elif isinstance(content, Mapping):
            if "value" in content:
                yield "", name, _number(content["value"])
            if "n_valid" in content:
                yield "", f"{name}_n_valid", _number(content["n_valid"])
        else:
            yield "", name, _number(content)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
