"""Numbers and caveats in words, the same for terminal and page. A missing number is an empty string, never 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from diffmatch.domain import Card
from diffmatch.records.comparable import FEWEST_CASES, Conditions
from diffmatch.records.schema import EvaluationRecord, RunRecord

SPLITS = {"test": "test split", "val": "validation split", "unlabeled": "unlabelled pool"}
METRICS = {"mean_dice": "Mean Dice", "mean_iou": "Mean IoU", "changed_iou": "IoU of changed"}


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage without the sign: 0.8312 -> `83.1`."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def share(value: float | None) -> str:
    """As `percent`, but a rare class keeps two significant digits: 0.00034 -> `0.034`."""
    if value is None:
        return ""
    return f"{100 * value:.2g}" if 0 < value < 0.001 else percent(value)


def decimal(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def spread(mean: float | None, std: float | None) -> str:
    """Mean and, over two seeds or more, the standard deviation, in percent."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def big(value: float | None) -> str:
    """A count for reading: 12345678 -> `12.3 M`."""
    if value is None:
        return ""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


def shown(value: float | None, kind: Literal["share", "percent", "decimal", "int"]) -> str:
    """A table cell."""
    if kind == "int":
        return "" if value is None else f"{value:,}"
    return {"share": share, "percent": percent, "decimal": decimal}[kind](value)


def plural(n: int, noun: str) -> str:
    """`1 class`, `11 classes`: the noun is given in the plural."""
    return f"{n} {noun}" if n != 1 else f"{n} {noun[:-2] if noun.endswith('sses') else noun[:-1]}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 14 min`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def class_key(metric: str) -> str:
    """Key in the record of the number that a class is scored by, where `metric` is the primary one."""
    return "dice" if metric == "mean_dice" else "iou"


def class_metric(card: Card) -> tuple[str, str]:
    """Key in the record and name of the metric that the card scores classes by."""
    key = class_key(card.metric)
    return key, {"dice": "Dice", "iou": "IoU"}[key]


def ece_scope(card: Card) -> str:
    return "foreground pixels" if card.foreground_calibration else "all pixels"


def labels(record: RunRecord) -> str:
    """`3 cases`, `1/16 of the images`."""
    budget, unit = record.labels.budget, record.labels.unit
    return plural(int(budget), unit) if budget.isdigit() else f"{budget} of the {unit}"


def split_id(record: RunRecord) -> str:
    return f"{record.split.family}, {record.split.sha256[:8]}"


def basis(record: EvaluationRecord) -> str:
    """What a number rests on: split, n, protocol, checkpoint and its rule, sampling."""
    scored = record.metrics.get("cases")
    n = f", n = {plural(scored, 'cases')}" if scored is not None else ""
    sampling = f"{plural(record.steps, 'steps')} × {plural(record.draws, 'draws')}"
    return f"{SPLITS[record.split]}{n}, protocol {record.protocol}, {record.selection} (step {record.step}), {sampling}"


def training(conditions: Conditions) -> str:
    """The conditions of a training in a line: preset, network, weights, steps."""
    start = f", started from {conditions.start}" if conditions.start != "none" else ""
    return (
        f"{conditions.preset} preset, {conditions.decoder} on {conditions.encoder}, weights {conditions.weights}"
        f"{start}, steps {conditions.steps} of batch {conditions.batch}, crop {conditions.crop}"
    )


def caveats(record: RunRecord) -> list[str]:
    """Plain sentences about numbers that must not be mistaken for results."""
    sentences = []
    if record.data.fabricated:
        sentences.append(
            "These numbers come from invented data, written by the dataset's plugin because no real data were given. "
            "They show that the software runs and say nothing about how well a method works."
        )
    if record.preset == "quick":
        sentences.append(
            "These numbers come from the quick preset: a smaller encoder, crop and batch and far fewer steps than the "
            "paper's. They are not comparable with published numbers."
        )
    if record.preset == "standard":
        sentences.append(
            "These numbers come from the standard preset: smaller images, on photographs a smaller encoder, and fewer "
            "steps than the paper's. They can be compared with one another, and not with published numbers."
        )
    if few := few_cases(record.metrics.get("test", {})):
        sentences.append(few)
    return sentences


def few_cases(metrics: Mapping[str, Any]) -> str:
    """A sentence on test numbers over fewer cases than `FEWEST_CASES`; empty where they are enough or not counted."""
    scored = metrics.get("cases", FEWEST_CASES)
    if scored >= FEWEST_CASES:
        return ""
    return (
        f"These numbers come from {plural(scored, 'test cases')} ALONE. Fewer than {FEWEST_CASES} say next to nothing: "
        "`diffmatch bench ... --folds 5` scores every case of a set of images once."
    )


def stamp(record: RunRecord) -> str:
    """The caveats in the few words that fit into a caption, with a comma before them."""
    preset = f", {record.preset} preset" if record.preset != "paper" else ""
    return f"{', invented data' if record.data.fabricated else ''}{preset}"


def page_caveats(records: Sequence[RunRecord]) -> list[str]:
    """As `caveats`, for a page of many runs: says of how many a sentence holds."""
    held = Counter(text for record in records for text in caveats(record))
    return [
        text
        if n == len(records)
        else text.replace("These numbers come", f"The numbers of {n} of {len(records)} runs come", 1)
        for text, n in held.items()
    ]


def machines(records: Iterable[RunRecord]) -> list[str]:
    """Sentences that name the devices or precisions where runs that stand together differ in them."""
    known = [record.environment for record in records]
    different = {what: sorted({str(e[what]) for e in known if what in e}) for what in ("device", "precision")}
    return [
        f"Runs of more than one {what}: {', '.join(values)}." for what, values in different.items() if len(values) > 1
    ]


def outcome(record: RunRecord) -> str:
    """Status and, where there is one, its reason."""
    return f"{record.status}: {record.reason}" if record.reason else record.status


def changed(record: RunRecord) -> list[str]:
    """The settings that a file or the command line gave, and the weights that a run started from, as `key=value`.

    `data.split_seed` is left out, because the name of the split has it.
    """
    return [f"{key}={value}" for key, value in record.changes.items() if key != "data.split_seed"]
