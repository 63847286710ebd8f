"""The values of volumes, in whatever unit a file has them, to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import MinMax, Percentiles, Reading, Scaling, Window


def fitted_window(voxels: NDArray[Any], foreground: NDArray[Any] | None = None) -> Window:
    """The window for values with a unit: twice as wide as the foreground's 0.5 to 99.5 percentiles, about their middle.

    nnU-Net clips CT to these percentiles. The margin of half their width keeps the surroundings apart, and an eighth of
    the range of all voxels is the least width. Of a liver in portal phase, -17 to 201, the window is -126 to 310.

    Args:
        voxels: of one channel, of any shape; their 0.5 to 99.5 percentiles are their range, and the window where
            nothing is known of the foreground.
        foreground: those of them that masks mark.
    """
    least, most = np.percentile(voxels, (0.5, 99.5)).tolist()
    if foreground is None or not foreground.size:
        return Window(low=least, high=most)
    low, high = np.percentile(foreground, (0.5, 99.5)).tolist()
    middle, half = (low + high) / 2, max(high - low, (most - least) / 16)
    return Window(low=middle - half, high=middle + half)


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
