"""A filled table as text: no name becomes markup in any form, no table loses a cell, and every form is whole."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from diffmatch.records.tables import Column, Comparable, PublishedNumber, Row, Table
from diffmatch_reports.paper import fill
from diffmatch_reports.paper_text import FORMS, as_latex, as_markdown, as_terminal, latex, notes

TABLE = Table(
    title="Dice",
    dataset="acdc",
    baseline=("base",),
    ours="ours",
    comparable=Comparable(protocol="volume", families=("ssl4mis",)),
    columns=(Column(name="3", labels="3", published="3"), Column(name="tail", labels="3", metric="tail")),
    rows=(Row(name="base", method="supervised"), Row(name="theirs"), Row(name="ours", method="diffmatch")),
)
PAPER = {("ours", "3"): PublishedNumber("90.5", "mean Dice", "p", "s")}


def filled(sources, table=TABLE):
    return fill(table, sources, {}, PAPER, preset="paper", seeds=1, extra={})


def both(source, ours=0.8, base=0.6, seed=0):
    places = [(row, value, column) for row, value in (("ours", ours), ("base", base)) for column in ("3", "tail")]
    return {(row, column): [source(value, value / 2, seed=seed)] for row, value, column in places}


HOSTILE = r"<script>alert(1)</script> & 50% of $x_1$ #1 {a}~^\input{/etc/passwd} | [link](x) `code` [bold]no[/bold]"


@pytest.fixture
def hostile(source):
    rows = (Row(name=HOSTILE, method="diffmatch"),)
    table = Table(
        title=HOSTILE, dataset="acdc", columns=(Column(name=HOSTILE, labels="3"),), rows=rows, notes=(HOSTILE,)
    )
    return fill(table, {(HOSTILE, HOSTILE): [source(0.8)]}, {}, {}, preset="quick", seeds=1, extra={})


def test_hostile_names_are_text_in_markdown(hostile):
    text = as_markdown(hostile)
    assert r"\<script\>" in text
    assert "<script>" not in text
    assert r"\[link\](x)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace(r"\|", "").count("|") == 3 for line in rows)


def test_hostile_names_are_text_on_the_terminal(hostile):
    out = io.StringIO()
    Console(file=out, width=400).print(as_terminal(hostile))
    assert "[bold]no[/bold]" in out.getvalue()


@pytest.mark.parametrize(("width", "first"), [(260, "base"), (80, "3")])
def test_a_table_too_wide_for_the_terminal_lies_on_its_side(source, width, first):
    columns = tuple(Column(name=f"class {n}", labels="3", metric="primary", published="3") for n in range(6))
    table = Table(**{**TABLE.model_dump(), "columns": (TABLE.columns[0], *columns)})
    sources = {
        (row, f"{c.name}"): [source(value)] for row, value in (("ours", 0.8), ("base", 0.6)) for c in table.columns
    }
    out = io.StringIO()
    Console(file=out, width=width).print(as_terminal(filled(sources, table)))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert lines[0].split("│")[1].strip() == first
    assert "…" not in out.getvalue() and "80.0" in out.getvalue() and "improvement" in out.getvalue()


def test_what_is_too_wide_either_way_is_cut_between_columns(source):
    columns = tuple(Column(name=f"a long heading of class {n}", labels="3", published="3") for n in range(9))
    rows = tuple(Row(name=f"a method's own long name {n}", method="diffmatch") for n in range(9))
    table = Table(title="wide", dataset="acdc", columns=columns, rows=rows)
    sources = {(row.name, column.name): [source(0.8)] for row in rows[:1] for column in columns[:1]}
    out = io.StringIO()
    Console(file=out, width=80).print(as_terminal(filled(sources, table)))
    lines = [line for line in out.getvalue().splitlines() if line[:1] in ("│", "┃", "┏")]
    sheets = sum(line.startswith("┏") for line in lines)
    assert sheets > 1 and all(len(line) <= 80 and "…" not in line for line in lines)
    told = {name: sum(name in line for line in lines) for name in [part.name for part in (*columns, *rows)]}
    assert sorted(told.values()) == [1] * 9 + [sheets] * 9, (
        "one side stands before every sheet, the other is cut between them"
    )


def test_csv_holds_every_cell_and_its_run(hostile):
    (row,) = csv.DictReader(io.StringIO(FORMS["csv"](hostile)))
    assert row["row"] == row["column"] == HOSTILE
    assert float(row["measured"]) == pytest.approx(80)
    assert Path(row["runs"]).is_dir()


def test_latex_specials_are_spelt_out():
    assert (
        latex("50% of $x_1$ & #{}~^\\")
        == r"50\% of \$x\_1\$ \& \#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert "\\input{" not in latex(HOSTILE)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX here")
def test_latex_compiles(hostile, source, tmp_path):
    tables = as_latex(hostile) + as_latex(filled(both(source)))
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{tables}\end{{document}}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    subprocess.run(
        ["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, capture_output=True, timeout=120
    )


def test_latex_is_a_whole_table(source):
    seeds = [both(source, 0.8 + 0.01 * seed, 0.6 + 0.012 * seed, seed=seed) for seed in range(3)]
    text = as_latex(filled({place: [runs[place][0] for runs in seeds] for place in seeds[0]}))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    counts = {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")}
    assert counts == {4}
    assert r"\textbf{81.0} $\pm$ 1.0 (3)" in text


def test_a_table_of_ones_own_has_no_columns_for_a_paper(source):
    own = fill(TABLE, both(source), {}, {}, preset="quick", seeds=1, extra={})
    assert "(paper)" not in as_markdown(own) and "(paper)" in as_markdown(filled(both(source)))
    rows = [line for line in as_markdown(own).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}
    assert rows[-1] == "| improvement | +20.0 | +10.0 |"


@pytest.mark.parametrize(("checkpoint", "head"), [("last", "| 3 |"), ("val", "| 3 val |"), ("oracle", "| 3 oracle |")])
def test_a_checkpoint_chosen_otherwise_than_last_stands_in_a_column_that_says_so(source, checkpoint, head):
    table = fill(TABLE, both(source), {}, PAPER, preset="paper", seeds=1, extra={}, checkpoint=checkpoint)
    assert head in as_markdown(table)
    assert ("ON TEST" in " ".join(notes(table))) == (checkpoint == "oracle")
