"""Table specifications: all load, all fit the published numbers and the installed plugins; a user's own, and what is
refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch import plugins
from diffmatch.data.splits import Budget
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.records import tables
from diffmatch.running import grid
from diffmatch.settings import resolve

PAPER = [n for n in range(1, 20) if n != 10]
METHODS = plugins.names(plugins.METHODS)


@pytest.fixture(params=PAPER)
def table(request):
    return tables.load(str(request.param))


def test_all_tables_of_the_paper_but_the_one_that_is_text():
    assert tables.numbers() == PAPER


def test_every_published_number_has_a_cell_and_every_cell_of_a_row_its_number(table):
    """A column may be left without a number (`—` in the paper), a number may not be left without a column."""
    numbers = tables.published(table)
    rows, columns = {row.name for row in table.rows}, {column.published for column in table.columns}
    assert {row for row, _ in numbers} - {"Delta"} == rows
    assert {column for _, column in numbers} == columns
    if table.kind == "scores":
        assert {row.name for row in table.rows if row.method} <= {row for row, _ in numbers}


def test_datasets_methods_budgets_classes_protocols_and_settings_exist(table):
    card = plugins.domain(table.dataset).card
    for row in table.rows:
        assert row.method is None or row.method in METHODS
        for column in table.columns:
            if row.method:
                resolve(registry.method(row.method).Options, table.asked(row, column, "quick", 0))
    for column in table.columns:
        if column.labels:
            Budget(column.labels).count(10**6)
            assert column.labels in card.budgets
        if column.metric.startswith("class:"):
            assert column.metric[6:] in card.names
    if table.protocol:
        card.protocol(table.protocol)
    if table.comparable:
        card.protocol(table.comparable.protocol)


def test_cells_are_of_installed_methods_and_share_runs(table):
    if table.kind == "shares":
        return
    made = list(
        grid.cells(
            table,
            METHODS,
            preset="quick",
            seeds=2,
            data=None,
            out=Path("runs"),
            overrides={"train.steps": 5},
            invented=3,
        )
    )
    assert len(made) == len([row for row in table.rows if row.method]) * len(table.columns)
    assert all([job.seed for job in cell.jobs] == [0, 1] for cell in made)
    assert all(job.overrides["train.steps"] == 5 and job.invented == 3 for cell in made for job in cell.jobs)


def test_backbones_are_the_papers_and_the_quick_preset_keeps_its_own():
    first = tables.load("1")
    for preset, found in {"paper": {"resnet50", "resnet101"}, "quick": {None}}.items():
        made = grid.cells(
            first, ["diffmatch"], preset=preset, seeds=1, data=None, out=Path("runs"), overrides={}, invented=1
        )
        assert {job.overrides.get("network.encoder") for cell in made for job in cell.jobs} == found


def test_table_5_is_one_run_scored_with_one_to_five_steps():
    made = grid.cells(
        tables.load("5"), METHODS, preset="quick", seeds=1, data=None, out=Path("runs"), overrides={}, invented=1
    )
    ours = [cell for cell in made if cell.row.name.startswith("DiffMatch step")]
    assert {cell.row.steps for cell in ours} == {1, 2, 3, 4, 5}
    assert len({repr(cell.jobs) for cell in ours}) == 2, "one run per budget"


MINE = """
title: mine
dataset: acdc
columns: [{name: one, labels: '1'}, {name: tail, labels: '1', metric: tail}]
rows: [{name: ours, method: diffmatch, set: {diffusion.tau: 0.2}}, {name: theirs}]
"""


def test_a_table_of_ones_own_may_name_its_data_beside_it(tmp_path):
    (tmp_path / "patients").mkdir()
    (tmp_path / "mine.yaml").write_text(MINE + "data: patients\nset: {diffusion.tau: 0.1, train.steps: 7}\n")
    table = tables.load(str(tmp_path / "mine.yaml"))
    assert tables.published(table) == {}
    (one, tail) = grid.cells(
        table, METHODS, preset="quick", seeds=1, data=Path("elsewhere"), out=Path("runs"), overrides={}, invented=1
    )
    assert one.jobs == tail.jobs
    assert one.jobs[0].data == tmp_path / "patients"
    assert one.jobs[0].overrides == {"diffusion.tau": 0.2, "train.steps": 7}, "the row's settings win over the table's"


def test_seeds_may_draw_their_own_labels_and_all_rows_the_same_ones(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        MINE.replace("{name: theirs}", "{name: theirs, method: supervised}") + "redraw: true\n"
    )
    table = tables.load(str(tmp_path / "mine.yaml"))
    made = grid.cells(table, METHODS, preset="quick", seeds=3, data=None, out=Path("runs"), overrides={}, invented=1)
    assert {tuple((job.seed, job.overrides.get("data.split_seed", 0)) for job in cell.jobs) for cell in made} == {
        ((0, 0), (1, 1), (2, 2))
    }


@pytest.mark.parametrize(
    "path",
    sorted(p for p in tables.shipped("tables").glob("*.yaml") if not p.stem.startswith("table")),
    ids=lambda p: p.stem,
)
def test_the_studys_tables_ask_for_settings_and_lists_that_exist(path):
    table = tables.load(str(path))
    assert table.split is None or Path(table.split).is_dir()
    for cell in grid.cells(
        table, METHODS, preset="quick", seeds=1, data=None, out=Path("runs"), overrides={}, invented=1
    ):
        resolve(registry.method(cell.row.method or "").Options, *(job.overrides for job in cell.jobs))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a table"),
        ("- 1", "valid dict"),
        (MINE + "colour: red\n", "colour: Extra inputs"),
        (MINE.replace("name: theirs", "name: ours"), "two rows have one name"),
        (MINE.replace("name: tail", "name: one"), "two columns have one name"),
        (MINE + "baseline: nobody\n", "no row 'nobody'"),
        (MINE.replace("metric: tail", "metric: tale"), "metric"),
    ],
)
def test_a_table_that_does_not_fit_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as told:
        tables.load(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_number_that_is_no_table_names_those_that_are():
    with pytest.raises(InputError, match=r"1, 2, 3.*19"):
        tables.load("10")
