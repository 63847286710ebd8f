"""The confusion matrix of a run's page (the paper's Figure 5); drawn without the template, as 81 classes have 6,561 cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from diffmatch.records.counts import Floats, Ints
from diffmatch.scoring.metrics import ratio
from diffmatch_reports.wording import big, share

DENSE = 25
"""From how many classes on a matrix has colours alone."""
HOT = 0.85
"""From what share on a cell is dark enough for light letters."""


@dataclass(frozen=True)
class Matrix:
    """Row-normalised confusion: the share of each truth class that each class was predicted on.

    Attributes:
        shares: (C, C), NaN in the rows of classes without truth.
        pixels: (C,) of the truth.
    """

    names: Sequence[str]
    shares: Floats
    pixels: Ints

    @property
    def dense(self) -> bool:
        return len(self.names) > DENSE

    @property
    def gist(self) -> str:
        """Its largest number off the diagonal, in words."""
        wrong = self.shares * (1 - np.eye(len(self.names)))
        if not np.isfinite(wrong).any():
            return ""
        t, p = divmod(int(np.nanargmax(wrong)), len(self.names))
        return f"The most frequent confusion: {100 * wrong[t, p]:.0f} % of {self.names[t]} is predicted as {self.names[p]}."

    @property
    def body(self) -> Markup:
        """The rows of the table's body; of a dense matrix, shares below half a per mille are left blank."""
        names = [str(escape(name)) for name in self.names]
        return Markup("\n".join(self._row(t, names) for t in range(len(names))))

    def _row(self, t: int, names: Sequence[str]) -> str:
        cells = "".join(self._cell(float(value), names[t], names[p]) for p, value in enumerate(self.shares[t]))
        return f'<tr><th scope="row">{names[t]}</th>{cells}<td class="num">{big(int(self.pixels[t]))}</td></tr>'

    def _cell(self, value: float, truth: str, predicted: str) -> str:
        if np.isnan(value) or (self.dense and value < 0.0005):
            return "<td></td>"
        text = share(value)
        title = f"{truth} predicted as {predicted}: {text} %"
        hot = " hot" if value >= HOT else ""
        return f'<td class="num heat{hot}" style="--v:{value:.3f}" title="{title}">{"" if self.dense else text}</td>'


def matrix(confusion: Ints, names: Sequence[str]) -> Matrix:
    """From counts (C, C), rows truth, columns prediction."""
    truth = confusion.sum(1)
    return Matrix(names, ratio(confusion, np.broadcast_to(truth[:, None], confusion.shape)), truth)
