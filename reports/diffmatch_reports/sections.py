"""A run view cut into what the template prints: rows, tiles, lists."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diffmatch.records.frame import items_of
from diffmatch.records.schema import Init
from diffmatch.settings import flatten
from diffmatch_reports import wording
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import METRICS, SPLITS, class_metric, duration, ece_scope, plural

DISTANCES = {"hd95_mm": "HD95 mm", "asd_mm": "ASD mm", "hd95_voxel": "HD95 voxel", "asd_voxel": "ASD voxel"}


@dataclass(frozen=True)
class Column:
    """`kind` says how its numbers are printed: share, percent, decimal, int."""

    key: str
    heading: str
    kind: str
    hint: str = ""


@dataclass(frozen=True)
class ClassTable:
    """Rows are (name, colour, mark, {column key: value}); `groups` are the means below them."""

    columns: list[Column]
    rows: list[tuple[str, tuple[int, int, int], str, dict[str, float]]]
    groups: list[tuple[str, dict[str, float]]]


@dataclass(frozen=True)
class Tile:
    """A headline number, and what answering the majority class would have scored."""

    label: str
    value: float | None
    baseline: float | None
    hint: str


def basis(run: RunView, split: str) -> str:
    """What the headline numbers of a split rest on, and whether they may be taken for results."""
    score = run.scores.get(split)
    what = wording.basis(score.record) if score else f"{SPLITS[split]}, last checkpoint, evaluation file missing"
    return what + wording.stamp(run.record)


def tiles(run: RunView, split: str = "test") -> list[Tile]:
    """The headline numbers: primary, head, tail, ECE, accuracy."""
    metrics = run.metrics(split)
    if not metrics:
        return []
    baseline = run.scores[split].baseline if split in run.scores else {}
    head, tail = run.ranks()
    primary = metrics.get("primary", {})
    over = f"over {plural(primary['n_valid'], 'classes')}" if "n_valid" in primary else ""

    def value(source: dict[str, Any], group: str) -> float | None:
        number: float | None = source.get(group, {}).get("value")
        return number

    row_of_tiles = [Tile(METRICS[run.card.metric], value(metrics, "primary"), value(baseline, "primary"), over)]
    row_of_tiles += [
        Tile(label, value(metrics, key), value(baseline, key), ", ".join(names))
        for label, key, names in (("Head", "head", head), ("Tail", "tail", tail))
    ]
    row_of_tiles.append(Tile("ECE", metrics.get("ece"), None, f"{ece_scope(run.card)}, lower is better"))
    row_of_tiles.append(Tile("Pixel accuracy", metrics.get("accuracy"), baseline.get("accuracy"), "all pixels"))
    return row_of_tiles


def class_table(run: RunView, split: str) -> ClassTable | None:
    """The numbers of a split by class."""
    metrics = run.metrics(split)
    if not metrics.get("per_class"):
        return None
    per_class = metrics["per_class"]
    baseline = run.scores[split].baseline if split in run.scores else {}
    key, name = class_metric(run.card)
    head, tail = run.ranks()
    totals = {
        k: sum(row.get(k, 0) for row in per_class.values())
        for k in ("labelled_pixels", "truth_pixels", "predicted_pixels")
    }

    columns = [
        Column("labelled_pixels", "Labelled share", "share", "of the labelled training pixels"),
        Column("truth_pixels", "Truth share", "share", "of this split's pixels"),
        Column("predicted_pixels", "Predicted share", "share", "of this split's pixels"),
        Column(key, f"{name} %", "percent"),
        Column("majority", f"{name} % of majority", "percent", f"answers {run.majority_class} everywhere"),
        *([Column("iou", "IoU %", "percent")] if key != "iou" else []),
        Column("precision", "Precision %", "percent"),
        Column("recall", "Recall %", "percent"),
        Column("ece", "ECE %", "percent", "of this class's probability"),
        *(Column(k, heading, "decimal") for k, heading in DISTANCES.items()),
        Column("n_valid", "n", "int", f"cases in which {name} is defined"),
        Column("n_distances", "n of distances", "int", "cases in which truth and prediction both have the class"),
        Column("accepted", "Accepted %", "percent", "of the pixels predicted as this class"),
    ]
    rows = []
    for info in run.card.classes:
        values = dict(per_class.get(info.name, {}))
        values |= {k: values[k] / total for k, total in totals.items() if total and k in values}
        values["majority"] = baseline.get("per_class", {}).get(info.name, {}).get(key)
        values["accepted"] = metrics.get("acceptance", {}).get(info.name, {}).get("share")
        mark = "head" if info.name in head else "tail" if info.name in tail else ""
        rows.append((info.name, info.color, mark, {k: v for k, v in values.items() if v is not None}))
    used = {k for *_, values in rows for k in values}
    if "hd95_mm" in used:
        used -= {"hd95_voxel", "asd_voxel"}
    groups = []
    for label, group in (("Head", "head"), ("Tail", "tail"), (METRICS[run.card.metric], "primary")):
        pair = {key: metrics.get(group, {}).get("value"), "majority": baseline.get(group, {}).get("value")}
        groups.append((label, {k: v for k, v in pair.items() if v is not None}))
    return ClassTable([column for column in columns if column.key in used], rows, groups)


def settings(run: RunView) -> list[tuple[str, str, bool]]:
    """Dotted key, value, and whether the user overrode it."""
    overridden = flatten(run.record.overrides)
    tree = flatten(run.record.settings)
    return [
        (key, str(value), key in overridden)
        for key, value in sorted((tree | {k: v for k, v in overridden.items() if k not in tree}).items())
    ]


def provenance(run: RunView) -> list[tuple[str, str]]:
    """Where the numbers come from, as term and description."""
    record, env = run.record, dict(run.record.environment)
    git = env.pop("git", None)
    command = env.pop("command", None)
    packages = env.pop("packages", {})
    items = {
        "Command": shlex.join(map(str, command)) if command else "",
        "Commit": f"{git['commit']}{', with uncommitted changes' if git.get('dirty') else ''}" if git else "",
        "Run hash": record.hash,
        "Started from": _start(record.init) if record.init else "",
        "Split": f"{record.split.family}, sha256 {record.split.sha256}",
        "Items": ", ".join(f"{n} {name}" for name, n in record.split.counts.items()),
        "Labelled items": _listing(record.labels.items),
        "Data": f"{record.data.root}{' (invented)' if record.data.fabricated else ''}",
        "Data fingerprint": record.data.fingerprint,
        "Licence of the data": run.card.licence,
        "Citation": run.card.citation,
        "Parameters": ", ".join(f"{name} {n:,}" for name, n in record.parameters.items()),
        "Timing": ", ".join(_timing(name, value) for name, value in record.timing.items()),
        "Packages": ", ".join(f"{name} {v}" for name, v in packages.items()),
    } | {str(key).replace("_", " ").capitalize(): str(value) for key, value in env.items() if value is not None}
    return [(term, text) for term, text in items.items() if text]


def _start(init: Init) -> str:
    """What a run started from, and how much of it fitted."""
    weights = f"{init.method} on {init.dataset}, weights {init.sha256[:8]}"
    left = {"started fresh": len(init.fresh), "were not used": len(init.unused)}
    rest = "".join(f", {count} {what}" for what, count in left.items() if count)
    return f"{init.source} ({weights}): {init.fitted} tensors taken over{rest}"


def _timing(name: str, value: float) -> str:
    """`train_seconds` as a duration, anything else (a rate) as a number."""
    stem = name.removesuffix("_seconds")
    return f"{stem.replace('_', ' ')} {duration(value) if stem != name else f'{value:.3g}'}"


def _listing(items: list[str], most: int = 20) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def evaluations(run: RunView) -> Iterable[tuple[str, dict[str, Any], Any]]:
    """What was scored (images or volumes), the numbers, and the record of each evaluation."""
    return (
        (
            items_of(run.record, e),
            {g: e.metrics.get(g, {}).get("value") for g in ("primary", "head", "tail")} | {"ece": e.metrics.get("ece")},
            e,
        )
        for e in run.evaluations
    )
