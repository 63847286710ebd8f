"""The page and the tables hold what the records hold, say what the numbers rest on, and ask no host for anything."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

import diffmatch_reports
from diffmatch.domain import Card, ClassInfo, InputError, TopBottom
from diffmatch.metrics import BINS, CONFIDENCE_UNIT, Counts, majority, summary
from diffmatch.runs import EvaluationRecord, RunFolder, RunRecord
from diffmatch_reports import charts, sections, wording
from diffmatch_reports.board import boards
from diffmatch_reports.load import load_run

Make = Callable[..., RunFolder]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A well-formedness check that also collects tables (as rows of (text, data-value)) and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html, self.stack, self.ids = html, [], []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.stack.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value)
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("data-value")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.stack or "script" in self.stack:
            return
        self.text += data
        if "caption" in self.stack:
            self.captions[-1] += data
        elif self.stack and ("td" in self.stack or "th" in self.stack):
            row = self.tables[-1][-1]
            row[-1] = (row[-1][0] + data, row[-1][1])

    def table(self, caption: str) -> list[list[tuple[str, str | None]]]:
        return next(t for t, c in zip(self.tables, self.captions, strict=True) if caption in c)


def page(runs: list[RunFolder], tmp_path: Path) -> Page:
    return Page(diffmatch_reports.write_report(runs, tmp_path / "report").read_text())


def printed(renderable: RenderableType, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_page_is_one_wellformed_file_that_asks_no_host(make_run: Make, tmp_path: Path) -> None:
    shown = page([make_run(), make_run(seed=1, method="fixmatch"), make_run(status="failed", full=False)], tmp_path)
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    assert len(shown.ids) == len(set(shown.ids))
    for tag, name, value in shown.attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert value.startswith(("#", "data:image/")), (tag, name, value[:80])
    without_pictures = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", shown.html)
    assert not re.search(r"//[a-z]|@import|fetch\(|XMLHttpRequest", without_pictures)
    assert set(re.findall(r"url\(([^)]{,2})", without_pictures)) <= {"", "#s"}
    anchors = {value[1:] for tag, name, value in shown.attributes if tag == "a" and name == "href"}
    assert anchors <= set(shown.ids)
    assert len(shown.html) < 2_000_000


def test_every_number_of_the_class_table_is_the_summarys(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    run = load_run(folder)
    counts = Counts.load(folder.path / "evaluations" / "last-test-volume-3x1.npz")
    numbers = summary(counts, run.card, run.labelled_pixels)
    baseline = summary(majority(counts, 0), run.card, run.labelled_pixels)
    head, *rows = page([folder], tmp_path).table("By class, test split")
    columns = [text.replace("\n", " ").strip() for text, _ in head]
    keys = {
        "Dice %": "dice", "IoU %": "iou", "Precision %": "precision", "Recall %": "recall", "ECE %": "ece", "HD95 mm": "hd95_mm",
        "ASD mm": "asd_mm", "n": "n_valid", "n of distances": "n_distances",
    }  # fmt: skip
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
    assert groups == {"Head": numbers["head"]["value"], "Tail": numbers["tail"]["value"], "Mean Dice": numbers["primary"]["value"]}


def test_head_and_tail_are_marked_by_the_cards_rule(make_run: Make, tmp_path: Path) -> None:
    names = {row[0][0] for row in page([make_run()], tmp_path).table("By class, test split")[1:]}
    assert {re.sub(r"\s+", " ", name).strip() for name in names} >= {"background", "RV", "Myo tail", "LV head"}


@pytest.mark.parametrize("fabricated", [True, False])
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_banners_appear_exactly_where_they_are_due(make_run: Make, tmp_path: Path, fabricated: bool, preset: str) -> None:
    folder = make_run(fabricated=fabricated, preset=preset, light=True)
    shown = page([folder], tmp_path)
    for text in (
        shown.text,
        printed(diffmatch_reports.run_table(folder)),
        printed(diffmatch_reports.leaderboard([folder])),
    ):
        assert ("come from invented data" in " ".join(text.split())) == fabricated
        assert ("come from the quick preset" in " ".join(text.split())) == (preset == "quick")
    assert all(("invented data" in c) == fabricated for c in shown.captions if "Resolved settings" not in c)


def test_a_mixed_page_says_how_many_runs_are_invented(make_run: Make, tmp_path: Path) -> None:
    text = page([make_run(light=True), make_run(fabricated=False, preset="paper", sha="00" * 32, light=True)], tmp_path).text
    assert "The numbers of 1 of 2 runs come from invented data" in text


def test_two_splits_never_share_a_leaderboard(make_run: Make, tmp_path: Path) -> None:
    runs = [make_run(light=True), make_run(sha="ffee0011" * 8, seed=1, light=True), make_run(method="fixmatch", light=True)]
    captions = [c for c in page(runs, tmp_path).captions if "standard deviation" in c]
    assert len(captions) == 2
    assert "ab12cd34" in captions[0] and "ffee0011" in captions[1]
    assert printed(diffmatch_reports.leaderboard(runs)).count("sha256") == 2


def test_seeds_share_a_row_with_mean_and_sample_deviation(make_run: Make) -> None:
    runs = [load_run(make_run(seed=seed)) for seed in range(3)]
    (board,) = boards(runs)
    row, baseline = board.rows
    values = [run.metrics("test")["primary"]["value"] for run in runs]
    assert (row.seeds, row.cells["primary"].n) == ([0, 1, 2], 3)
    assert row.cells["primary"].mean == pytest.approx(np.mean(values))
    assert row.cells["primary"].std == pytest.approx(np.std(values, ddof=1))
    assert baseline.name == "majority" and "ece" not in baseline.cells and baseline.cells["primary"].mean == 0


@pytest.mark.parametrize("change", [{"preset": "paper"}, {"hash": "other"}, {"method": "fixmatch"}])
def test_other_settings_are_another_row(make_run: Make, change: dict[str, Any]) -> None:
    (board,) = boards([load_run(make_run()), load_run(make_run(seed=1, **change))])
    assert [row.seeds for row in board.rows] in ([[0], [1], []], [[1], [0], []])
    assert len({(row.name, row.note) for row in board.rows}) == 3


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_an_unfinished_run_is_named_and_has_no_numbers(make_run: Make, tmp_path: Path, status: str) -> None:
    folder = make_run(status=status, full=False)
    shown = page([make_run(light=True), folder], tmp_path)
    row = next(row for row in shown.table("standard deviation") if row[-1][0].startswith(status))
    assert [text for text, _ in row[2:-1]] == [""] * (len(row) - 3)
    assert f"the run is {status}" in shown.text
    terminal = printed(diffmatch_reports.run_table(folder))
    assert status in terminal and "not scored" in terminal
    if status == "failed":
        assert "loss is not finite at step 17" in terminal and "loss is not finite at step 17" in shown.text


def test_missing_and_broken_files_are_notes_not_ends(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    (folder.path / "curves.csv").unlink()
    (folder.path / "samples" / "0.npz").write_bytes(b"PK\x03\x04 cut off")
    (folder.path / "evaluations" / "last-unlabeled-volume-3x1.npz").write_bytes(b"")
    shown = page([folder], tmp_path)
    assert "No training curves were recorded." in shown.text
    assert "samples/0.npz could not be read" in shown.text
    assert "The evaluations could not be read" in shown.text
    value = folder.record().metrics["test"]["primary"]["value"]
    assert f"{100 * value:.1f} %" in shown.text  # the headline in run.json survives
    assert f"{100 * value:.1f}" in printed(diffmatch_reports.run_table(folder))


def test_an_unreadable_record_is_named_and_the_others_are_shown(make_run: Make, tmp_path: Path) -> None:
    good, bad = make_run(light=True), make_run(full=False)
    bad.record_path.write_text('{"schema": 9}')
    assert str(bad.record_path) in page([good, bad], tmp_path).text
    with pytest.raises(InputError, match=re.escape(str(bad.record_path))):
        diffmatch_reports.write_report([bad], tmp_path)
    with pytest.raises(InputError, match="no run"):
        diffmatch_reports.write_report([], tmp_path)


def test_a_number_that_was_not_computed_is_blank(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    content = json.loads(folder.record_path.read_text())
    for metrics in (content["metrics"]["test"], content["metrics"]["unlabeled"]):
        del metrics["ece"], metrics["tail"]["value"], metrics["per_class"]["Myo"]["dice"]
    folder.record_path.write_text(json.dumps(content))
    for path in (folder.path / "evaluations").glob("*"):
        path.unlink()
    shown = page([folder], tmp_path)
    head, *rows = shown.table("By class, test split")
    dice = [text.strip() for text, _ in head].index("Dice %")
    assert rows[2][dice] == ("", None) and rows[5][dice] == ("", None)
    lines = printed(diffmatch_reports.run_table(folder)).splitlines()
    (ece,) = (line for line in lines if line.startswith("ECE"))
    assert not re.search(r"\d", ece)


def test_what_users_type_is_escaped(make_run: Make, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>[bold]&\"'"
    folder = make_run(title=evil, warnings=[evil], reason=evil, status="interrupted")
    shown = page([folder], tmp_path)
    assert shown.html.count("<script>") == 1 and "<script>alert" not in shown.html
    assert evil in shown.text
    assert "[bold]" in printed(diffmatch_reports.run_table(folder))


def test_settings_and_provenance_are_complete(make_run: Make, tmp_path: Path) -> None:
    shown = page([make_run()], tmp_path)
    rows = {row[0][0]: row[1][0] for row in shown.table("Resolved settings")[1:]}
    assert rows == {
        "diffusion.codec": "bits", "diffusion.steps": "3", "method.threshold": "0.95",
        "network.decoder": "unet", "network.encoder": "plain8", "train.lr": "0.01", "train.steps": "600 overridden",
    }  # fmt: skip
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


def test_evaluations_are_all_listed_with_their_rule(make_run: Make, tmp_path: Path) -> None:
    rows = page([make_run()], tmp_path).table("Every evaluation")[1:]
    assert [(r[0][0], r[1][0], r[3][0], r[6][0]) for r in rows] == [
        ("last", "last checkpoint", "test split", "1 × 1"),
        ("last", "last checkpoint", "test split", "3 × 1"),
        ("last", "last checkpoint", "unlabelled pool", "3 × 1"),
        ("val", "best on val", "test split", "3 × 1"),
    ]


def test_the_terminal_table_says_what_it_rests_on(make_run: Make) -> None:
    folder = make_run()
    text = printed(diffmatch_reports.run_table(folder), width=110)
    numbers = folder.record().metrics["test"]
    for name, row in numbers["per_class"].items():
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        assert f"{100 * row['dice']:.1f}" in line
        if "hd95_mm" in row:
            assert f"{row['hd95_mm']:.2f}" in line
    for words in ("n = 40 cases", "protocol volume", "last checkpoint", "unimatch, ab12cd34", "seed 0", "preset quick", "3 cases"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


def test_confusion_rows_are_shares_of_the_truth(make_run: Make) -> None:
    run = load_run(make_run())
    counts = run.scores["test"].counts
    counts.confusion[1] = 0  # a class without truth has no shares
    rows = sections.matrix(run.scores["test"], run.card.names).rows
    assert rows[1] == ("RV", 0, [None] * 4)
    assert sum(v or 0 for v in rows[0][2]) == pytest.approx(1)
    assert rows[2][2][3] == counts.confusion[2, 3] / counts.confusion[2].sum()


def test_reliability_tells_its_gist_and_follows_the_theme() -> None:
    bins = np.zeros((3, BINS), np.int64)
    bins[:, -1] = 80, 60, 80 * CONFIDENCE_UNIT
    bins[:, 7] = 20, 10, 10 * CONFIDENCE_UNIT
    svg = charts.reliability(bins, "test")
    assert "ECE 20.0 %" in svg and "80.0 % of the pixels, with accuracy 75.0 % at mean confidence 100.0 %" in svg
    assert "currentColor" in svg and "var(--c1)" in svg and "#01010" not in svg and "#03030" not in svg
    assert Page(svg)


def test_a_run_without_pseudo_labels_or_background(
    tmp_path: Path, make_run: Make, make_evaluation: Callable[..., EvaluationRecord]
) -> None:
    """Street scenes: IoU, no distances, void, colour photographs, one step, many classes."""
    folder = make_run(full=False, preset="paper", fabricated=False)
    names = [f"class {c}" for c in range(30)]
    card = Card.model_validate(
        folder.record().card
        | {"classes": [ClassInfo(name=n, color=(8 * c, 255 - 8 * c, 90)) for c, n in enumerate(names)], "background": False}
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
            "labels": {"budget": "1/16", "unit": "images", "items": [], "pixels": {n: 30 - c for c, n in enumerate(names)}},
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
    shown = page([folder], tmp_path)
    assert "1/16 of the images" in shown.text and "HD95" not in shown.text and "Mean IoU" in shown.text
    assert "No pseudo-label counts were recorded over training." in shown.text
    assert "Calibration was not measured." in shown.text
    assert "prediction: 0.0 % wrong" in shown.text
    assert load_run(folder).spotlight() == names[:5] + names[-5:]


def test_words() -> None:
    assert [wording.share(v) for v in (None, 0, 0.00034, 0.9)] == ["", "0.0", "0.034", "90.0"]
    assert [wording.duration(v) for v in (3.21, 59, 185, 8040)] == ["3.2 s", "59 s", "3 min 5 s", "2 h 14 min"]
    assert [wording.big(v) for v in (None, 0, 950, 12345678)] == ["", "0", "950", "12.3 M"]
    assert wording.spread(0.5, None) == "50.0" and wording.spread(0.5, 0.012) == "50.0 ± 1.2"
