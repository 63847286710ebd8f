"""Checkpoints: atomic, complete, plain tensors and text only, so that nothing in a file is ever executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from diffmatch.domain import InputError
from diffmatch.shared.failures import refused
from diffmatch.shared.files import write_atomically

FORMAT = "diffmatch-checkpoint-1"
REQUIRED = frozenset({"format", "step", "method", "optimizer", "scaler", "rng", "settings", "split", "elapsed", "best"})


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (everything of `REQUIRED` but `format`, and `run`) in place of `path`, complete or not at all."""
    write_atomically(path, lambda handle: torch.save({"format": FORMAT, **content}, handle))


def load(path: Path, split: str, run: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with weights_only=True: pickled code is refused, not run.

    Args:
        split: the hash that it must belong to.
        run: the run that it must belong to, `<seed>-<hash>`; checkpoints made before schema 2 do not say.

    Raises:
        InputError: missing, truncated, foreign, holding code, or of another split or run.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and EOF errors of many classes, all meaning the same to the user
        if refused(error):
            raise
        raise InputError(
            f"{path}: not readable as a checkpoint (truncated, foreign, or holding code, which is not run); "
            "delete it to train afresh"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not set(content) >= REQUIRED:
        raise InputError(f"{path}: not a checkpoint of this program ({FORMAT})")
    if content["split"] != split:
        raise InputError(
            f"{path}: belongs to split {content['split'][:8]}, this run has {split[:8]}; "
            "the data or the lists have changed"
        )
    if content.get("run", run) != run:
        raise InputError(f"{path}: is the checkpoint of the run {content['run']}, not of {run}; copy this run's own")
    return content
