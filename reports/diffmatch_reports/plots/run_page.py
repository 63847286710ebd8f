"""The plots of a run's page: each as SVG, with what it shows in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, cycle

import numpy as np
from markupsafe import Markup

from diffmatch.records.counts import CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Ints
from diffmatch.scoring.metrics import calibration_error, iou
from diffmatch_reports.load import RunView, Series
from diffmatch_reports.plots import svg
from diffmatch_reports.plots.calibration import reliability
from diffmatch_reports.plots.class_counts import class_counts
from diffmatch_reports.plots.confusion import Matrix
from diffmatch_reports.plots.spec import INK, STYLES, TRUTH, Style
from diffmatch_reports.plots.training import Curves, over_steps
from diffmatch_reports.wording import SPLITS, big, percent, share

LOSSES = [Style(INK, width=1.2), *STYLES]
PSEUDO_LABELS = {
    "truth": TRUTH,
    "pseudo-labels": Style(0, width=2),
    "training views": Style(4, dash=(1, 1), width=1.2),
    "accepted": Style(1),
    "correct": Style(2, dash=(4, 1.2, 1, 1.2)),
}


def confusion(run: RunView, split: str) -> Matrix:
    """What the pixels of each class were taken for (Figure 5)."""
    return Matrix(run.card.names, run.scores[split].counts.confusion)


def pool_counts(run: RunView) -> Markup | None:
    """Pixels of the unlabelled pool by class (Figure 1): truth, predicted, accepted; None if it was not scored."""
    if "unlabeled" not in run.scores:
        return None
    counts, names = run.scores["unlabeled"].counts, run.card.names
    pixels = {"truth": counts.confusion.sum(1), "predicted": counts.confusion.sum(0)}
    if counts.accepted.any():
        pixels["accepted"] = counts.accepted.sum(0)
    head, tail = run.ranks()
    groups = {"head": head, "others": [n for n in run.spotlight() if n not in head + tail], "tail": tail}
    classes = {heading: [names.index(name) for name in members] for heading, members in groups.items()}
    numbers = [
        f"{names[c]}: {', '.join(f'{label} {big(float(values[c]))}' for label, values in pixels.items())}"
        for c in chain(*classes.values())
    ]
    plot = class_counts(run.card, classes, pixels, {"predicted": iou(counts.confusion)})
    return svg.draw(plot, f"Pixels per class, unlabelled pool. {'; '.join(numbers)}.")


def reliability_diagrams(run: RunView, split: str) -> list[tuple[str, Markup]]:
    """Captions and diagrams of a split (Figure 4): all pixels, then the foreground."""
    if split not in run.scores:
        return []
    counts, name = run.scores[split].counts, SPLITS[split]
    diagrams = {f"{name}, all pixels": counts.top}
    if run.card.background:
        diagrams[f"{name}, foreground pixels"] = counts.foreground
    measured = {text: bins for text, bins in diagrams.items() if bins[COUNT].any()}
    return [(text.capitalize(), reliability_diagram(bins, text)) for text, bins in measured.items()]


def reliability_diagram(bins: Ints, name: str) -> Markup:
    """One diagram; in words, its calibration error and what the most confident bin holds."""
    last = np.flatnonzero(bins[COUNT])[-1]
    count = bins[COUNT, last]
    words = (
        f"Reliability diagram, {name}: ECE {percent(float(calibration_error(bins)))} %. The most confident bin holds "
        f"{share(count / bins[COUNT].sum())} % of the pixels, with accuracy {percent(bins[CORRECT, last] / count)} % "
        f"at mean confidence {percent(bins[CONFIDENCE, last] / CONFIDENCE_UNIT / count)} %."
    )
    return svg.draw(reliability({"": bins}), words)


def training(run: RunView) -> list[tuple[str, Markup]]:
    """Captions and curves: losses, learning rate, throughput."""
    terms = sorted((n for n in run.curves if n.startswith("loss/")), key=lambda name: (name != "loss/total", name))
    losses = {name.removeprefix("loss/"): curve for name in terms for curve in run.series(name).values()}
    plots = [("Losses", "loss", losses)] if losses else []
    plots += [("Learning rate", "learning rate", {"learning rate": c}) for c in run.series("lr").values()]
    speeds = run.series("images_per_second").values()
    plots += [("Throughput", "images per second", {"images per second": curve}) for curve in speeds]
    return [(caption, _curves(caption, unit, curves)) for caption, unit, curves in plots]


def _curves(caption: str, unit: str, curves: Mapping[str, Series]) -> Markup:
    ends = (f"{label} from {curve[min(curve)]:.3g} to {_last(curve):.3g}" for label, curve in curves.items())
    panel = Curves(curves, dict(zip(curves, cycle(LOSSES), strict=False)), unit, height=140)
    return svg.draw(over_steps([panel]), f"{caption} over training steps: {'; '.join(ends)}.")


def pseudo_labels(run: RunView) -> list[tuple[str, str, Markup]]:
    """Name, head/tail mark and plot (Figure 8) of each class in the spotlight that has pseudo-labels in the log."""
    views, accepted = run.series("pseudo/count"), run.series("pseudo/accepted")
    predicted, truth, correct = (run.series(f"audit/{name}") for name in ("predicted", "truth", "correct"))
    acceptable = views if accepted else predicted
    accepted = accepted or run.series("audit/accepted")
    counts = {"truth": truth, "pseudo-labels": predicted, "training views": views}
    totals = {label: _total(curves) for label, curves in counts.items()}
    head, tail = run.ranks()
    plots = []
    for name in run.spotlight():
        shares = {label: _percent(curves.get(name, {}), totals[label]) for label, curves in counts.items()}
        rates = {
            "accepted": _percent(accepted.get(name, {}), acceptable.get(name, {})),
            "correct": _percent(correct.get(name, {}), predicted.get(name, {})),
        }
        if any(shares.values()):
            mark = "head" if name in head else "tail" if name in tail else ""
            plots.append((name, mark, pseudo_labels_of(name, shares, rates)))
    return plots


def pseudo_labels_of(name: str, shares: Mapping[str, Series], rates: Mapping[str, Series]) -> Markup:
    """A class's share of the pixels by step; how many of its pseudo-labels were accepted and correct; in percent."""
    upper = Curves(shares, PSEUDO_LABELS, "share of pixels %")
    lower = Curves(rates, PSEUDO_LABELS, "of pseudo-labels %", height=70, top=105, ticks=2)
    ends = (f"{label} {share(_last(curve) / 100)} %" for label, curve in {**shares, **rates}.items() if curve)
    words = f"Pseudo-labels of class {name} over training. At the end: {', '.join(ends)}."
    return svg.draw(over_steps([upper, lower]), words)


def _total(curves: Mapping[str, Series]) -> Series:
    """All classes together at each step."""
    steps = sorted({step for curve in curves.values() for step in curve})
    return {step: sum(curve.get(step, 0.0) for curve in curves.values()) for step in steps}


def _percent(part: Series, whole: Series) -> Series:
    """100 times the quotient, where both are known and the whole is not 0."""
    return {step: 100 * value / whole[step] for step, value in part.items() if whole.get(step, 0) > 0}


def _last(curve: Series) -> float:
    return curve[max(curve)]
