"""What is not comparable is not drawn, ranked or tested together; what is, only as far as seeds and cases allow."""

from __future__ import annotations

import io
import itertools
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diffmatch.records.folder import RunFolder
from diffmatch.records.tables import Column, Row, Table
from diffmatch_reports import leaderboard, run_table, write_report
from diffmatch_reports.board import boards
from diffmatch_reports.compare import script
from diffmatch_reports.figure_pages import best_runs
from diffmatch_reports.figures import draw, together
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.paper import fill
from diffmatch_reports.paper_cells import Source
from diffmatch_reports.paper_text import as_latex, as_markdown

WRITE = runpy.run_path(str(Path(__file__).parents[1] / "reports" / "conftest.py"))["write"]
PRETRAINED = {"decoder": "unet", "encoder": "lite0", "weights": "package:lite0", "stride": 2, "dim": 32}
Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make(**record fields)`: a finished run in a folder of its own."""
    numbers = itertools.count(1)
    return lambda **changes: WRITE(tmp_path / "runs" / str(next(numbers)), **changes)


@pytest.fixture
def campaign(make: Make) -> list[RunView]:
    """DiffMatch and UniMatch from scratch; two rivals and a newer UniMatch with a pretrained encoder."""
    network = make(light=True).record().settings | {"network": PRETRAINED}
    newer: dict[str, Any] = {"settings": network, "hash": "pretrained", "environment": {"time": "2026-02-02"}}
    scratch = [make(method=name, environment={"time": "2026-01-01"}) for name in ("diffmatch", "unimatch", "cps")]
    return [load_run(run) for run in [*scratch, make(method="unimatch", **newer), make(method="fixmatch", **newer)]]


def test_pretrained_rivals_are_not_drawn_beside_methods_from_scratch(campaign: list[RunView]) -> None:
    scratch, pretrained = boards(campaign)
    assert [sorted({run.record.method for run in board.runs}) for board in (scratch, pretrained)] == [
        ["cps", "diffmatch", "unimatch"],
        ["fixmatch", "unimatch"],
    ]
    assert {run.record.settings["network"]["weights"] for run in best_runs(scratch)} == {"none"}
    board, apart = together(campaign)
    assert board.title.endswith("(encoder plain8, weights none)")
    assert apart == [
        "2 runs of unimatch, fixmatch (encoder: lite0 against plain8; weights: package:lite0 against none)"
    ]
    said = draw(6, campaign).get_supxlabel().replace("\n", " ")  # type: ignore[attr-defined]
    assert f"Left out: {apart[0]}." in said and "weights none" in said


def test_runs_of_other_labelled_images_are_told_so_and_not_tested(make: Make, tmp_path: Path) -> None:
    """On the same test items, so that a bootstrap could be computed."""
    runs = [make(light=True), make(light=True, method="fixmatch", sha="ffee0011" * 8)]
    first, second = (json.loads(script(load_run(run)).removeprefix("receive(").removesuffix(");\n")) for run in runs)
    assert first["items"] == second["items"]
    differing = {name for name, value in first["conditions"].items() if second["conditions"][name] != value}
    assert differing == {"labelled split"}
    write_report(runs, tmp_path / "site")
    page = (tmp_path / "site" / "compare.html").read_text()  # two lists of two groups
    assert page.count("<optgroup") == 4 and "differ in more than the method" in page


def test_bold_needs_seeds_that_tell_the_rows_apart(make: Make) -> None:
    """40.3 +- 25.8 over 30.7 +- 12.3 is no winner; 40.3 +- 0.2 over 30.7 +- 0.3 is one."""
    table = Table(
        title="Dice",
        dataset="acdc",
        columns=(Column(name="3", labels="3"),),
        rows=(Row(name="ours", method="diffmatch"), Row(name="base", method="supervised")),
    )

    def filled(values: dict[str, tuple[float, ...]]) -> Any:
        cells = {}
        for row in table.rows:
            for seed, value in enumerate(values[row.name]):
                folder = make(light=True, method=row.method, seed=seed)
                scored, _ = folder.evaluation("test") or pytest.fail("no evaluation")
                metrics = scored.metrics | {"primary": {"name": "mean_dice", "value": value}}
                source = Source(folder.path, folder.record(), scored.model_copy(update={"metrics": metrics}))
                cells.setdefault((row.name, "3"), []).append(source)
        return fill(table, cells, {}, {}, preset="quick", seeds=3, extra={})

    wide = filled({"ours": (0.106, 0.465, 0.638), "base": (0.166, 0.360, 0.395)})
    assert wide.cells["ours", "3"].measured.mean == pytest.approx(40.3, abs=0.05)
    assert not wide.cells["ours", "3"].best and not wide.cells["base", "3"].best
    assert "**40" not in as_markdown(wide) and r"\textbf" not in as_latex(wide)
    tight = filled({"ours": (0.401, 0.403, 0.405), "base": (0.304, 0.307, 0.310)})
    assert tight.cells["ours", "3"].best and "**40.3**" in as_markdown(tight)


def test_one_test_image_is_said_loudly_everywhere(make: Make, tmp_path: Path) -> None:
    folder = make(light=True)
    record = folder.record()
    metrics = record.metrics["test"] | {"cases": 1}
    folder.write(record.model_copy(update={"metrics": {"test": metrics}}))
    path = next((folder.path / "evaluations").glob("last-test*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": metrics}))

    def printed(what: Any) -> str:
        console = Console(width=400, file=io.StringIO(), record=True)
        console.print(what)
        return console.export_text()

    loud = "1 test case ALONE"
    assert loud in printed(run_table(folder))
    assert loud in printed(leaderboard([load_run(folder)]))
    assert loud in write_report([folder], tmp_path / "page").page.read_text()
    assert loud in draw(6, [load_run(folder), load_run(make(method="cps"))]).get_supxlabel().replace("\n", " ")  # type: ignore[attr-defined]
    site = write_report([folder, make(light=True, seed=1)], tmp_path / "site").page.parent
    assert "The numbers of 1 of 2 runs come from 1 test case ALONE" in (site / "index.html").read_text()
    assert loud not in printed(run_table(make(light=True)))
