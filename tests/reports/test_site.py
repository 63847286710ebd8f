"""The folder of pages: every link leads somewhere inside it, every name is text, and what cannot be read is named."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

import diffmatch_reports
from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch_reports import figure_pages, site
from diffmatch_reports.load import load_run
from diffmatch_reports.names import run_name, safe, slug

Make = Callable[..., RunFolder]
Show = Callable[..., Any]
EVIL = "<script>alert(1)</script> \\input{x} $&%_#~^ ../../etc"


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds; the test of their pages asks for them."""
    monkeypatch.setattr(figure_pages, "MOST_BOARDS", 0)


def printed(renderable: RenderableType) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def check_site(root: Path, parse: Show) -> dict[str, Any]:
    """The pages by relative path: each well-formed, ids unique, links leading to pages and anchors that are there."""
    pages = {str(path.relative_to(root)): parse(path.read_text()) for path in root.rglob("*.html")}
    for name, shown in pages.items():
        assert len(shown.ids) == len(set(shown.ids)), name
        for tag, attribute, value in shown.attributes:
            if attribute not in ("src", "href") or value.startswith("data:image/"):
                continue
            path, _, anchor = value.partition("#")
            target = ((root / name).parent / path).resolve() if path else root / name
            assert target.is_relative_to(root.resolve()) and target.is_file(), (name, tag, value)
            if anchor and not anchor.startswith("a="):
                assert anchor in pages[str(target.resolve().relative_to(root.resolve()))].ids, (name, value)
        without_pictures = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", shown.html)
        assert not re.search(r"//[a-z]|@import|fetch\(|XMLHttpRequest", without_pictures), name
    return pages


def test_every_link_leads_to_a_page_of_the_site(make_run: Make, tmp_path: Path, parse: Show) -> None:
    runs = [
        make_run(),
        make_run(seed=1, light=True),
        make_run(method="fixmatch", light=True),
        make_run(status="failed", full=False),
    ]
    first = diffmatch_reports.write_report(runs, tmp_path / "report").page
    pages = check_site(first.parent, parse)
    assert {"index.html", "datasets/acdc.html"} < set(pages)
    for folder in runs:
        name = f"runs/{run_name(folder.path, folder.record())}.html"
        assert folder.record().hash in pages[name].text, "the run's page has its provenance"
        for listing in ("index.html", "datasets/acdc.html"):
            links = [value for tag, attribute, value in pages[listing].attributes if tag == "a" and attribute == "href"]
            assert any(link.endswith(name) for link in links), (listing, name)


def test_a_hostile_name_is_text_and_never_a_file_name(make_run: Make, tmp_path: Path, parse: Show) -> None:
    card = make_run(light=True).record().card | {"title": EVIL}
    card["classes"][1]["name"] = EVIL
    runs = [
        make_run(
            dataset=EVIL,
            light=True,
            card=card,
            warnings=[EVIL],
            overrides={EVIL: EVIL},
            environment={"command": [EVIL], EVIL: EVIL},
        ),
        make_run(dataset="../../up", method=EVIL, light=True, title=EVIL),
        make_run(dataset="..", method="/etc/passwd", status="failed", reason=EVIL, full=False),
    ]
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    pages = check_site(diffmatch_reports.write_report(runs, tmp_path / "report").page.parent, parse)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "report") and re.fullmatch(r"[a-z0-9_.-]+", path.name) for path in made)
    assert len([name for name in pages if name.startswith("runs/")]) == 3
    assert all("<script>alert" not in shown.html for shown in pages.values())
    assert EVIL in pages["index.html"].text


def test_file_names() -> None:
    assert slug("../../ÉVIL <b>") == "vil-b" and slug("..") == "x" and len(slug("a" * 500)) == 60
    assert safe("levir_cd") == "levir_cd"
    assert safe("..") != safe("...") and re.fullmatch(r"x-[0-9a-f]{8}", safe(".."))


def test_two_splits_never_share_a_leaderboard(make_run: Make, tmp_path: Path, parse: Show) -> None:
    runs = [
        make_run(light=True),
        make_run(sha="ffee0011" * 8, seed=1, light=True),
        make_run(method="fixmatch", light=True),
    ]
    pages = check_site(diffmatch_reports.write_report(runs, tmp_path / "report").page.parent, parse)
    captions = [c for c in pages["datasets/acdc.html"].captions if "standard deviation" in c]
    assert len(captions) == 2
    assert "ab12cd34" in captions[0] and "ffee0011" in captions[1]
    assert printed(diffmatch_reports.leaderboard(load_run(folder) for folder in runs)).count("sha256") == 2


def test_a_mixed_page_says_how_many_runs_are_invented(make_run: Make, page: Show) -> None:
    text = page([make_run(light=True), make_run(fabricated=False, preset="paper", sha="00" * 32, light=True)]).text
    assert "The numbers of 1 of 2 runs come from invented data" in text


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_an_unfinished_run_is_named_and_has_no_numbers(make_run: Make, tmp_path: Path, page: Show, status: str) -> None:
    folder = make_run(status=status, full=False)
    shown = page([make_run(light=True), folder])
    row = next(row for row in shown.table("standard deviation") if row[-1][0].startswith(status))
    assert [text for text, _ in row[7:-1]] == [""] * 6
    own = tmp_path / "report" / "runs" / f"{run_name(folder.path, folder.record())}.html"
    assert f"the run is {status}" in own.read_text()
    terminal = printed(diffmatch_reports.run_table(folder))
    assert status in terminal and "not scored" in terminal
    if status == "failed":
        assert "loss is not finite at step 17" in terminal and "loss is not finite at step 17" in shown.text


def test_an_unreadable_record_is_named_and_the_others_are_shown(make_run: Make, tmp_path: Path, page: Show) -> None:
    good, bad = make_run(light=True), make_run(full=False)
    bad.record_path.write_text('{"schema": 9}')
    assert str(bad.record_path) in page([good, bad]).text
    with pytest.raises(InputError, match=re.escape(str(bad.record_path))):
        diffmatch_reports.write_report([bad], tmp_path)
    with pytest.raises(InputError, match="no run"):
        diffmatch_reports.write_report([], tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        {"metrics": {"test": {"primary": 5}}},
        {"metrics": {"test": {"primary": {"value": "high"}, "per_class": []}}},
        {"metrics": {"test": {"per_class": {"RV": {"dice": [1]}}}}},
        {"settings": {}, "parameters": {}, "environment": {"git": 3}},
        {"card": {"name": "of another world"}},
    ],
)
def test_a_foreign_record_is_named_and_stops_nothing(
    make_run: Make, tmp_path: Path, parse: Show, spoil: dict[str, Any]
) -> None:
    good, bad = make_run(light=True), make_run(light=True, seed=1)
    bad.record_path.write_text(json.dumps(json.loads(bad.record_path.read_text()) | spoil))
    for path in (bad.path / "evaluations").glob("*.npz"):
        path.write_bytes(b"PK")
    report = diffmatch_reports.write_report([good, bad], tmp_path / "report")
    pages = check_site(report.page.parent, parse)
    assert [run.folder for run in report.runs] == [good.path]
    (line,) = report.unreadable
    assert line.startswith(str(bad.record_path)) and line in pages["index.html"].text
    with pytest.raises(InputError, match=re.escape(str(bad.record_path))):
        diffmatch_reports.write_report([bad], tmp_path / "alone")


def test_counts_of_other_classes_are_named_and_stop_nothing(make_run: Make, tmp_path: Path) -> None:
    good, bad = make_run(light=True), make_run(light=True, seed=1)
    Counts(2).save(next((bad.path / "evaluations").glob("*.npz")))
    report = diffmatch_reports.write_report([good, bad], tmp_path / "report")
    assert [run.folder for run in report.runs] == [good.path]
    assert "IndexError" in report.unreadable[0]


def test_the_largest_board_has_figure_pages(
    make_run: Make, tmp_path: Path, parse: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figure_pages, "MOST_BOARDS", 1)
    runs = [
        make_run(skill=3.0, overrides={}),
        make_run(skill=5.0, light=True, hash="better, but changed", overrides={"train.steps": 600}),
        make_run(method="fixmatch"),
        make_run(sha="00" * 32, light=True),
    ]
    pages = check_site(diffmatch_reports.write_report(runs, tmp_path / "report").page.parent, parse)
    drawn = [name for name in pages if name.startswith("figures/")]
    assert {name.rsplit("-", 1)[1] for name in drawn} == {f"{n}.html" for n in (1, 4, 5, 6, 8, 10, 12)}
    for name in drawn:
        links = {value for tag, attribute, value in pages[name].attributes if (tag, attribute) == ("a", "href")}
        shown = [f"../runs/{run_name(folder.path, folder.record())}.html" in links for folder in runs]
        assert shown == [True, False, True, False], "of each method the row with the fewest overrides"
        assert f"../{name}" in pages["datasets/acdc.html"].html and name in pages["index.html"].html


def test_several_processes_write_the_same_site(make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        make_run(),
        make_run(seed=1, light=True),
        make_run(method="fixmatch", light=True),
        make_run(status="failed", full=False),
    ]
    (runs[1].path / "run.json").write_text("{")
    alone = diffmatch_reports.write_report(runs, tmp_path / "one")
    monkeypatch.setattr(site, "RUNS_PER_PROCESS", 2)
    monkeypatch.setattr(site, "usable_cores", lambda: 2)
    together = diffmatch_reports.write_report(runs, tmp_path / "two")

    assert together.unreadable == alone.unreadable != []
    assert [run.folder for run in together.runs] == [run.folder for run in alone.runs]
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert first == second
