"""Commands killed at random moments, or left without room or rights, and given again: the same bits as undisturbed.

`python tests/faults/kills.py --kills 200` prints survived / tried by command and by fault.

Every trial forks this process, so that torch is imported once. A command is disturbed after a random part of the time
that it takes undisturbed, then repeated until it is done, and what it left is compared byte by byte with what it leaves
undisturbed; times and paths aside.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from left import content
from PIL import Image

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FAULTS = (*SIGNALS, "full disk", "read-only", "open files")
LOADED = (
    "diffmatch.cli",
    "diffmatch.data.doctor",
    "diffmatch.model.batch",
    "diffmatch.running.restored",
    "diffmatch_folder",
    "diffmatch_msd",
    "diffmatch_reports",
)
"""Modules that the commands import."""
EXPECTED = {
    "SIGKILL": {-9},
    "SIGTERM": {130, -15},  # before the command line looks after it
    "SIGINT": {130},
    "full disk": {2},
    "read-only": {2},
    "open files": {2},
}
"""Exit codes of a command that was disturbed; 0 where it was done before."""
SETTINGS = {
    "network.encoder": "plain2",
    "network.dim": 16,
    "network.heads": 2,
    "network.layers": 1,
    "data.resize": 16,
    "data.crop": 16,
    "train.batch": 2,
    "train.steps": 6,
    "train.audits": 0,
    "train.validations": 3,
    "train.checkpoint_minutes": 0.00001,
    "eval.samples": 1,
}


def write_pictures(root: Path, count: int = 10) -> None:
    """A set of the folder plugin: two classes, 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    for n in range(count):
        mask = np.zeros((16, 16), np.uint8)
        mask[2 + n % 6 : 9 + n % 6, 3:9] = 1
        pixels = (rng.integers(0, 60, (16, 16, 3)) + mask[..., None] * 150).astype(np.uint8)
        for folder, values in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / folder / f"p{n}.png")
    (root / "classes.csv").write_text("0,background\n1,boat\n")


@dataclass(frozen=True)
class Place:
    """What a trial works in: inputs that nothing writes to, and one folder that everything is written to."""

    inputs: Path
    out: Path

    @property
    def data(self) -> Path:
        return self.inputs / "data"

    def run(self) -> Path:
        return next((self.out / "runs").glob("*/*/*/*/run.json")).parent


def train(place: Place) -> list[str]:
    words = ["bench", "folder", "--data", str(place.data), "--out", str(place.out / "runs"), "--labels", "3"]
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return [*words, "--method", "fixmatch", "--workers", "0", *sets]


COMMANDS: dict[str, tuple[Callable[[Place], list[str]], bool]] = {
    "train": (train, False),
    "score": (lambda p: ["evaluate", str(p.run()), "--split", "val", "--data", str(p.data)], True),
    "report": (lambda p: ["report", str(p.out / "runs"), "--out", str(p.out / "report")], True),
    "predict": (lambda p: ["predict", str(p.run()), str(p.data / "images"), "--out", str(p.out / "masks")], True),
    "splits": (lambda p: ["splits", "folder", "--from", str(p.inputs / "lists")], False),
    "cache": (lambda p: ["doctor", "msd", "--data", str(p.inputs / "task")], False),
}
"""Command -> its words, and whether it starts with a finished run."""


def prepare(inputs: Path) -> None:
    """The inputs of all commands, and a finished run."""
    from diffmatch_msd_phantom import write_task

    for name in LOADED:
        importlib.import_module(name)
    write_pictures(inputs / "data")
    (inputs / "lists" / "1_4").mkdir(parents=True)
    (inputs / "lists" / "1_4" / "labeled.txt").write_text("p1\np2\n")
    (inputs / "lists" / "1_4" / "unlabeled.txt").write_text("p3\np4\np5\n")
    (inputs / "lists" / "val.txt").write_text("p6\np7\n")
    write_task(inputs / "task", 0, 6)
    code, _ = command(train(Place(inputs, inputs / "done")), inputs / "done")
    assert code == 0, "the undisturbed run fails"


def command(words: list[str], out: Path, fault: str = "", after: float = 0.0) -> tuple[int, str]:
    """Run a command in a process of its own and disturb it after some seconds; its exit code and what it said."""
    child, told, began = started(words, out), out.parent / "told", time.monotonic()
    while fault and time.monotonic() - began < max(after, 0.05):  # the process has begun to look after signals
        time.sleep(0.002)
    if fault in SIGNALS:
        os.kill(child, SIGNALS[fault])
        code = ended(child)
    elif fault:
        with full_or_closed(out, fault, child):
            code = ended(child)
    else:
        code = ended(child)
    return code, told.read_text(errors="replace")


def started(words: list[str], out: Path, name: str = "") -> int:
    """The process of a command."""
    out.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _in_child(words, out, out.parent / f"told{name}")
    return child


def ended(child: int, seconds: float = 60.0) -> int:
    """The exit code of a process; one that does not end is killed, and that is a fault."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if (done := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(done[1])
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 999


def _in_child(words: list[str], out: Path, told: Path) -> None:
    """`main` of the command line, with what it says in a file outside the folder that is disturbed."""
    code = 1
    try:
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ |= {"DIFFMATCH_CACHE": str(out / "cache"), "DIFFMATCH_SPLITS": str(out / "splits")}
        sys.argv = ["diffmatch", *words]
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        from diffmatch import cli

        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:  # before the command line looks after it
        code = 130
    finally:
        os._exit(code)


@contextmanager
def full_or_closed(out: Path, fault: str, child: int) -> Iterator[None]:
    """The folder's own file system without room or read-only; without the right to mount, a limit of the process."""
    filler = out / ".filler"
    if fault == "open files":
        resource.prlimit(child, resource.RLIMIT_NOFILE, (3, 3))
    elif not os.path.ismount(out):
        resource.prlimit(child, resource.RLIMIT_FSIZE, (0, 0))
    elif fault == "full disk":
        with suppress(OSError), filler.open("wb", buffering=0) as handle:
            while True:
                handle.write(bytes(4096))
    else:  # refused as long as a file is open for writing
        remounted(out, "ro")
    try:
        yield
    finally:
        if os.path.ismount(out):
            remounted(out, "rw")
        filler.unlink(missing_ok=True)


def remounted(folder: Path, how: str) -> bool:
    return not subprocess.run(
        ["mount", "-o", f"remount,{how}", str(folder)], check=False, capture_output=True
    ).returncode


class Trials:
    """Trials of every command in one folder, which is a small file system of its own where that can be mounted."""

    def __init__(self, work: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.place = Place(work / "inputs", work / "trial")
        self.place.inputs.mkdir()
        self.place.out.mkdir()
        self.done = work / "inputs" / "done"
        prepare(self.place.inputs)
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(self.place.out)]
        subprocess.run(mount, check=False, capture_output=True)
        self.undisturbed: dict[str, tuple[float, dict[str, bytes]]] = {}

    def start(self, name: str) -> list[str]:
        """The folder as it is before a command; the command's words."""
        words, finished = COMMANDS[name]
        for path in self.place.out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if finished:
            shutil.copytree(self.done / "runs", self.place.out / "runs")
        return words(self.place)

    def reference(self, name: str) -> tuple[float, dict[str, bytes]]:
        """Seconds of a command that nothing disturbs, and what it leaves."""
        if name not in self.undisturbed:
            began, (code, told) = time.monotonic(), command(self.start(name), self.place.out)
            assert code == 0, f"{name}: {told}"
            self.undisturbed[name] = time.monotonic() - began, content(self.place.out)
        return self.undisturbed[name]

    def trial(self, name: str, fault: str) -> str:
        """What went wrong when a command was disturbed once and given again; empty where nothing did."""
        seconds, wanted = self.reference(name)
        words, after = self.start(name), self.random.uniform(0, seconds)
        code, told = command(words, self.place.out, fault, after)
        where = f"{name}, {fault} after {after:.2f} s: "
        if code not in {0, *EXPECTED[fault]} or (code == 2 and "Traceback" in told):
            return f"{where}exit code {code}: {told[-1500:]}"
        try:
            content(self.place.out)
        except Exception as error:
            return f"{where}half a file: {error!r}"
        code, told = command(words, self.place.out)
        if code:
            return f"{where}given again, exit code {code}: {told[-1500:]}"
        left = content(self.place.out)
        if differing := sorted(key for key in left.keys() | wanted.keys() if left.get(key) != wanted.get(key)):
            return f"{where}other bits in {', '.join(differing[:5])}"
        if stray := [str(path) for path in self.place.out.glob("runs/*/*/*/*/.new-*")]:
            return f"{where}left behind: {', '.join(stray)}"
        return ""

    def together(self, name: str, count: int) -> str:
        """What went wrong when several processes were given one command at once; empty where nothing did."""
        _, wanted = self.reference(name)
        words = self.start(name)
        children = [started(words, self.place.out, f"{n}") for n in range(count)]
        codes = sorted(ended(child) for child in children)
        if codes[0] != 0 or not {*codes} <= {0, 2}:
            return f"{name} by {count} processes: exit codes {codes}"
        left = content(self.place.out)
        differing = sorted(key for key in left.keys() | wanted.keys() if left.get(key) != wanted.get(key))
        return f"{name} by {count} processes: other bits in {', '.join(differing[:5])}" if differing else ""


def own_mounts() -> None:
    """What this process mounts is seen by nobody else and gone when it ends; without the right to, nothing happens."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not libc.unshare(0x00020000):
        subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)


def run(kills: int, seed: int, commands: tuple[str, ...] = tuple(COMMANDS), faults: tuple[str, ...] = FAULTS) -> int:
    """Print survived / tried by command and fault; the number of faults."""
    tried, survived, problems = Counter[tuple[str, str]](), Counter[tuple[str, str]](), []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        trials = Trials(Path(folder), seed)
        pairs = [(name, fault) for name in commands for fault in faults]
        for n in range(kills):
            pair = pairs[n % len(pairs)]
            problem = trials.trial(*pair)
            tried[pair] += 1
            survived[pair] += not problem
            if problem:
                problems.append(problem)
                print(problem, flush=True)
        for name in ("train", "cache"):
            for count in (2, 8):
                pair = name, f"{count} at once"
                problem = trials.together(name, count)
                tried[pair] += 1
                survived[pair] += not problem
                if problem:
                    problems.append(problem)
                    print(problem, flush=True)
        subprocess.run(["umount", str(trials.place.out)], check=False, capture_output=True)
    for name, fault in sorted(tried):
        print(f"{name:8} {fault:12} {survived[name, fault]}/{tried[name, fault]}")
    print(f"survived {survived.total()} of {tried.total()}")
    return len(problems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    own_mounts()
    sys.exit(bool(run(asked.kills, asked.seed)))
