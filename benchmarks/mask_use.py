"""Draws what a mask can tell f: the `diagnosis.json` of DiffMatch runs as one picture, a panel per run.

    python benchmarks/mask_use.py OUT.png RUN=TITLE [RUN=TITLE ...]

A panel has the score of one call of f over t, with y_t made from the truth and from another image's mask, and the
sampler's score after one and three steps. Where the truth's line crosses the times of the later steps, it bounds what
they can reach.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from diffmatch.records import packed
from diffmatch_reports.figures.drawing import COLORS, STYLE

LINES = {"y_t from truth": "one call, y_t of the truth", "y_t of another image": "one call, y_t of another image"}
SAMPLED = {"steps 1, draws 1": "sampler, 1 step", "steps 3, draws 1": "sampler, 3 steps"}
LATER = (1 / 3, 2 / 3)
"""Times of the second and third of three steps; the first one's is 1, where y_t is noise alone."""


def drawn(runs: list[tuple[Path, str]]) -> Figure:
    figure = Figure(figsize=(2.1 * len(runs) + 0.4, 2.6), layout="constrained")
    for axis, (folder, title) in zip(figure.subplots(1, len(runs), sharey=True, squeeze=False)[0], runs, strict=True):
        scores = json.loads(packed.read_bytes(folder / "diagnosis.json"))
        for color, marker, (key, label) in zip(COLORS, "os", LINES.items(), strict=False):
            times, values = zip(*((float(t), 100 * value) for t, value in scores[key].items()), strict=True)
            axis.plot(times, values, color=color, marker=marker, label=label)
        for color, dash, (key, label) in zip(COLORS[2:], (":", "--"), SAMPLED.items(), strict=False):
            axis.axhline(100 * scores[key], color=color, linestyle=dash, linewidth=1, label=label)
        for t in LATER:
            axis.axvline(t, color="#999999", linewidth=0.6, zorder=0)
        axis.set_title(title)
        axis.set_xlabel("t")
        axis.set_xlim(1.03, 0)
    figure.axes[0].set_ylabel("mIoU or mean Dice, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="RUN=TITLE")
    arguments = parser.parse_args()
    pairs = [text.partition("=")[::2] for text in arguments.runs]
    with mpl.rc_context(STYLE):
        drawn([(Path(folder), title or Path(folder).name) for folder, title in pairs]).savefig(arguments.out)


if __name__ == "__main__":
    main()
