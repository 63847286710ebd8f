"""What the system refuses: one line with the place and the remedy, exit code 2, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import zipfile
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from diffmatch.cli import invoke
from diffmatch.domain import Cache
from diffmatch.records import checkpoint
from diffmatch.records.curves import Curves
from diffmatch.running import job as jobs
from diffmatch.shared.failures import ADVICE, refused
from diffmatch.shared.files import beside, sweep, write_atomically, write_json

KEPT = b"what was there before"


@pytest.fixture
def no_room():
    """Files of this process end after 64 KiB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


LARGE = np.random.default_rng(0).integers(0, 255, (400, 400, 3)).astype(np.uint8)


def zipped(handle):
    with zipfile.ZipFile(handle, "w") as archive:
        archive.writestr("a", LARGE.tobytes())


def as_h5(handle):
    with h5py.File(handle, "w") as file:
        file["a"] = LARGE


@pytest.mark.parametrize(
    "write",
    [
        lambda handle: handle.write(LARGE.tobytes()),
        lambda handle: torch.save({"a": torch.from_numpy(LARGE)}, handle),
        lambda handle: np.save(handle, LARGE),
        lambda handle: np.savez_compressed(handle, a=LARGE),
        lambda handle: Image.fromarray(LARGE).save(handle, format="PNG"),
        zipped,
        as_h5,
    ],
    ids=["bytes", "torch", "npy", "npz", "png", "zip", "h5"],
)
def test_a_full_disk_is_told_whatever_the_library_makes_of_it(write, no_room, tmp_path):
    path = tmp_path / "result"
    path.write_bytes(KEPT)
    with pytest.raises(OSError) as caught:
        write_atomically(path, write)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == KEPT
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_a_library_opens_itself_is_named_too(no_room, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "mask.tif"
    with pytest.raises(OSError) as caught, beside(path) as new:
        with rasterio.open(new, "w", driver="GTiff", width=400, height=400, count=3, dtype="uint8") as file:
            file.write(LARGE.transpose(2, 0, 1))
        if new.stat().st_size < LARGE.nbytes:  # some versions do not say that they failed
            raise RuntimeError("cut off")
    assert caught.value.filename == str(path)
    assert not [*tmp_path.iterdir()]


def test_an_error_of_the_block_itself_stays_what_it_is(tmp_path):
    with pytest.raises(KeyError):
        write_atomically(tmp_path / "a", lambda handle: {}["b"])
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "a", lambda handle: (tmp_path / "other").read_bytes())
    assert caught.value.filename == str(tmp_path / "other")


def test_a_cached_array_is_whole_or_not_there(no_room, tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(OSError, match="result"):
        cache.array("result", lambda: LARGE)
    assert not [*tmp_path.iterdir()]


def test_a_row_of_the_curves_that_was_cut_is_left_out(tmp_path):
    path = tmp_path / "curves.csv"
    Curves(path).append([(1, "loss", "", 0.5), (2, "loss", "", 0.25)])
    path.write_bytes(path.read_bytes()[:-3])  # "0.25" without its end would be another number
    assert [row["value"] for row in Curves.read(path)] == ["0.5"]


def test_curves_without_room_name_their_file_and_keep_their_rows(tmp_path):
    path = tmp_path / "curves.csv"
    curves = Curves(path)
    curves.append([(1, "loss", "", 0.5)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            curves.append([(2, "loss", "", 0.123456789)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert [row["step"] for row in Curves.read(path)] == ["1"]


def test_what_a_killed_process_left_is_swept(tmp_path):
    for name in (".new-abc.last.ckpt", "last.ckpt", ".lock"):
        (tmp_path / name).write_bytes(b"")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "last.ckpt"]


@pytest.mark.parametrize("number", sorted(ADVICE))
def test_every_refusal_of_the_system_is_one_line(number, monkeypatch, capsys):
    def fail(job, console):
        raise OSError(number, os.strerror(number), "/data/a.png")

    monkeypatch.setattr(jobs, "run", fail)
    assert invoke(["bench", "acdc"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"diffmatch: /data/a.png: {os.strerror(number)}; ")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 9.31 TiB for an array"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: 1 TB"),
    ],
)
def test_out_of_memory_says_what_to_make_smaller(error, monkeypatch, capsys):
    def fail(job, console):
        raise error

    monkeypatch.setattr(jobs, "run", fail)
    assert invoke(["bench", "acdc"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "out of memory" in line and "train.batch" in line


def test_memory_that_is_not_there_is_recognised_as_torch_and_numpy_say_it():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "train.batch" in refused(caught.value)
    with pytest.raises(MemoryError) as missing:
        np.empty(1 << 60, np.uint8)
    assert "train.batch" in refused(missing.value)


def test_other_errors_are_no_refusals():
    for error in (ValueError("shared memory"), RuntimeError("sizes do not match"), FileNotFoundError(2, "no", "a")):
        assert refused(error) is None


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(monkeypatch, tmp_path):
    """Its advice would be to delete it."""

    def closed(*_, **__):
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / "last.ckpt"))

    (tmp_path / "last.ckpt").write_bytes(b"")
    monkeypatch.setattr(checkpoint.torch, "load", closed)
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.load(tmp_path / "last.ckpt", "", "")


def test_a_run_without_room_keeps_its_last_checkpoint_and_says_why(pictures, bench, monkeypatch, capsys, tmp_path):
    data = pictures()
    save, saved = checkpoint.save, []

    def full(path, content):
        if content["step"] == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        saved.append(content["step"])
        save(path, content)

    monkeypatch.setattr(checkpoint, "save", full)
    each = ("--labels", "2", "--set", "train.checkpoint_minutes=0.0000001")
    assert bench(data, *each) == 2
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/*/*/*/run.json"))
    assert saved == [0, 1, 2, 3]
    assert torch.load(folder / "last.ckpt", weights_only=True)["step"] == 3
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["reason"].startswith(f"{folder / 'last.ckpt'}: No space left on device; ")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"diffmatch: {folder / 'last.ckpt'}: No space left on device; ")
    monkeypatch.setattr(checkpoint, "save", save)
    assert bench(data, *each) == 0
    assert json.loads((folder / "run.json").read_text())["status"] == "done"


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path, no_room):
    path = tmp_path / "run.json"
    write_json(path, {"status": "running"})
    with pytest.raises(OSError, match=r"run\.json"):
        write_json(path, {"status": "x" * (1 << 17)})
    assert json.loads(path.read_text()) == {"status": "running"}


def test_a_log_without_room_ends_no_run(tmp_path, capsys):
    from diffmatch.running.traces import logger

    log = logger(tmp_path)
    (handler,) = log.handlers
    handler.stream.close()
    handler.stream = (tmp_path / "log.txt").open("r")  # takes no line
    log.info("a line")
    assert capsys.readouterr().err == ""


def test_partial_writers_are_swept_in_order(tmp_path, no_room):
    """Two failures one after the other leave nothing either."""
    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            write_atomically(tmp_path / "a", partial(np.save, arr=LARGE))
    assert not [*tmp_path.iterdir()]
