"""Records find their cells by dataset, method, budget, settings and sampler steps, beside comparable ones only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diffmatch.records.folder import RunFolder
from diffmatch.records.tables import Column, Row, Table
from diffmatch_reports.load import load_run
from diffmatch_reports.matching import fillings

Make = Callable[..., RunFolder]
TABLE = Table(
    title="Dice",
    dataset="acdc",
    columns=(Column(name="three", labels="3"), Column(name="seven", labels="7")),
    rows=(
        Row(name="base", method="supervised"),
        Row(name="ours", method="diffmatch"),
        Row(name="ours, bits", method="diffmatch", set={"diffusion.codec": "bits"}),
        Row(name="ours, no drop", method="diffmatch", set={"diffusion.codec": "embedding"}),
        Row(name="one step", method="diffmatch", steps=1),
    ),
)
FILLED = {("ours", "three"), ("ours, bits", "three"), ("one step", "three")}


@pytest.fixture
def run(make_run: Make) -> Callable[..., Any]:
    """`run(**fields of the record)`: a finished, scored run without overrides."""
    return lambda **changes: load_run(make_run(**({"overrides": {}} | changes)))


def filled(found: Any) -> set[tuple[str, str]]:
    return {place for place, cell in found.filled.cells.items() if cell.measured}


def test_a_run_fills_the_cells_that_its_settings_answer(run: Callable[..., Any]) -> None:
    plain = run()
    (found,) = fillings(TABLE, [plain], {})
    assert filled(found) == FILLED, "bits is the run's codec though it was not asked for; embedding is not"
    scores = {
        e.steps: e.metrics["primary"]["value"] for e in plain.evaluations if (e.split, e.checkpoint) == ("test", "last")
    }
    assert found.filled.cells["ours", "three"].measured.mean == pytest.approx(100 * scores[3])
    assert found.filled.cells["one step", "three"].measured.mean == pytest.approx(100 * scores[1])
    assert [source.folder for source in found.filled.cells["ours", "three"].sources] == [plain.folder]


@pytest.mark.parametrize("change", [{"dataset": "msd"}, {"method": "theirs"}, {"status": "failed"}])
def test_what_is_not_the_tables_fills_nothing(run: Callable[..., Any], change: dict[str, Any]) -> None:
    assert not fillings(TABLE, [run(**change)], {})
    shares = TABLE.model_copy(update={"kind": "shares"})
    assert not fillings(shares, [run()], {})


def test_a_run_of_a_sweep_stands_only_where_its_override_is_asked_for(run: Callable[..., Any]) -> None:
    (found,) = fillings(TABLE, [run(overrides={"diffusion.codec": "bits"})], {})
    assert filled(found) == {("ours, bits", "three")}


def test_settings_of_the_whole_table_are_asked_of_every_run(run: Callable[..., Any]) -> None:
    table = TABLE.model_copy(update={"set": {"diffusion.codec": "bits"}})
    (found,) = fillings(table, [run(overrides={"diffusion.codec": "bits"})], {})
    assert filled(found) == FILLED
    assert not fillings(table.model_copy(update={"set": {"train.steps": -1}}), [run()], {})


@pytest.mark.parametrize(
    "change",
    [{"preset": "paper"}, {"data": None}, {"weights": "hub"}, {"overrides": {"train.lr": 0.01}}, {"family": "other"}],
)
def test_runs_that_may_not_stand_together_make_tables_of_their_own(
    run: Callable[..., Any], change: dict[str, Any]
) -> None:
    record = run().record
    if "family" in change:
        change = {"split": record.split.model_copy(update={"family": "other"})}
    if "weights" in change:
        change = {"settings": record.settings | {"network": record.settings["network"] | change}}
    if "data" in change:
        change = {"data": record.data.model_copy(update={"fabricated": False, "fingerprint": "00" * 32})}
    found = fillings(TABLE, [run(), run(seed=1, **change)], {})
    assert [filled(one) for one in found] == [FILLED, FILLED]
    assert all(cell.measured.n == 1 for one in found for cell in one.filled.cells.values() if cell.measured)
    assert len({one.basis for one in found}) == 2


def test_seeds_of_the_newest_hash_are_pooled_and_older_runs_are_named(run: Callable[..., Any]) -> None:
    old = run(hash="old", environment={"time": "2026-01-01"})
    new = [run(seed=seed, environment={"time": f"2026-02-0{seed + 1}"}) for seed in (0, 1)]
    (found,) = fillings(TABLE, [*new, old], {})
    cell = found.filled.cells["ours", "three"]
    assert cell.measured.n == 2 and [source.record.seed for source in cell.sources] == [0, 1]
    assert [source.folder for source in found.left_out] == [old.folder]


def test_a_run_that_a_row_names_stands_there_alone(run: Callable[..., Any]) -> None:
    """The row of an earlier version takes its records from the row of today's, and no other runs."""
    old, new = run(), run(seed=1)
    name = f"{old.record.seed}-{old.record.hash}"
    rows = (*TABLE.rows, Row(name="before", method="diffmatch", records={"3": (name,)}))
    (found,) = fillings(TABLE.model_copy(update={"rows": rows}), [old, new], {})
    by_row = {place: [s.folder for s in cell.sources] for place, cell in found.filled.cells.items() if cell.sources}
    assert by_row["before", "three"] == [old.folder]
    assert by_row["ours", "three"] == [new.folder]
