"""Predictions as pictures: the paper's Figures 9, 11, 12, 13 (one grid, whatever the dataset) and 10 (step by step)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from diffmatch.card import VOID, Card
from diffmatch.domain import InputError
from diffmatch_reports.figures.comparison import Comparison
from diffmatch_reports.figures.drawing import INK, PAPER, finish, legend, named, sheet
from diffmatch_reports.load import Sample
from diffmatch_reports.pictures import VOID_COLOR, fit, wrong_share
from diffmatch_reports.wording import plural

ROWS = 4
"""Samples that a grid shows at most."""
DIGIT = 0.02
"""Half of a digit's height, as a share of a picture's side."""


Row = tuple[Sample, list[tuple[str, NDArray[np.uint8]]]]
"""One line of pictures: the sample that gives image and truth, and headings and label maps beside them."""


def grid(compared: Comparison) -> Figure:
    """Figures 9, 11, 12, 13: image (both dates), truth and each method's prediction, of samples that all methods have.

    Raises:
        InputError: the methods have no sample in common.
    """
    samples = [{sample.title: sample for sample in group.runs[0].samples} for group in compared.groups]
    common = [title for title in samples[0] if all(title in other for other in samples)]
    if not common:
        raise InputError(
            f"{compared.kind}: the methods have no sample in common; train them with the same eval.samples"
        )
    methods = list(zip([group.name for group in compared.groups], samples, strict=True))
    rows = [(samples[0][title], [(name, own[title].steps[-1]) for name, own in methods]) for title in common[:ROWS]]
    return _draw(compared, rows, "the last sampling step of the first seed")


def trajectory(compared: Comparison) -> Figure:
    """Figure 10: image, truth and the prediction after each sampling step; several methods share the rows."""
    most = max(1, ROWS // len(compared.groups))
    rows: list[Row] = []
    for group in compared.groups:
        name = f"{group.name}, " if len(compared.groups) > 1 else ""
        for sample in [sample for sample in group.runs[0].samples if len(sample.steps) > 1][:most]:
            steps = [(f"{name}step {number}", labels) for number, labels in enumerate(sample.steps, 1)]
            rows.append((sample, steps))
    return _draw(compared, rows, "the first seed")


def _draw(compared: Comparison, rows: list[Row], which: str) -> Figure:
    card, dates = compared.card, len(rows[0][0].image)
    columns = dates + 1 + max(len(maps) for _, maps in rows)
    heights = [min(2.0, sample.truth.shape[0] / sample.truth.shape[1]) for sample, _ in rows]
    side = min(2.0, max(1.1, 15 / columns))
    body = sheet(max(5.0, side * columns), sum(side * height + 0.2 for height in heights) + 0.6)
    panels = body.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    seen: set[int] = set()
    above: list[str] = []
    images = [f"date {d + 1}" for d in range(dates)] if dates > 1 else ["image"]
    for (sample, maps), line in zip(rows, panels, strict=True):
        headings = [*images, "truth", *(heading for heading, _ in maps)]
        if headings != above:
            for axes, heading in zip(line, headings, strict=False):
                axes.set_title(named(heading, 18), fontsize=7.5, pad=3)
        above = headings
        for axes, image in zip(line, sample.image, strict=False):
            _show(axes, _fit(image, Image.Resampling.LANCZOS))
        truth = _fit(sample.truth, Image.Resampling.NEAREST)
        for axes, labels in zip(line[dates:], [sample.truth, *(labels for _, labels in maps)], strict=False):
            small = _fit(labels, Image.Resampling.NEAREST)
            seen |= set(np.unique(small).tolist())
            _show(axes, _colored(small, card))
            _borders(axes, truth)
            _numbers(axes, small, card)
            if labels is not sample.truth:
                axes.set_xlabel(wrong_share(labels, sample.truth), fontsize=6.5, labelpad=2)
        line[0].set_xlabel(named(sample.title, 22), fontsize=6.5, labelpad=2)
        for axes in line[dates + 1 + len(maps) :]:
            axes.set_visible(False)
    legend(body, _key(card, seen))
    tested = compared.first.record.split.counts.get("test")
    of = f"{tested} test items" if tested else "the test split"
    drawn = f"{plural(len(rows), 'pictures')} of {of}, last checkpoint"
    note = (
        f"Label maps are {which}; lines are the true borders, numbers the classes'; wrong: share of the scored pixels"
    )
    return finish(compared, body, note, drawn)


def _key(card: Card, seen: set[int]) -> list[Patch]:
    """What the colours and numbers of the classes that are seen mean."""
    colors = {f"{c} {k.name}": k.color for c, k in enumerate(card.classes) if c in seen}
    colors |= {"not scored": VOID_COLOR} if VOID in seen else {}
    look: Any = {"edgecolor": INK, "linewidth": 0.5}
    return [Patch(facecolor=f"#{bytes(color).hex()}", label=named(name), **look) for name, color in colors.items()]


def _show(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _fit(picture: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(fit(Image.fromarray(picture), how))


def _colored(labels: NDArray[np.uint8], card: Card) -> NDArray[np.uint8]:
    """(H, W) classes as (H, W, 3) in the card's colours, void and anything beyond the classes in grey."""
    palette = np.full((256, 3), VOID_COLOR, np.uint8)
    palette[: len(card.classes)] = [k.color for k in card.classes]
    return palette[labels]


def _borders(axes: Axes, truth: NDArray[np.uint8]) -> None:
    """The true classes' outlines, white in black: an error is seen without telling colours apart."""
    classes = np.unique(truth[truth != VOID])
    for c in classes if len(classes) > 2 else classes[1:]:
        lines = axes.contour(truth == c, levels=[0.5], colors=[PAPER], linewidths=0.5)
        lines.set_path_effects([withStroke(linewidth=1.3, foreground=INK)])


def _numbers(axes: Axes, labels: NDArray[np.uint8], card: Card) -> None:
    """Each class's number where its region is widest, if it has room for a digit: read without colour, too."""
    for c in set(np.unique(labels).tolist()) & set(card.foreground):
        depth = distance_transform_edt(np.pad(labels == c, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] > DIGIT * max(depth.shape):
            look: Any = {"color": PAPER, "path_effects": [withStroke(linewidth=1.2, foreground=INK)]}
            axes.text(float(x), float(y), str(c), fontsize=5.5, ha="center", va="center", **look)
