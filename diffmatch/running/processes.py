"""Processes that are spawned for one run, and their errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from diffmatch.card import ExpectedError
from diffmatch.shared.failures import refused
from diffmatch.shared.files import write_atomically


class LostError(ExpectedError):
    """A process of the run was killed."""

    exit_code = 2


def launch(fabric: Fabric, work: Callable[[Fabric], None]) -> None:
    """Call `work(fabric)` in every process that Fabric spawns, and wait for all of them.

    torch reports an error of a spawned process as the text of its traceback. The errors that the commands tell in one
    line also go through a file, one per process, and are raised here with their own type.

    Raises:
        ExpectedError, or what `refused` has words for: as `work` raised them.
        LostError: a process was killed.
        ProcessRaisedException: `work` raised another error.
    """
    with TemporaryDirectory(prefix="diffmatch-") as folder:
        try:
            fabric.launch(partial(_work, work, Path(folder)))
        except ProcessExitedException as failure:
            raise LostError(
                f"process {failure.error_index} of the run ended ({failure.signal_name or failure.exit_code}); see "
                "that memory suffices, and give the same command again"
            ) from failure
        except ProcessRaisedException as failure:
            report = Path(folder) / str(failure.error_index)
            if not report.exists():
                raise
            raise pickle.loads(report.read_bytes()) from failure


def _work(work: Callable[[Fabric], None], folder: Path, fabric: Fabric) -> None:
    """What a spawned process does."""
    try:
        work(fabric)
    except Exception as error:
        if not isinstance(error, ExpectedError) and refused(error) is None:
            raise
        report = pickle.dumps(error)
        write_atomically(folder / str(fabric.local_rank), lambda handle: handle.write(report))
        raise
