"""What a model says of one input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound=np.generic)
MAPS = ("probabilities", "entropy", "disagreement")
"""The fields of a prediction besides its labels."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one input, on the input's own grid.

    The grid is (H, W) of a picture, (Z, H, W) of an array of slices, and the file's own axes, (X, Y, Z), of NIfTI.

    Attributes:
        labels: class indices, (*grid) uint8.
        probabilities: (C, *grid) float32, summing to 1; the mean over noise draws.
        entropy: of that mean, (*grid) float32, in nats: 0 where the model is sure, ln C where it knows nothing.
        disagreement: (*grid) float32 in 0..1, the share of noise draws that name another class than their mean does;
            None without several draws.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    entropy: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None

    def moved(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Prediction:
        """The same with all its maps (..., *grid) moved to other axes."""

        def own(values: NDArray[S]) -> NDArray[S]:
            return move(values) if values.size else values

        disagreement = None if self.disagreement is None else own(self.disagreement)
        return Prediction(own(self.labels), own(self.probabilities), own(self.entropy), disagreement)
