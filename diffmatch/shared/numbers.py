"""Floats that stand for integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE = 1e-5
"""How far a float may lie from the integer that it stands for: what a scale factor in a header leaves of it."""


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """Floats that all stand for integers, as integers; anything else as it is. The shape stays."""
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        return values
    rounded = np.rint(values)
    exact = np.abs(values - rounded).max(initial=0) <= WHOLE and np.abs(rounded).max(initial=0) < 1 << 53
    return rounded.astype(np.int64) if exact else values
