"""The table of a cross-validation: a line for each fold, and the numbers over all cases, each scored once."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.scoring.metrics import summary
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.sections import basis
from diffmatch_reports.wording import METRICS, class_metric, percent


def folds_table(folders: Sequence[RunFolder]) -> RenderableType:
    """The folds' scores, and below them those of all cases together; by class for all of them.

    Raises:
        InputError: a fold was not scored, or two folds scored one case.
    """
    runs = [load_run(folder) for folder in folders]
    pooled = Counts(len(runs[0].card.classes))
    for run in runs:
        if "test" not in run.scores:
            raise InputError(f"{run.folder}: this fold was not scored; run it again")
        if again := pooled.cases.keys() & run.scores["test"].counts.cases.keys():
            raise InputError(f"{run.folder}: the case {min(again)} was scored in another fold too")
        pooled.merge(run.scores["test"].counts)
    first = runs[0]
    labelled = [sum(counts) for counts in zip(*(run.labelled_pixels for run in runs), strict=True)]
    overall = summary(pooled, first.card, labelled, empty=first.card.protocol(first.protocol).empty)

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("test set", "cases", f"{METRICS[first.card.metric]} %", "ECE %"):
        table.add_column(heading, justify="left" if heading == "test set" else "right")
    for run in runs:
        table.add_row(run.record.split.asked or run.record.split.family, *_numbers(run.metrics("test")))
    table.add_section()
    table.add_row("all cases", *_numbers(overall | {"cases": len(pooled.cases)}), style="bold")
    return Group(table, _by_class(first, overall), Text(f"Last fold: {basis(runs[-1], 'test')}.", style="dim"))


def _numbers(metrics: dict[str, object]) -> list[str]:
    primary, ece = metrics.get("primary"), metrics.get("ece")
    value = primary.get("value") if isinstance(primary, dict) else None
    return [str(metrics.get("cases", "")), percent(value), percent(ece if isinstance(ece, float) else None)]


def _by_class(run: RunView, overall: dict[str, dict[str, dict[str, float]]]) -> Text:
    key, name = class_metric(run.card)
    scored = ((klass, row[key]) for klass, row in overall["per_class"].items() if key in row)
    return Text(f"{name} % over all cases: {', '.join(f'{klass} {percent(value)}' for klass, value in scored)}")
