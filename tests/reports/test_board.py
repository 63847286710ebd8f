"""Which runs share a board and a row, and what stands in columns of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diffmatch.records import frame
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import Init
from diffmatch_reports.board import boards
from diffmatch_reports.load import load_run
from diffmatch_reports.sections import provenance

Make = Callable[..., RunFolder]


def test_seeds_share_a_row_with_mean_and_sample_deviation(make_run: Make) -> None:
    runs = [load_run(make_run(seed=seed)) for seed in range(3)]
    (board,) = boards(runs)
    row, baseline = board.rows
    values = [run.metrics("test")["primary"]["value"] for run in runs]
    assert (row.seeds, row.cells["primary"].n) == ([0, 1, 2], 3)
    assert row.cells["primary"].mean == pytest.approx(np.mean(values))
    assert row.cells["primary"].std == pytest.approx(np.std(values, ddof=1))
    assert baseline.name == "majority" and "ece" not in baseline.cells and baseline.cells["primary"].mean == 0


@pytest.mark.parametrize("change", [{"hash": "other"}, {"method": "fixmatch"}])
def test_other_settings_are_another_row(make_run: Make, change: dict[str, Any]) -> None:
    (board,) = boards([load_run(make_run()), load_run(make_run(seed=1, **change))])
    assert [row.seeds for row in board.rows] in ([[0], [1], []], [[1], [0], []])
    assert len({(row.name, row.note) for row in board.rows}) == 3


def test_runs_that_are_not_comparable_have_boards_that_say_what_differs(make_run: Make) -> None:
    """Seeds that were trained longer are no seeds of the row."""
    record = make_run().record()
    longer = record.settings | {"train": record.settings["train"] | {"steps": 1200}}
    runs = [make_run(), make_run(seed=1, settings=longer), make_run(method="fixmatch", preset="paper")]
    found = boards([load_run(run) for run in runs])
    subject = "ACDC cardiac MRI, 3 cases labelled"
    assert [board.title for board in found] == [
        f"{subject} (preset quick, steps 600)",
        f"{subject} (preset quick, steps 1200)",
        f"{subject} (preset paper, steps 600)",
    ]
    assert all(len(board.runs) == 1 and board.rows[0].cells["primary"].n == 1 for board in found)
    assert "quick preset, unet on plain8, weights none, steps 1200" in found[1].basis
    (board,) = boards([load_run(runs[0])])
    assert board.title == subject


def test_settings_that_all_share_are_told_once(make_run: Make) -> None:
    runs = [
        make_run(overrides={"train": {"steps": 600}}),
        make_run(hash="b", overrides={"train": {"steps": 600}, "diffusion": {"scale": 0.5}}),
    ]
    (board,) = boards([load_run(run) for run in runs])
    assert board.shared == ["train.steps=600"] and board.basis.endswith("; all with train.steps=600")
    assert sorted(row.note for row in board.rows if row.runs) == ["quick", "quick, diffusion.scale=0.5"]


def test_a_warm_start_is_told_and_is_another_board(make_run: Make) -> None:
    """In the board's title, among the columns of the frame, and with its source in the provenance of the page."""
    init = Init(
        source="old/run", dataset="camvid", method="unimatch", sha256="a" * 64, fitted=70, fresh=["w"], unused=[]
    )
    cold, warm = load_run(make_run()), load_run(make_run(hash="b", init=init))
    titles = [board.title for board in boards([cold, warm])]
    assert [title.partition(" (")[2] for title in titles] == ["started from none)", "started from aaaaaaaa)"]
    table = frame([run.folder for run in (cold, warm)])
    assert sorted(set(table.settings)) == ['{"init": "aaaaaaaa", "train.steps": 600}', '{"train.steps": 600}']
    assert dict(provenance(warm))["Started from"] == (
        "old/run (unimatch on camvid, weights aaaaaaaa): 70 tensors taken over, 1 started fresh"
    )
    assert "Started from" not in dict(provenance(cold))


def test_runs_of_different_machines_are_told(make_run: Make) -> None:
    one, other = make_run(environment={"device": "cpu"}), make_run(seed=1, environment={"device": "some GPU"})
    assert boards([load_run(one), load_run(other)])[0].basis.endswith("; runs of more than one device: cpu, some GPU")
    assert "device" not in boards([load_run(one)])[0].basis


def test_the_seed_of_a_label_draw_is_told_by_the_split_alone(make_run: Make) -> None:
    draw = {"data.split_seed": 0}
    (board,) = boards([load_run(make_run(overrides=draw)), load_run(make_run(seed=1))])
    assert [row.note for row in board.rows if row.runs] == ["quick"] and board.shared == []


def test_val_and_oracle_stand_in_columns_of_their_own(make_run: Make) -> None:
    run = load_run(make_run())
    (board,) = boards([run])
    scores = {(e.checkpoint, e.steps): e.metrics["primary"]["value"] for e in run.evaluations if e.split == "test"}
    cells = board.rows[0].cells
    assert set(board.extra) == {"val", "oracle"} and not {"val", "oracle"} & set(board.columns)
    assert cells["primary"].mean == scores["last", 3]
    assert cells["val"].mean == scores["val", 3]
    assert cells["oracle"].mean == max(scores.values())
    (board,) = boards([load_run(make_run(light=True))])
    assert not board.extra, "one test evaluation has no best"


def test_oracle_looks_only_under_the_boards_protocol(make_run: Make, make_evaluation: Callable[..., Any]) -> None:
    folder = make_run(light=True)
    record, counts = folder.evaluation("test") or pytest.fail("no evaluation")
    better = record.metrics | {"primary": record.metrics["primary"] | {"value": 0.999}}
    folder.write_evaluation(make_evaluation("test", better, protocol="slice"), counts)
    (board,) = boards([load_run(folder)])
    assert not board.extra


def test_of_one_run_in_two_folders_the_newer_counts_and_the_other_is_shown(make_run: Make) -> None:
    new = make_run(skill=5.0, environment={"time": "2026-02-02"})
    old = make_run(skill=3.0, environment={"time": "2026-01-01"})
    other = make_run(seed=1, environment={"time": "2026-01-01"})
    (board,) = boards([load_run(folder) for folder in (new, old, other)])
    counted, copy, baseline = board.rows
    assert [run.folder for run in counted.runs] == [new.path, other.path] and counted.cells["primary"].n == 2
    assert (copy.status, copy.seeds, copy.cells, [run.folder for run in copy.runs]) == ("copy", [0], {}, [old.path])
    assert str(old.path) in copy.reason and str(new.path) in copy.reason
    assert baseline.name == "majority"
    (board,) = boards([load_run(new), load_run(new)])
    assert [row.status for row in board.rows] == ["done", "baseline"], "one folder given twice is one run"
