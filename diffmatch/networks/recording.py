"""What passes through a part of a network while the whole of it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded(first: nn.Module, last: nn.Module | None = None) -> Iterator[list[Tensor]]:
    """The first argument of `first` and the output of `last` (of `first`, if None), for each call inside, in order."""
    seen: list[Tensor] = []

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0])

    def leave(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        seen.append(output)

    handles = [first.register_forward_pre_hook(enter), (last or first).register_forward_hook(leave)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
