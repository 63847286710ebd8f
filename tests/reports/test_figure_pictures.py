"""Figures 9 to 13: the pictures that the samples hold, in the card's colours, with numbers for those who see none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffmatch.domain import InputError
from diffmatch_reports.figures import draw
from diffmatch_reports.load import Sample


def sample(title: str, steps: list[int], dates: int = 1) -> Sample:
    truth = np.zeros((6, 8), np.uint8)
    truth[2:4, 2:6] = 3
    truth[0] = 255
    maps = np.stack([np.full((6, 8), c, np.uint8) for c in steps])
    return Sample(title, np.full((dates, 6, 8, 3), 90, np.uint8), truth, maps)


def test_a_grid_shows_image_truth_and_each_methods_last_step(make_view: Any) -> None:
    runs = [make_view(), make_view(seed=1), make_view(method="fixmatch")]
    runs[0].samples = [sample("b", [1, 3]), sample("a", [0, 1])]
    runs[1].samples = [sample("b", [2, 2])]
    runs[2].samples = [sample("a", [0]), sample("c", [0])]
    figure = draw(12, runs)
    drawn = [axes for axes in figure.axes if axes.images]
    titles = [axes.get_title() for axes in drawn]
    assert titles == ["image", "truth", "diffmatch", "fixmatch"], "one row: only sample a is in both"
    pixels = [np.asarray(axes.images[0].get_array()) for axes in drawn]
    colors = [c.color for c in runs[0].card.classes]
    assert (pixels[0] == 90).all()
    assert tuple(pixels[1][3, 3]) == colors[3]
    assert tuple(pixels[1][0, 0]) not in colors, "void has no class's colour"
    assert (pixels[2] == colors[1]).all(), "the last step of the first seed"
    assert (pixels[3] == colors[0]).all()
    numbers = [[t.get_text() for t in axes.texts] for axes in drawn]
    assert numbers == [[], ["3"], ["1"], []], "a class is read without its colour"
    # 40 scored pixels, 8 of them LV: background everywhere is wrong in 20 %, RV everywhere in all
    assert [axes.get_xlabel() for axes in drawn] == ["a", "", "100.0 % wrong", "20.0 % wrong"]
    assert "1 picture of 40 test items" in figure.get_supxlabel().replace("\n", " ")


def test_both_dates_are_shown(make_view: Any) -> None:
    run = make_view()
    run.samples = [sample("a", [0, 3], dates=2)]
    titles = [axes.get_title() for axes in draw(11, [run]).axes]
    assert titles == ["date 1", "date 2", "truth", "diffmatch"]


def test_the_trajectory_shows_every_step(make_view: Any) -> None:
    runs = [make_view(), make_view(method="discriminative")]
    runs[0].samples = [sample("a", [0, 1, 3])]
    runs[1].samples = [sample("a", [0])]
    figure = draw(10, runs)
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "step 1", "step 2", "step 3"]
    assert [axes.get_xlabel() for axes in figure.axes[2:]] == ["20.0 % wrong", "100.0 % wrong", "80.0 % wrong"]
    assert (
        "Left out: discriminative (without pictures of several sampling steps), seed 0."
        in figure.get_supxlabel().replace("\n", " ")
    )


def test_methods_without_a_common_sample_are_refused(make_view: Any) -> None:
    runs = [make_view(), make_view(method="fixmatch")]
    runs[0].samples, runs[1].samples = [sample("a", [0])], [sample("b", [0])]
    with pytest.raises(InputError, match="no sample in common"):
        draw(9, runs)
