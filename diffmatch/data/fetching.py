"""What loading processes hand over: with their errors as they are, and within a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffmatch.card import ExpectedError
from diffmatch.domain import InputError
from diffmatch.shared.failures import refused

SETTLED = 1.0
"""Seconds after which the system has told of a process that died."""
LONGEST = 300.0
"""Seconds that are waited for a loading process."""

K = TypeVar("K")
T = TypeVar("T")


@dataclass
class _Refused:
    """An error that the commands tell in one line, on its way out of a loading process."""

    error: Exception


class _Carried(Dataset["T | _Refused"], Generic[T]):
    """A dataset's items, or why there is none, with their pixels in shared memory.

    torch moves tensors there in a thread of its own, where an error is lost and the batch never arrives.
    """

    def __init__(self, items: Dataset[T]) -> None:
        self.items = items

    def __getitem__(self, place: Any) -> T | _Refused:
        try:
            found = self.items[place]
            if torch.utils.data.get_worker_info() is not None:
                apply_to_collection(found, Tensor, Tensor.share_memory_)
            return found
        except Exception as error:
            if not isinstance(error, ExpectedError) and refused(error) is None:
                raise
            return _Refused(error)


def fetched(items: Dataset[T], order: Iterable[Any], workers: int, pin: bool = False) -> Iterator[T]:
    """The items of a dataset at the places of `order`, in that order.

    Args:
        workers: loading processes; 0 reads in this one.
        pin: whether tensors come in page-locked memory.

    Raises:
        ExpectedError, OSError, MemoryError: as reading an item raised them, in whichever process.
        InputError: the processes cannot be started.
        RuntimeError: one of them ended, or did not answer for `LONGEST` seconds.
    """
    loader: DataLoader[Any] = DataLoader(
        _Carried(items),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        worker_init_fn=_one_thread,
        timeout=LONGEST if workers else 0,
    )
    try:
        arriving = iter(loader)
    except OSError as error:
        if not workers:
            raise
        raise InputError(
            f"{workers} loading processes cannot be started ({error.strerror or error}); load without them (--workers "
            "0), or give the machine more shared memory (docker run --shm-size=8g), open files and processes"
        ) from error
    for item in _handed_over(arriving):
        if isinstance(item, _Refused):
            raise item.error
        yield item


def _handed_over(arriving: Iterator[Any]) -> Iterator[Any]:
    """What arrives. A process that dies while it hands a tensor over leaves a closed connection, not torch's error.

    Raises:
        RuntimeError: that, in torch's words.
    """
    try:
        yield from arriving
    except (EOFError, ConnectionError) as error:
        time.sleep(SETTLED)  # here torch's handler of dead children strikes, and not while the record is written
        raise RuntimeError("DataLoader worker ended while it handed over an item") from error


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
