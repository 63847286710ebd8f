"""The values of volumes, in whatever unit a file has them, to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import MinMax, Percentiles, Reading, Scaling, Window


def scaled(channels: NDArray[Any], reading: Reading) -> NDArray[np.floating[Any]]:
    """Each channel of a volume by its scaling.

    Args:
        channels: (channels, ...) as stored; the order of the other axes makes no difference.

    Returns:
        The same shape, float32, or float16 where the reading rounds to half precision.

    Raises:
        ValueError: neither one scaling nor one for each channel.
    """
    values = np.empty(channels.shape, np.float16 if reading.half else np.float32)
    scalings = reading.scaling * len(channels) if len(reading.scaling) == 1 else reading.scaling
    if not scalings:
        values[...] = channels
    else:
        for out, channel, scaling in zip(values, channels, scalings, strict=True):
            out[...] = _unit(channel.astype(np.float32), scaling)
    return values


def _unit(channel: NDArray[np.float32], scaling: Scaling) -> NDArray[np.floating[Any]]:
    low, high = _limits(channel, scaling)
    unit: NDArray[np.floating[Any]] = np.clip((channel - low) / max(high - low, 1e-6), 0, 1)
    return unit


def _limits(channel: NDArray[np.float32], scaling: Scaling) -> tuple[Any, Any]:
    """What becomes 0 and 1. Their type is that of the arithmetic: double for windows and percentiles."""
    match scaling:
        case Window(low=low, high=high):
            return np.float64(low), np.float64(high)
        case Percentiles(low=low, high=high):
            least, greatest = np.percentile(channel, (low, high))
            return least, greatest
        case MinMax():
            return float(channel.min()), float(channel.max())
