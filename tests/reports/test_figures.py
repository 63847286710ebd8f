"""The paper's figures hold what the counts hold, say what they rest on, and can be read without colour."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from diffmatch.cli import invoke
from diffmatch.domain import InputError, TopBottom
from diffmatch.records.counts import BINS, CONFIDENCE_UNIT
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import DataId
from diffmatch_reports.figures import FIGURES, draw, save
from diffmatch_reports.load import load_run
from diffmatch_reports.plots.spec import STYLES

Make = Callable[..., RunFolder]
HOSTILE = "<script>alert(1)</script> $x_1$ $\\input{a}$ & %"
ONE = [[90, 2, 3, 5], [4, 6, 0, 0], [5, 0, 3, 2], [1, 1, 0, 8]]
TWO = [[100, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [10, 0, 0, 0]]
RIGHT = [[100, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]]
"""Rows are background, RV, Myo (the tail), LV (the head): the labelled pixels of `conftest` rank them so."""
OTHER_DATA = DataId(root="data/acdc", fabricated=True, fingerprint="99" * 32)
DIFFERENT = sorted(set(FIGURES) - {11, 12, 13})
"""Without the grids that are figure 9 by another number."""


def axes_of(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def bars(axes: Axes) -> dict[str, list[float]]:
    return {str(c.get_label()): [round(float(p.get_height()), 6) for p in c.patches] for c in axes.containers}  # type: ignore[attr-defined]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]  # type: ignore[attr-defined]


def caption(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def test_counts_and_iou_of_head_and_tail_are_those_of_the_pool(make_view: Any) -> None:
    runs = [make_view(ONE), make_view(TWO, seed=1), make_view(RIGHT, method="fixmatch")]
    figure = draw(1, runs)
    head, tail, head_iou, tail_iou = figure.axes[0], figure.axes[1], figure.axes[2], figure.axes[3]
    # LV: 5 + 0 + 2 + 8 = 15 and 0 predicted, 10 true; Myo: 3 + 0 + 3 + 0 = 6 and 10 predicted
    assert bars(head) == {"truth": [10], "diffmatch": [7.5], "fixmatch": [10]}
    assert bars(tail) == {"truth": [10], "diffmatch": [8], "fixmatch": [10]}
    # both seeds' counts: LV 8 / (20 + 15 - 8), Myo 13 / (20 + 16 - 13)
    assert bars(head_iou) == {"diffmatch": [round(8 / 27, 6)], "fixmatch": [1]}
    assert bars(tail_iou) == {"diffmatch": [round(13 / 23, 6)], "fixmatch": [1]}
    assert "2 seeds (0, 1) of diffmatch" in caption(figure)
    assert "1 seed (0) of fixmatch" in caption(figure)


def test_a_number_that_does_not_exist_has_no_bar_and_a_low_one_is_told(make_view: Any) -> None:
    nowhere = [[100, 0, 0, 0], [0, 10, 0, 0], [0, 0, 0, 0], [10, 0, 0, 0]]
    figure = draw(1, [make_view(nowhere)])
    assert bars(figure.axes[2]) == {"diffmatch": [0]}
    assert [t.get_text() for t in figure.axes[2].texts] == ["0"]
    assert bars(figure.axes[3]) == {"diffmatch": []}
    assert not figure.axes[3].texts


def test_reliability_has_the_bins_accuracy_gap_and_share(make_view: Any) -> None:
    runs = [make_view(ONE), make_view(TWO, seed=1)]
    for run, (b, count, correct, confidence) in zip(runs, ((3, 10, 4, 0.25), (14, 30, 27, 0.95)), strict=True):
        bins = run.scores["unlabeled"].counts.foreground
        bins[:, b] = count, correct, round(confidence * count * CONFIDENCE_UNIT)
    figure = draw(4, runs)
    upper = axes_of(figure, "diffmatch")
    lower = figure.axes[1]
    assert upper.get_title() == "diffmatch\nECE 7.5 %", "(|4 - 2.5| + |27 - 28.5|) / 40"
    assert bars(upper) == {"accuracy": [0.4, 0.9], "gap to confidence": [0.15, 0.05]}
    assert [round(float(p.get_y()), 6) for p in upper.containers[1].patches] == [0.25, 0.9]  # type: ignore[attr-defined]
    assert [round(float(p.get_x() + p.get_width() / 2) * BINS, 6) for p in upper.containers[0].patches] == [3.5, 14.5]  # type: ignore[attr-defined]
    assert next(iter(bars(lower).values())) == [25, 75]


def test_confusion_rows_are_shares_of_the_true_class(make_view: Any) -> None:
    figure = draw(5, [make_view(ONE), make_view([*TWO[:2], [0, 0, 0, 0], TWO[3]], method="fixmatch")])
    first, second = (np.ma.getdata(axes_of(figure, name).images[0].get_array()) for name in ("diffmatch", "fixmatch"))
    np.testing.assert_allclose(first, np.array(ONE) * [[1], [10], [10], [10]])
    assert np.isnan(second[2]).all(), "Myo is in no truth: not 0 %"
    numbers = [t.get_text() for t in axes_of(figure, "fixmatch").texts]
    assert len(numbers) == 12
    assert "nan" not in numbers


def test_scores_stand_over_those_of_the_best_method(make_view: Any) -> None:
    given = [
        ({"LV": 0.8, "RV": 0.0}, {"seed": 0}),
        ({"LV": 0.6, "RV": 0.0}, {"seed": 1}),
        ({"LV": 0.35, "RV": 0.0, "Myo": 0.4}, {"method": "fixmatch"}),
    ]
    runs = []
    for dice, changes in given:
        run = make_view(**changes)
        run.scores["test"].record.metrics["per_class"] = {name: {"dice": value} for name, value in dice.items()}
        runs.append(run)
    figure = draw(6, runs)
    axes = figure.axes[0]
    drawn = {str(line.get_label()): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(drawn["diffmatch"], [1, np.nan, np.nan])
    np.testing.assert_allclose(drawn["fixmatch"], [0.5, np.nan, 1])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["LV", "RV", "Myo"], "from most to least labelled"
    with pytest.raises(InputError, match="two methods"):
        draw(6, runs[:2])


def test_counts_through_training_are_means_at_common_steps(make_view: Any) -> None:
    runs = [make_view(), make_view(seed=1), make_view(method="supervised", full=False, status="failed")]
    for run, predicted in zip(runs, ({10: 4, 20: 8, 30: 9}, {10: 6, 20: 0}), strict=False):
        run.card = run.card.model_copy(update={"head_tail": TopBottom(k=2)})  # head: background, LV; tail: RV, Myo
        classes = {name: dict(predicted) for name in ("background", "Myo")}
        truth = {name: dict.fromkeys(predicted, 7) for name in classes}
        run.curves = {"audit/predicted": classes, "audit/truth": truth}
    figure = draw(8, runs)
    head, tail = axes_of(figure, "head class: background"), axes_of(figure, "tail class: Myo")
    for axes in (head, tail):
        drawn = {str(line.get_label()): line.get_xydata().tolist() for line in axes.get_lines()}  # type: ignore[attr-defined]
        assert drawn == {"truth": [[10, 7], [20, 7]], "diffmatch": [[10, 5], [20, 4]]}
    assert "Left out: supervised (failed), seed 0." in caption(figure)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"sha": "ff00ff00" * 8}, "labelled split: ab12cd34 against ff00ff00"),
        ({"dataset": "msd"}, "dataset: acdc against msd"),
        ({"data": OTHER_DATA}, "data: invented 77aa88bb against invented 99999999"),
    ],
)
def test_runs_that_may_not_be_compared_are_refused_in_one_line(make_view: Any, other: Any, told: str) -> None:
    runs = [make_view(), make_view(method="fixmatch", **other)]
    for number in FIGURES:
        with pytest.raises(InputError, match=told) as error:
            draw(number, runs)
        assert "\n" not in str(error.value)


def test_of_several_groups_the_one_with_the_most_methods_is_drawn_and_the_others_are_named(make_view: Any) -> None:
    sha = {"sha": "ff00ff00" * 8}
    runs = [
        make_view(**sha),
        make_view(seed=1, **sha),
        make_view(),
        make_view(method="fixmatch"),
        make_view(dataset="msd"),
    ]
    figure = draw(5, runs)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["diffmatch", "fixmatch"]
    said = caption(figure)
    assert "Left out: 2 runs of diffmatch (labelled split: ff00ff00 against ab12cd34); " in said
    assert "1 run of diffmatch (dataset: msd against acdc)." in said
    newer = {"environment": {"time": "2026-02-02"}}
    figure = draw(5, [make_view(), make_view(seed=1), make_view(**sha, **newer), make_view(seed=1, **sha, **newer)])
    assert "sha256 ff00ff00" in caption(figure), "of two groups with as many methods the newest"


@pytest.mark.parametrize("number", sorted(FIGURES))
def test_runs_that_lack_what_a_figure_needs_are_told_what_to_do(make_view: Any, number: int) -> None:
    with pytest.raises(InputError, match=FIGURES[number].need.words):
        draw(number, [make_view(full=False)])
    with pytest.raises(InputError, match="no run"):
        draw(number, [])


@pytest.mark.parametrize("number", DIFFERENT)
def test_every_figure_says_what_it_rests_on_inside_its_edges(make_view: Any, tmp_path: Path, number: int) -> None:
    runs = [make_view(), make_view(seed=1), make_view(method="fixmatch")]
    figure = draw(number, runs)
    said = caption(figure)
    for word in (
        "ACDC cardiac MRI",
        "3 cases labelled",
        "unimatch (sha256 ab12cd34)",
        "77aa88bb",
        "volume",
        "quick preset",
        "INVENTED DATA",
    ):
        assert word in said
    paths = save(figure, tmp_path / "deep" / "one")
    assert [p.name for p in paths] == ["one.pdf", "one.svg", "one.png"]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert Image.open(paths[2]).width > 600
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        box = text.get_window_extent()  # type: ignore[attr-defined]
        if box.width and text.get_visible() and not re.fullmatch(r"−?[\d.]+", text.get_text()):  # type: ignore[attr-defined]
            assert box.x0 > -1 and box.y0 > -1, text
            assert box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1, text
    again = save(draw(number, runs), tmp_path / "again")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths], "the same records make the same bytes"


def test_real_data_are_not_called_invented(make_view: Any) -> None:
    assert "INVENTED" not in caption(draw(4, [make_view(fabricated=False)]))


@pytest.mark.parametrize("number", DIFFERENT)
def test_hostile_names_are_shown_as_text(make_run: Make, tmp_path: Path, number: int) -> None:
    runs = []
    for method in (HOSTILE, f"{HOSTILE}\n\x00two"):
        folder = make_run(method=method, title=HOSTILE)
        for path in (folder.record_path, *(folder.path / "evaluations").glob("*.json")):
            path.write_text(path.read_text().replace('"Myo"', json.dumps(HOSTILE)))
        curves = folder.path / "curves.csv"
        curves.write_text(curves.read_text().replace(",Myo,", f',"{HOSTILE}",'))
        runs.append(load_run(folder))
    figure = draw(number, runs)
    assert "$x_1$" in " ".join(texts(figure))
    svg = save(figure, tmp_path / "figure")[1]
    kinds = {element.tag.rsplit("}")[-1] for element in ElementTree.parse(svg).iter()}
    assert "script" not in kinds


def test_no_two_methods_look_alike_without_colour(make_view: Any) -> None:
    for one, other in combinations(STYLES, 2):
        assert (one.marker, one.dash) != (other.marker, other.dash)
        assert "".join(sorted(one.hatch)) != "".join(sorted(other.hatch))
    runs = [make_view(method=name) for name in ("a", "b", "c", "d", "e")]
    for number in (6, 8):
        for axes in draw(number, runs).axes:
            looks = [(line.get_marker(), repr(line._dash_pattern)) for line in axes.get_lines()]  # type: ignore[attr-defined]
            assert len(looks) >= 5
            assert len(set(looks)) == len(looks)
    for axes in draw(1, runs).axes:
        looks = [(c.patches[0].get_hatch(), c.patches[0].get_facecolor() == (1, 1, 1, 1)) for c in axes.containers]  # type: ignore[attr-defined]
        assert len(looks) >= 5
        assert len(set(looks)) == len(looks)


def test_more_methods_than_looks_are_refused(make_view: Any) -> None:
    run = make_view()
    runs = [
        replace(run, folder=run.folder / f"{i}", record=run.record.model_copy(update={"method": f"m{i}"}))
        for i in range(len(STYLES) + 1)
    ]
    draw(1, runs[:-1])
    with pytest.raises(InputError, match=f"name {len(STYLES)} at most"):
        draw(1, runs)


def test_settings_of_one_method_are_told_apart(make_view: Any) -> None:
    runs = [make_view(), make_view(hash="ffff0000", overrides={"train.steps": 900})]
    names = [axes.get_title().replace("\n", " ") for axes in draw(5, runs).axes if axes.get_title()]
    assert names == ["diffmatch (train.steps=600)", "diffmatch (train.steps=900)"]


def test_settings_that_all_runs_share_stand_in_the_caption_and_hide_no_difference(make_view: Any) -> None:
    shared = {"network.encoder": "an_encoder_with_a_name_that_is_far_too_long_for_any_legend"}
    runs = [make_view(overrides=shared), make_view(hash="ffff0000", overrides={**shared, "diffusion.loss": "ce"})]
    runs.append(make_view(method="fixmatch", overrides=shared))
    figure = draw(5, runs)
    names = [axes.get_title().replace("\n", " ") for axes in figure.axes if axes.get_title()]
    assert names == ["diffmatch", "diffmatch (diffusion.loss=ce)", "fixmatch"]
    assert f"All with network.encoder={shared['network.encoder']}." in caption(figure)


def test_methods_whose_names_are_shortened_alike_are_all_drawn(make_view: Any) -> None:
    long = {"network.encoder": f"{'x' * 80}"}
    runs = [make_view(hash=f"{n}0000000", overrides={**long, "train.steps": n}) for n in (600, 900)]
    runs.append(make_view(method="fixmatch"))
    titles = [axes.get_title() for axes in draw(4, runs).axes]
    assert sum("diffmatch" in title for title in titles) == 2 and titles[0] == titles[1]


def test_runs_that_differ_in_hash_alone_are_named_by_it(make_view: Any) -> None:
    figure = draw(5, [make_view(hash="aaaa0000"), make_view(hash="ffff0000")])
    names = [axes.get_title().replace("\n", " ") for axes in figure.axes if axes.get_title()]
    assert names == ["diffmatch (hash aaaa0000)", "diffmatch (hash ffff0000)"]


def test_the_command_writes_three_files_and_prints_where(make_run: Make, tmp_path: Path, capfd: Any) -> None:
    root = make_run().path.parent
    make_run(method="fixmatch")
    make_run(method="cps", preset="paper")
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text('{"schema": 1')
    assert invoke(["figure", "5", str(root), "--out", str(tmp_path / "drawn")]) == 0
    told = capfd.readouterr()
    assert told.out.split() == [str(tmp_path / "drawn" / f"figure05-acdc.{form}") for form in ("pdf", "svg", "png")]
    assert all(Path(line).exists() for line in told.out.split())
    assert told.err.startswith("left out: ")
    assert "left out, not comparable: 1 run of cps (preset: paper against quick)\n" in told.err
    assert "broken" in told.err


@pytest.mark.parametrize(("arguments", "told"), [("3 runs", "no figure 3"), ("4 nowhere", "no run.json below")])
def test_the_command_refuses_in_one_line(arguments: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["figure", *arguments.split()]) == 2
    error = capfd.readouterr().err
    assert told in error
    assert error.count("\n") == 1
