"""No wait without an end: loading processes and ranks that die, starve or hang, and Ctrl-C while data are awaited."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from diffmatch.card import InputError
from diffmatch.data import fetching, loading
from diffmatch.data.fetching import fetched
from diffmatch.running.processes import LostError, launch
from diffmatch.running.stopping import Stop
from diffmatch.shared.failures import refused
from tests.faults.conftest import TINY

ERRORS = {
    "input": InputError("a.png: is no image; copy it again"),
    "disk": OSError(errno.ENOSPC, "No space left on device", "/cache/a.npy"),
    "shared": RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"),
}


class Failing(Dataset):
    """Items 0, 1, 2 and so on, of which item 2 fails in some way."""

    def __init__(self, how):
        self.how = how

    def __getitem__(self, n):
        if n == 2:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "stopped":
                time.sleep(600)
            if self.how in ERRORS:
                raise ERRORS[self.how]
            raise KeyError("a failure of ours")
        return torch.full((4,), n)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ERRORS)
def test_an_error_keeps_its_type_on_the_way_out_of_a_loading_process(how, workers):
    arriving = fetched(Failing(how), range(4), workers)
    assert [int(next(arriving)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(type(ERRORS[how])) as caught:
        next(arriving)
    assert str(caught.value) == str(ERRORS[how])


def test_a_failure_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError, match="in __getitem__"):
        list(fetched(Failing("ours"), range(4), 1))


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_loading_process_that_is_killed_or_hangs_ends_in_a_line(how):
    """In a process of its own: torch tells of a dead child by a signal, whose error strikes anywhere."""
    words = [sys.executable, "-m", "tests.faults.test_waiting", how]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert "--workers 0" in done.stdout, done.stderr


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_process_that_dies_while_it_hands_a_tensor_over_ends_in_a_line(error, monkeypatch):
    def closed(*_):
        yield 0
        raise error

    monkeypatch.setattr(fetching.DataLoader, "__iter__", closed)
    monkeypatch.setattr(fetching, "SETTLED", 0.0)
    arriving = fetched(Failing("input"), range(2), 2)
    assert next(arriving) == 0
    with pytest.raises(RuntimeError) as caught:
        next(arriving)
    assert "--workers 0" in refused(caught.value)


def test_processes_that_cannot_be_started_end_in_a_line(monkeypatch):
    def none(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fetching.DataLoader, "__iter__", none)
    with pytest.raises(InputError, match=r"cannot be started \(Too many open files\).*--workers 0"):
        list(fetched(Failing("input"), range(2), 2))


def test_without_shared_memory_nothing_is_loaded_by_other_processes(monkeypatch):
    monkeypatch.setattr(loading, "usable_cores", lambda: 8)
    assert loading.default_workers() == 4
    monkeypatch.setattr(loading, "shared_memory", lambda: 64 * 1024)
    assert loading.default_workers() == 0


def test_small_shared_memory_ends_in_a_line(pictures, command, tmp_path):
    """As in a container that was started without --shm-size."""
    small = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh")
    if subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    words = ["bench", "folder", "--data", str(pictures()), "--out", str(tmp_path / "runs"), "--labels", "2"]
    words += ["--method", "supervised", "--workers", "2", *TINY, "--set", "data.crop=64", "--set", "data.resize=64"]
    done = command(words, small)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "--shm-size" in done.stderr.splitlines()[-1] and "--workers 0" in done.stderr.splitlines()[-1]


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def never():
    yield 1
    time.sleep(60)
    yield 2


def pressed(after):
    threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_ctrl_c_ends_the_wait_for_data():
    began = time.monotonic()
    with Stop() as stop:
        pressed(0.3)
        assert list(stop.waiting(never())) == [1]
    assert stop.asked
    assert time.monotonic() - began < 20


def test_of_several_processes_one_does_not_leave_alone():
    """It waits for its batch, so that all of them stop after the same step; a second Ctrl-C ends that."""
    with Stop(alone=False) as stop:
        pressed(0.2)
        pressed(0.6)
        with pytest.raises(KeyboardInterrupt):
            list(stop.waiting(never()))


def test_within_a_step_ctrl_c_waits_for_its_end():
    with Stop() as stop:
        for batch in stop.waiting(iter([1, 2])):
            os.kill(os.getpid(), signal.SIGINT)
            assert batch == 1
    assert stop.asked


def _killed(fabric):
    if fabric.local_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()


def test_a_rank_that_is_killed_ends_in_a_line():
    from lightning_fabric import Fabric

    with pytest.raises((LostError, RuntimeError)) as caught:
        launch(Fabric(accelerator="cpu", devices=2, strategy="ddp_fork"), _killed)
    assert isinstance(caught.value, LostError) or refused(caught.value)


if __name__ == "__main__":
    fetching.LONGEST = 2.0
    try:
        list(fetched(Failing(sys.argv[1]), range(4), 1))
    except RuntimeError as error:
        print(refused(error))
