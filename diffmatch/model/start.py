"""A warm start: a method takes over the trained weights of another run, as far as they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffmatch.domain import InputError
from diffmatch.learning.method import Method
from diffmatch.model.source import Weights, digest, read_weights
from diffmatch.records.schema import Init
from diffmatch.settings import Section


@dataclass(frozen=True)
class Start:
    """Trained weights to start from, and the hash that identifies them."""

    source: Path
    weights: Weights
    sha256: str


def read_start(path: Path) -> Start:
    """The weights of a finished run's folder or of an exported file.

    Raises:
        InputError: as `source.read_weights`.
    """
    weights = read_weights(path)
    return Start(path, weights, digest(weights.tensors))


@torch.no_grad()
def take(method: Method[Section], start: Start) -> Init:
    """Copy every tensor of a network whose name and shape are the same, and say what was left.

    Only networks are touched: class priors, thresholds and memories are of the data set that they were gathered on.
    What does not fit of a teacher starts as in its student, as all of it does without `--init`.

    Raises:
        InputError: nothing fits.
    """
    own, theirs = _networks(method), start.weights.tensors
    fitting = {name for name, tensor in own.items() if name in theirs and theirs[name].shape == tensor.shape}
    if not fitting:
        raise InputError(
            f"{start.source}: no weights of {start.weights.method} on {start.weights.dataset} fit this run's networks; "
            "take a run with the same network.encoder and network.decoder"
        )
    for name in fitting:
        own[name].copy_(theirs[name])
    students = {
        f"{prefix}.{name}": tensor
        for prefix, teacher in _teachers(method)
        for name, tensor in vars(teacher)["student"].state_dict().items()
    }
    followed = students.keys() - fitting
    for name in followed:
        own[name].copy_(students[name])
    return Init(
        source=str(start.source),
        dataset=start.weights.dataset,
        method=start.weights.method,
        sha256=start.sha256,
        fitted=len(fitting),
        fresh=sorted(own.keys() - fitting - followed),
        unused=sorted(theirs.keys() - fitting),
    )


def in_words(init: Init) -> str:
    """One line for people: what was taken over, and the parts that were not."""
    left = {"start fresh": init.fresh, "are not used": init.unused}
    rest = "".join(f"; {len(names)} {what} ({_parts(names)})" for what, names in left.items() if names)
    return f"starts from {init.source} ({init.method} on {init.dataset}): {init.fitted} tensors taken over{rest}"


def _parts(names: list[str]) -> str:
    """The modules that tensors belong to, two levels deep: `network.classifier, network.denoiser`."""
    return ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))


def _networks(method: Method[Section]) -> dict[str, Tensor]:
    """The state of the method's parts that learn, and of their teachers."""
    parts = [name for name, child in method.named_children() if any(True for _ in child.parameters())]
    return {name: tensor for name, tensor in method.state_dict().items() if name.split(".")[0] in parts}


def _teachers(method: Method[Section]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in method.named_modules() if getattr(module, "is_teacher", False))
