"""Parts of a step that half precision would spoil."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast inside: what is made of float32 stays float32. The meta device has no autocast to turn off."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
