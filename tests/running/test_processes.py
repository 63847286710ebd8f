"""Errors of spawned processes keep their type on the way to the command line."""

from __future__ import annotations

import errno
from functools import partial

import pytest
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessRaisedException

from diffmatch import cli
from diffmatch.domain import InputError
from diffmatch.running import job as jobs
from diffmatch.running.lock import HeldError
from diffmatch.running.processes import launch
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import DivergenceError


def _fail(fabric: Fabric, error: Exception) -> None:
    if fabric.local_rank == 1:
        raise error
    fabric.barrier()  # waits for the other process, which never comes


def two(error: Exception) -> None:
    launch(Fabric(accelerator="cpu", devices=2, strategy="ddp_fork"), partial(_fail, error=error))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("labels.txt: DivergenceError: is no id"), 2, "labels.txt: DivergenceError: is no id"),
        (StoppedError("stopped after step 1 of 2"), 130, "goes on from there"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), 2, "/data: Permission denied"),
    ],
)
def test_an_error_of_a_process_is_told_like_one_of_its_parent(error, code, line, monkeypatch, capfd):
    monkeypatch.setattr(jobs, "run", lambda job, console: two(error))
    assert cli.invoke(["bench", "acdc"]) == code
    told = capfd.readouterr().err.splitlines()
    assert line in told[-1]
    assert told[-1].startswith("diffmatch: ")
    assert "Traceback" not in "".join(told)


def test_another_error_of_a_process_keeps_its_traceback():
    with pytest.raises(ProcessRaisedException, match=r"(?s)in _fail.*RuntimeError: names InputError: and no more"):
        two(RuntimeError("names InputError: and no more"))


@pytest.mark.parametrize(
    ("error", "code"), [(InputError, 2), (HeldError, 2), (DivergenceError, 1), (StoppedError, 130)]
)
def test_an_error_carries_its_exit_code(error, code, monkeypatch, capfd):
    def fail(job, console):
        raise error("why")

    monkeypatch.setattr(jobs, "run", fail)
    assert cli.invoke(["bench", "acdc"]) == code
    assert capfd.readouterr().err == f"diffmatch: why{error.advice}\n"


def test_a_failure_whose_text_names_an_expected_error_is_no_such_error(monkeypatch, capfd):
    def fail(job, console):
        raise RuntimeError("of a process: InputError: labels")

    monkeypatch.setattr(jobs, "run", fail)
    assert cli.invoke(["bench", "acdc"]) == 1
    assert "Traceback" in capfd.readouterr().err
