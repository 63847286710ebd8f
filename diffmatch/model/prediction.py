"""What a model predicts for one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """Classes and how sure the model is of them, on the grid of the file that they were predicted from.

    The grid is (H, W) for a picture. For a volume it follows the file's own axes, for example (X, Y, Z) in NIfTI. The
    arrays of a large scene are memory-mapped.

    Attributes:
        labels: class indices, shape of the grid.
        probabilities: mean over the noise draws, (C, *grid), summing to 1 over C.
        entropy: of `probabilities` in nats, from 0 to ln C, shape of the grid.
        disagreement: share of the draws, 0 to 1, that name another class than `labels`; None without several draws.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    entropy: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None
