"""The table of a cross-validation pools the cases of all folds, each scored once."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch_reports import folds_table

Make = Callable[..., RunFolder]


def renamed(folder: RunFolder, prefix: str) -> RunFolder:
    """The run with other names of its test cases."""
    path = next((folder.path / "evaluations").glob("last-test*.npz"))
    counts = Counts.load(path)
    for name in ("cases", "surface"):
        setattr(counts, name, {f"{prefix}{case}": rows for case, rows in getattr(counts, name).items()})
    counts.save(path)
    return folder


def test_all_cases_are_pooled_once(make_run: Make) -> None:
    folds = [
        renamed(make_run(light=True, seed=n, skill=skill), prefix)
        for n, (prefix, skill) in enumerate((("a", 3.0), ("b", 4.0)))
    ]
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(folds_table(folds))
    lines = console.export_text().splitlines()
    values = [folder.record().metrics["test"]["primary"]["value"] for folder in folds]
    (line,) = (line for line in lines if line.startswith("all cases"))
    _, cases, value, _ = (cell.strip() for cell in line.split("│"))
    assert cases == "80" and float(value) == pytest.approx(100 * np.mean(values), abs=0.06), "40 cases in each fold"
    assert sum(line.startswith("unimatch") for line in lines) == 2


def test_a_case_in_two_folds_is_refused(make_run: Make) -> None:
    with pytest.raises(InputError, match="patient000 was scored in another fold too"):
        folds_table([make_run(light=True), make_run(light=True, seed=1)])
