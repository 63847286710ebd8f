"""The page and the tables hold what the records hold, say what the numbers rest on, and ask no host for anything."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

import diffmatch_reports
from diffmatch.domain import Card, ClassInfo, TopBottom
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.scoring.metrics import majority, summary
from diffmatch_reports import wording
from diffmatch_reports.load import load_run

Make = Callable[..., RunFolder]
Show = Callable[..., Any]


def printed(renderable: RenderableType, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_page_of_a_run_is_one_wellformed_file_that_asks_no_host(make_run: Make, tmp_path: Path, page: Show) -> None:
    shown = page([make_run()])
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    assert len(shown.ids) == len(set(shown.ids))
    for tag, name, value in shown.attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert value.startswith(("#", "data:image/")), (tag, name, value[:80])
    without_pictures = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", shown.html)
    assert not re.search(r"//[a-z]|@import|fetch\(|XMLHttpRequest", without_pictures)
    assert set(re.findall(r"url\(([^)]*)", without_pictures)) <= {"", "#hatch"}
    assert "hatch" in shown.ids
    anchors = {value[1:] for tag, name, value in shown.attributes if tag == "a" and name == "href"}
    assert anchors <= set(shown.ids)
    assert len(shown.html) < 1_000_000


def test_every_number_of_the_class_table_is_the_summarys(make_run: Make, page: Show) -> None:
    folder = make_run()
    run = load_run(folder)
    counts = Counts.load(folder.path / "evaluations" / "last-test-volume-3x1.npz")
    numbers = summary(counts, run.card, run.labelled_pixels)
    baseline = summary(majority(counts, 0), run.card, run.labelled_pixels)
    head, *rows = page([folder]).table("By class, test split")
    columns = [text.replace("\n", " ").strip() for text, _ in head]
    keys = {
        "Dice %": "dice",
        "IoU %": "iou",
        "Precision %": "precision",
        "Recall %": "recall",
        "ECE %": "ece",
        "HD95 mm": "hd95_mm",
        "ASD mm": "asd_mm",
        "n": "n_valid",
        "n of distances": "n_distances",
    }
    assert set(keys) <= set(columns)
    for row, name in zip(rows, run.card.names, strict=False):
        cells = dict(zip(columns, row, strict=True))
        assert cells["Class"][1] == name
        expected = numbers["per_class"][name]
        for column, key in keys.items():
            text, value = cells[column]
            if key in expected:
                assert float(value or "nan") == expected[key]
                scale, digits = (100, 1) if column.endswith("%") else (1, 0 if column.startswith("n") else 2)
                assert text == f"{expected[key] * scale:.{digits}f}"
            else:
                assert (text, value) == ("", None)
        assert float(cells["Dice % of majority"][1] or "nan") == baseline["per_class"][name]["dice"]
        for column, key in (("Labelled share", "labelled"), ("Truth share", "truth"), ("Predicted share", "predicted")):
            total = sum(row[f"{key}_pixels"] for row in numbers["per_class"].values())
            assert float(cells[column][1] or "nan") == pytest.approx(expected[f"{key}_pixels"] / total)
    groups = {row[0][0]: float(row[columns.index("Dice %")][1] or "nan") for row in rows[len(run.card.names) :]}
    assert groups == {
        "Head": numbers["head"]["value"],
        "Tail": numbers["tail"]["value"],
        "Mean Dice": numbers["primary"]["value"],
    }


def test_head_and_tail_are_marked_by_the_cards_rule(make_run: Make, page: Show) -> None:
    names = {row[0][0] for row in page([make_run()]).table("By class, test split")[1:]}
    assert {re.sub(r"\s+", " ", name).strip() for name in names} >= {"background", "RV", "Myo tail", "LV head"}


@pytest.mark.parametrize("fabricated", [True, False])
@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_banners_appear_exactly_where_they_are_due(make_run: Make, page: Show, fabricated: bool, preset: str) -> None:
    folder = make_run(fabricated=fabricated, preset=preset, light=True)
    shown = page([folder])
    for text in (
        shown.text,
        printed(diffmatch_reports.run_table(folder)),
        printed(diffmatch_reports.leaderboard([load_run(folder)])),
    ):
        assert ("come from invented data" in " ".join(text.split())) == fabricated
        for banner in ("quick", "standard"):
            assert (f"come from the {banner} preset" in " ".join(text.split())) == (preset == banner)
    assert all(("invented data" in c) == fabricated for c in shown.captions if "Resolved settings" not in c)


def test_missing_and_broken_files_are_notes_not_ends(make_run: Make, page: Show) -> None:
    folder = make_run()
    (folder.path / "curves.csv").unlink()
    (folder.path / "samples" / "0.npz").write_bytes(b"PK\x03\x04 cut off")
    (folder.path / "evaluations" / "last-unlabeled-volume-3x1.npz").write_bytes(b"")
    (folder.path / "evaluations" / "val-test-volume-3x1.json").write_bytes(b"{")
    shown = page([folder])
    assert "No training curves were recorded." in shown.text
    assert "samples/0.npz could not be read" in shown.text
    assert shown.text.count("An evaluation could not be read") == 2
    assert "last-unlabeled-volume-3x1.npz" in shown.text and "val-test-volume-3x1.json" in shown.text
    assert "Dice % of majority" in shown.text, "the evaluation of the test split is read"
    value = folder.record().metrics["test"]["primary"]["value"]
    assert f"{100 * value:.1f} %" in shown.text  # the headline in run.json survives
    assert f"{100 * value:.1f}" in printed(diffmatch_reports.run_table(folder))


def test_a_number_that_was_not_computed_is_blank(make_run: Make, page: Show) -> None:
    folder = make_run()
    content = json.loads(folder.record_path.read_text())
    for metrics in (content["metrics"]["test"], content["metrics"]["unlabeled"]):
        del metrics["ece"], metrics["tail"]["value"], metrics["per_class"]["Myo"]["dice"]
    folder.record_path.write_text(json.dumps(content))
    for path in (folder.path / "evaluations").glob("*"):
        path.unlink()
    shown = page([folder])
    head, *rows = shown.table("By class, test split")
    dice = [text.strip() for text, _ in head].index("Dice %")
    assert rows[2][dice] == ("", None) and rows[5][dice] == ("", None)
    lines = printed(diffmatch_reports.run_table(folder)).splitlines()
    (ece,) = (line for line in lines if line.startswith("ECE"))
    assert not re.search(r"\d", ece)


def test_what_users_type_is_escaped(make_run: Make, page: Show) -> None:
    evil = "<script>alert(1)</script>[bold]&\"'"
    folder = make_run(title=evil, warnings=[evil], reason=evil, status="interrupted")
    shown = page([folder])
    assert shown.html.count("<script>") == 1 and "<script>alert" not in shown.html
    assert evil in shown.text
    assert "[bold]" in printed(diffmatch_reports.run_table(folder))


def test_settings_and_provenance_are_complete(make_run: Make, page: Show) -> None:
    shown = page([make_run()])
    rows = {row[0][0]: row[1][0] for row in shown.table("Resolved settings")[1:]}
    assert rows == {
        "data.crop": "64",
        "data.resize": "96",
        "diffusion.codec": "bits",
        "diffusion.steps": "3",
        "method.threshold": "0.95",
        "network.decoder": "unet",
        "network.dim": "32",
        "network.encoder": "plain8",
        "network.stride": "2",
        "network.weights": "none",
        "train.batch": "4",
        "train.lr": "0.01",
        "train.steps": "600 overridden",
    }
    for text in (
        "1234567890abcdef, with uncommitted changes",
        "diffmatch bench acdc",
        "torch 2.11.0",
        "77aa88bb" * 8,
        "ab12cd34" * 8,
        "cpu",
    ):
        assert text in shown.text
    assert "Class Myo has no pixel" in shown.text


def test_evaluations_are_all_listed_with_their_rule(make_run: Make, page: Show) -> None:
    rows = page([make_run()]).table("Every evaluation")[1:]
    assert [(r[0][0], r[1][0], r[3][0], r[6][0]) for r in rows] == [
        ("last", "last checkpoint", "test split", "1 × 1"),
        ("last", "last checkpoint", "test split", "3 × 1"),
        ("last", "last checkpoint", "unlabelled pool", "3 × 1"),
        ("val", "best on val", "test split", "3 × 1"),
    ]
    assert [r[-1][0].split()[-1] for r in rows] == ["volumes/s", "volumes/s", "images/s", "volumes/s"]


def test_the_terminal_table_says_what_it_rests_on(make_run: Make) -> None:
    folder = make_run()
    text = printed(diffmatch_reports.run_table(folder), width=110)
    numbers = folder.record().metrics["test"]
    for name, row in numbers["per_class"].items():
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        assert f"{100 * row['dice']:.1f}" in line
        if "hd95_mm" in row:
            assert f"{row['hd95_mm']:.2f}" in line
    for words in (
        "n = 40 cases",
        "protocol volume",
        "last checkpoint",
        "unimatch, ab12cd34",
        "seed 0",
        "preset quick",
        "3 cases",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


def test_a_run_without_pseudo_labels_or_background(
    page: Show, make_run: Make, make_evaluation: Callable[..., EvaluationRecord]
) -> None:
    """Street scenes: IoU, no distances, void, colour photographs, one step, many classes."""
    folder = make_run(full=False, preset="paper", fabricated=False)
    names = [f"class {c}" for c in range(30)]
    card = Card.model_validate(
        folder.record().card
        | {
            "classes": [ClassInfo(name=n, color=(8 * c, 255 - 8 * c, 90)) for c, n in enumerate(names)],
            "background": False,
        }
        | {"metric": "mean_iou", "foreground_calibration": False, "head_tail": TopBottom(k=5), "label_unit": "images"}
        | {"protocols": [{"name": "whole", "title": "whole image", "mode": "image"}]}
    )
    counts = Counts(30)
    counts.confusion = np.diag(np.arange(1, 31)[::-1] * 100)
    counts.cases["a"] = np.zeros((3, 30), np.int64)
    record = RunRecord.model_validate(
        json.loads(folder.record_path.read_text())
        | {
            "card": card.model_dump(mode="json"),
            "labels": {
                "budget": "1/16",
                "unit": "images",
                "items": [],
                "pixels": {n: 30 - c for c, n in enumerate(names)},
            },
        }
    )
    metrics = summary(counts, card, [record.labels.pixels[n] for n in names])
    record.metrics["test"] = metrics
    folder.write(record)
    folder.write_evaluation(make_evaluation("test", metrics, protocol="whole", steps=1), counts)
    (folder.path / "samples").mkdir()
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 30, (200, 300)).astype(np.uint8)
    np.savez(
        folder.path / "samples" / "s.npz",
        image=rng.integers(0, 255, (200, 300, 3)).astype(np.uint8),
        truth=truth,
        steps=truth[None],
        title="s",
    )
    shown = page([folder])
    assert "1/16 of the images" in shown.text and "HD95" not in shown.text and "Mean IoU" in shown.text
    assert "No pseudo-label counts were recorded over training." in shown.text
    assert "Calibration was not measured." in shown.text
    assert "prediction: 0.0 % wrong" in shown.text
    assert load_run(folder).spotlight() == names[:5] + names[-5:]


def test_words() -> None:
    assert [wording.share(v) for v in (None, 0, 0.00034, 0.9)] == ["", "0.0", "0.034", "90.0"]
    assert [wording.duration(v) for v in (3.21, 59, 185, 8040)] == ["3.2 s", "59 s", "3 min 5 s", "2 h 14 min"]
    assert [wording.plural(n, noun) for n, noun in ((1, "classes"), (11, "classes"), (1, "cases"), (2, "seeds"))] == [
        "1 class",
        "11 classes",
        "1 case",
        "2 seeds",
    ]
    assert [wording.big(v) for v in (None, 0, 950, 12345678)] == ["", "0", "950", "12.3 M"]
    assert wording.spread(0.5, None) == "50.0" and wording.spread(0.5, 0.012) == "50.0 ± 1.2"
