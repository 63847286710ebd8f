"""Filled tables: what is bold, blank, marked or compared, and what is said below."""

from __future__ import annotations

import pytest

from diffmatch.records.tables import Column, Comparable, PublishedNumber, Row, Table
from diffmatch_reports.paper import fill, fill_shares
from diffmatch_reports.paper_cells import Source
from diffmatch_reports.paper_text import as_latex, as_markdown, notes
from diffmatch_reports.ranking import BOLD

COMPARABLE = Comparable(protocol="volume", families=("ssl4mis",))
TABLE = Table(
    title="Dice",
    dataset="acdc",
    baseline=("base",),
    ours="ours",
    comparable=COMPARABLE,
    columns=(Column(name="3", labels="3", published="3"), Column(name="tail", labels="3", metric="tail")),
    rows=(Row(name="base", method="supervised"), Row(name="theirs"), Row(name="ours", method="diffmatch")),
)
PAPER = {
    ("base", "3"): PublishedNumber("41.5", "mean Dice", "p", "s"),
    ("theirs", "3"): PublishedNumber("88.9", "mean Dice", "p", "s"),
    ("ours", "3"): PublishedNumber("90.5", "mean Dice", "p", "s"),
}


def filled(sources, table=TABLE, preset="paper", seeds=1, extra=None, problems=None):
    return fill(table, sources, problems or {}, PAPER, preset=preset, seeds=seeds, extra=extra or {})


def both(source, ours=0.8, base=0.6):
    return {
        (row, column): [source(value, value / 2)]
        for row, value in (("ours", ours), ("base", base))
        for column in ("3", "tail")
    }


def test_the_difference_stands_where_protocol_split_preset_and_data_match(source):
    table = filled(both(source))
    cell = table.cells["ours", "3"]
    assert cell.measured.mean == pytest.approx(80)
    assert cell.difference == pytest.approx(80 - 90.5)
    assert not table.footnotes
    assert {place: gain.mean for place, gain in table.improvement.items()} == {
        ("base", "3"): pytest.approx(20),
        ("base", "tail"): pytest.approx(10),
    }
    assert table.published_improvement == {("base", "3"): pytest.approx(49.0)}
    assert "| improvement | +20.0 | +49.0 | +10.0 |  |" in as_markdown(table)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"fabricated": True}, {}, "invented data"),
        ({}, {"preset": "quick"}, "quick preset"),
        ({}, {"extra": {"train.steps": 20}}, "train.steps=20"),
        ({"protocol": "slice"}, {}, "protocol slice, published volume"),
        ({"split": {"family": "seeded-0"}}, {}, "split seeded-0, published ssl4mis"),
        ({}, {"table": TABLE.model_copy(update={"comparable": None})}, "not one of ours"),
        (
            {},
            {
                "table": TABLE.model_copy(
                    update={"comparable": COMPARABLE.model_copy(update={"selection": "best epoch"})}
                )
            },
            "best epoch",
        ),
    ],
)
def test_otherwise_a_dagger_says_why(source, changes, options, reason):
    table = filled({("ours", "3"): [source(0.8, **changes)]}, **options)
    cell = table.cells["ours", "3"]
    assert cell.difference is None
    assert reason in table.footnotes[cell.mark]
    assert f"90.5**{cell.mark}" in as_markdown(table)


def test_best_is_bold_among_the_measured_and_among_the_published(source):
    seeds = {"base": (0.69, 0.70, 0.71), "ours": (0.48, 0.50, 0.52)}
    table = filled(
        {(row, "3"): [source(v, seed=n) for n, v in enumerate(values)] for row, values in seeds.items()}, seeds=3
    )
    assert [table.cells[row, "3"].best for row in ("base", "ours")] == [True, False]
    assert table.cells["ours", "3"].published_best
    assert "**70.0**" in as_markdown(table)
    assert "**90.5**" in as_markdown(table)
    assert f"{BOLD} Of the published numbers the best is bold." in notes(table)


def test_one_seed_makes_nothing_bold(source):
    table = filled(both(source, ours=0.5, base=0.7))
    assert not any(cell.best for cell in table.cells.values())


def test_rows_of_other_conditions_are_told_and_neither_compete_nor_improve(source):
    """The base with pretrained weights is better than ours from scratch, and says nothing about the method."""

    def runs(values, weights):
        network = {"decoder": "unet", "encoder": "plain8", "weights": weights}
        return [source(v, seed=n, settings={"network": network}) for n, v in enumerate(values)]

    spec = TABLE.model_copy(update={"columns": TABLE.columns[:1], "rows": (*TABLE.rows, Row(name="d", method="cps"))})
    sources = {
        ("base", "3"): runs((0.8, 0.81, 0.82), "hub"),
        ("ours", "3"): runs((0.7, 0.71, 0.72), "none"),
        ("d", "3"): runs((0.5, 0.51, 0.52), "none"),
    }
    table = filled(sources, table=spec, seeds=3)
    assert [table.cells[row, "3"].best for row in ("base", "ours", "d")] == [False, True, False]
    assert not table.improvement
    told = "bold and differences are among those that are. base: weights hub; ours, d: weights none."
    assert any(line.endswith(told) for line in table.basis)


def test_few_test_cases_are_told(source):
    run = source(0.8)
    few = run.evaluation.model_copy(update={"metrics": run.evaluation.metrics | {"cases": 1}})
    table = filled({("ours", "3"): [Source(run.folder, run.record, few)]})
    assert any("1 test case ALONE" in line and "--folds 5" in line for line in notes(table))
    assert not any("ALONE" in line for line in notes(filled({("ours", "3"): [run]})))


def test_seeds_give_mean_deviation_and_n_and_a_missing_one_leaves_the_cell_blank(source):
    runs = [source(value, seed=seed) for seed, value in enumerate((0.7, 0.8, 0.9))]
    table = filled({("ours", "3"): runs, ("base", "3"): runs[:2]}, seeds=3)
    measured = table.cells["ours", "3"].measured
    assert (measured.mean, measured.std, measured.n) == (pytest.approx(80), pytest.approx(10), 3)
    assert "| 80.0 ± 10.0 (70.0, 80.0, 90.0) |" in as_markdown(table), "there is room for each"
    assert r"80.0 $\pm$ 10.0 (3)" in as_latex(table), "a printed column has not"
    assert table.cells["base", "3"].measured is None
    assert ("base", "3") not in table.improvement, "no improvement over what was not measured"
    assert any(line.startswith("base, 3") for line in table.blank)


def test_improvement_is_taken_seed_by_seed_over_every_row_that_is_asked_for(source):
    """Seeds that differ by far more than the rows: 50, 70, 90 against 48, 69, 85 and 49, 71, 92."""
    spec = TABLE.model_copy(
        update={
            "baseline": ("base", "other"),
            "rows": (*TABLE.rows, Row(name="other", method="unimatch")),
            "columns": TABLE.columns[:1],
        }
    )
    values = {"ours": (0.5, 0.7, 0.9), "base": (0.48, 0.69, 0.85), "other": (0.49, 0.71, 0.92)}
    table = filled(
        {(row, "3"): [source(v, seed=n) for n, v in enumerate(found)] for row, found in values.items()},
        table=spec,
        seeds=3,
    )
    gain = table.improvement["base", "3"]
    assert (gain.mean, gain.std, gain.n) == (pytest.approx(8 / 3), pytest.approx(2.0817, abs=1e-4), 3)
    *_, first, second = (line for line in as_markdown(table).splitlines() if " minus " in line)
    assert first == "| ours minus base | +2.7 ± 2.1 (+2.0, +1.0, +5.0) | +49.0 |"
    assert second == "| ours minus other | -0.7 ± 1.5 (+1.0, -1.0, -2.0) |  |"


def test_a_cost_is_shown_and_no_row_wins_or_improves_on_it(source):
    columns = (TABLE.columns[0], Column(name="train s", labels="3", metric="train_seconds"))
    spec = TABLE.model_copy(update={"columns": columns})
    runs = {row: source(0.8, timing={"train_seconds": seconds}) for row, seconds in (("ours", 1234.6), ("base", 99.4))}
    table = filled({(row, column.name): [run] for row, run in runs.items() for column in columns}, table=spec)
    assert [table.cells[row, "train s"].best for row in runs] == [False, False] and (
        "base",
        "train s",
    ) not in table.improvement
    assert "| ours | 80.0 | **90.5** (-10.5) | 1235 |" in as_markdown(table)


@pytest.mark.parametrize(("metric", "protocol"), [("images_per_second", "slice"), ("volumes_per_second", "volume")])
def test_a_published_speed_is_never_compared_because_its_machine_is_another(source, metric, protocol):
    """The parameters of the same runs are."""
    columns = (
        Column(name="speed", labels="3", metric=metric, published="FPS"),
        Column(name="M", labels="3", metric="parameters", published="M"),
    )
    comparable = COMPARABLE.model_copy(update={"protocol": protocol})
    spec = TABLE.model_copy(update={"columns": columns, "comparable": comparable})
    paper = {
        ("ours", "FPS"): PublishedNumber("24.9", "images/s", "p", "s"),
        ("ours", "M"): PublishedNumber("14.0", "M", "p", "s"),
    }
    run = source(0.8, protocol=protocol)
    table = fill(spec, {("ours", c.name): [run] for c in columns}, {}, paper, preset="paper", seeds=1, extra={})
    speed, parameters = (table.cells["ours", column.name] for column in columns)
    assert speed.measured.mean == pytest.approx(17.9) and speed.difference is None
    assert table.footnotes == {speed.mark: "measured on another machine"}
    assert parameters.difference == pytest.approx(0.230112) and not parameters.mark


@pytest.mark.parametrize(("metric", "protocol"), [("images_per_second", "volume"), ("volumes_per_second", "slice")])
def test_volumes_are_not_counted_as_images(source, metric, protocol):
    spec = TABLE.model_copy(update={"columns": (Column(name="speed", labels="3", metric=metric),)})
    table = filled({("ours", "speed"): [source(0.8, protocol=protocol)]}, table=spec)
    assert table.cells["ours", "speed"].measured is None
    assert any("speed: the evaluation has" in line for line in table.blank)


def test_a_run_that_fills_several_rows_has_its_parameters_once(source):
    columns = (TABLE.columns[0], Column(name="M", labels="3", metric="parameters"))
    rows = (Row(name="one", method="diffmatch", steps=1), Row(name="three", method="diffmatch"))
    spec = Table(title="steps", dataset="acdc", columns=columns, rows=rows)
    three = source(0.8)
    one = Source(three.folder, three.record, three.evaluation.model_copy(update={"steps": 1}))
    table = filled(
        {(row.name, c.name): [s] for row, s in zip(rows, (one, three), strict=True) for c in columns}, table=spec
    )
    assert [table.cells[row.name, "M"].measured.n for row in rows] == [1, 1]


@pytest.mark.parametrize("baselines", [("base",), ("base", "theirs")])
def test_less_is_better_where_the_metric_says_so(source, baselines):
    """The ECE: the smaller is best, measured and published; an improvement is positive, a difference is as it is."""
    spec = TABLE.model_copy(
        update={
            "columns": (Column(name="ECE", labels="3", metric="ece", published="ECE"),),
            "baseline": baselines,
        }
    )
    paper = {
        (row, "ECE"): PublishedNumber(v, "ECE", "p", "s")
        for row, v in (("base", "9.0"), ("theirs", "8.0"), ("ours", "7.5"))
    }
    runs = {}
    for row, value in (("base", 0.10), ("ours", 0.04)):
        for seed in range(2):
            run = source(0.8, seed=seed)
            metrics = run.evaluation.metrics | {"ece": value + 0.01 * seed}
            scored = run.evaluation.model_copy(update={"metrics": metrics})
            runs.setdefault((row, "ECE"), []).append(Source(run.folder, run.record, scored))
    table = fill(spec, runs, {}, paper, preset="paper", seeds=2, extra={})
    assert [table.cells[row, "ECE"].best for row in ("base", "ours")] == [False, True]
    assert [table.cells[row.name, "ECE"].published_best for row in spec.rows] == [False, False, True]
    sign = 1 if len(baselines) == 1 else -1
    assert table.improvement["base", "ECE"].mean == pytest.approx(sign * 6)
    assert table.published_improvement["base", "ECE"] == pytest.approx(sign * 1.5)


def test_a_tail_of_other_classes_from_draw_to_draw_is_told(source):
    draws = [
        source(0.8, seed=n, rare=rare, split={"sha256": f"{n}" * 64})
        for n, rare in enumerate((["a", "b"], ["b", "c"], ["c", "b"]))
    ]
    spec = TABLE.model_copy(update={"redraw": True})

    def notes_of(runs):
        basis = filled({("ours", "tail"): runs}, spec, seeds=len(runs)).basis
        return [line for line in basis if "everywhere" in line]

    assert notes_of(draws) == ["Tail is not the same everywhere: a, b in 00000000; b, c in 11111111, 22222222."]
    assert not notes_of(draws[1:])


def test_runs_of_different_machines_are_told(source):
    runs = [
        source(0.8, seed=n, environment={"device": d, "precision": "32-true"})
        for n, d in enumerate(("cpu", "some GPU"))
    ]
    table = filled({("ours", "3"): runs}, seeds=2)
    assert "Runs of more than one device: cpu, some GPU." in table.basis
    assert not any("precision" in line for line in table.basis)


def test_no_improvement_where_no_seed_is_shared(source):
    table = filled({("ours", "3"): [source(0.8, seed=0)], ("base", "3"): [source(0.6, seed=1)]})
    assert not table.improvement


def test_a_method_that_is_not_run_shows_its_published_number_and_a_mark(source):
    table = filled(both(source))
    line = next(line for line in as_markdown(table).splitlines() if "theirs" in line)
    assert line == r"| theirs* |  | 88.9 |  |  |"
    assert not table.blank
    assert any("published number alone" in note for note in notes(table))


def test_what_failed_is_blank_with_its_reason(source):
    table = filled({}, problems={("ours", "3"): "loss not finite"})
    assert "ours, 3: loss not finite" in table.blank
    assert "base, tail: not run" in table.blank
    assert table.basis == ["Nothing measured yet."]


def test_two_splits_never_share_a_column(source):
    other = source(0.6, split={"sha256": "f" * 64})
    table = filled({("ours", "3"): [source(0.8)], ("base", "3"): [other]})
    assert table.cells["ours", "3"].measured is None
    assert "two splits in one column" in table.cells["base", "3"].problem


def test_where_seeds_draw_their_labels_a_split_belongs_to_a_seed(source):
    drawn = TABLE.model_copy(update={"redraw": True})
    splits = [{"sha256": letter * 64, "family": f"seeded-{letter}"} for letter in "ab"]

    def runs(value, order):
        return [source(value + 0.2 * seed, seed=seed, split=dict(splits[draw])) for seed, draw in enumerate(order)]

    table = filled({("ours", "3"): runs(0.6, (0, 1)), ("base", "3"): runs(0.5, (0, 1))}, table=drawn, seeds=2)
    assert table.cells["ours", "3"].measured.mean == pytest.approx(70) and table.cells["base", "3"].measured.n == 2
    assert "seeded-a aaaaaaaa, seeded-b bbbbbbbb" in " ".join(table.basis) and "own label draw" in " ".join(table.basis)
    crossed = filled({("ours", "3"): runs(0.6, (0, 1)), ("base", "3"): runs(0.5, (1, 0))}, table=drawn, seeds=2)
    assert "two splits in one column" in crossed.cells["ours", "3"].problem


def test_invented_data_preset_encoder_and_split_stand_below_every_table(source):
    lines = " ".join(notes(filled({("ours", "3"): [source(0.8, fabricated=True)]}, preset="quick")))
    assert all(word in lines for word in ("INVENTED", "quick preset", "last checkpoint", "Splits: 3: ssl4mis"))


def test_shares_are_those_of_the_classes_shown():
    columns = tuple(Column(name=n, metric=f"class:{n}", published=n) for n in ("liver", "aorta"))
    table = Table(title="shares", dataset="synapse", kind="shares", columns=columns, rows=(Row(name="Ratio"),))
    numbers = {("Ratio", "liver"): PublishedNumber("71.23", "share", "p", "s")}
    shown = fill_shares(table, {"background": 0.9, "liver": 0.06, "aorta": 0.02}, numbers, "counted")
    assert [shown.cells["Ratio", n].measured.mean for n in ("liver", "aorta")] == [pytest.approx(75), pytest.approx(25)]
    assert "75.00" in as_markdown(shown)
    assert "71.23" in as_markdown(shown)
