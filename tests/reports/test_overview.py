"""What the first page says of a folder: a line per dataset."""

from __future__ import annotations

from collections.abc import Callable

from diffmatch.records.folder import RunFolder
from diffmatch_reports.board import boards
from diffmatch_reports.load import load_run
from diffmatch_reports.overview import datasets, period

Make = Callable[..., RunFolder]


def test_a_line_per_dataset(make_run: Make) -> None:
    labels = make_run(light=True).record().labels
    runs = [
        load_run(make_run(light=True, environment={"time": "2026-11-20T10:00:00+00:00"})),
        load_run(make_run(status="failed", full=False, method="cps", labels=labels.model_copy(update={"budget": "1"}))),
        load_run(make_run(fabricated=False, light=True, seed=2, environment={"time": "2026-11-22T10:00:00+00:00"})),
        load_run(make_run(dataset="other", light=True, environment={})),
    ]
    acdc, other = datasets(runs, boards(runs))
    assert (acdc.name, acdc.status, acdc.methods, acdc.budgets) == (
        "acdc",
        {"done": 2, "failed": 1},
        ["cps", "diffmatch"],
        ["1", "3"],
    )
    assert (acdc.data, acdc.when) == ("invented (2), real (1)", "2026-11-20 to 2026-11-22")
    assert (other.data, other.when, len(other.boards)) == ("invented", "", 1)
    assert period(runs) == acdc.when
