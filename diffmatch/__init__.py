"""Semi-supervised semantic segmentation under class imbalance.

`load` gives a trained run as a model. It is imported when it is first asked for, and torch with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffmatch.model.model import Model, load
    from diffmatch.model.prediction import Prediction

__all__ = ["Model", "Prediction", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):
        from diffmatch.model import model

        return getattr(model, name)
    if name == "Prediction":
        from diffmatch.model.prediction import Prediction

        return Prediction
    raise AttributeError(f"module 'diffmatch' has no attribute '{name}'")
