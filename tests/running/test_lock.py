"""One process at a time trains a run, and a lock outlives nobody."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffmatch.cli import invoke
from diffmatch.running.lock import HeldError, held

HOLDER = """
import sys
from pathlib import Path
from diffmatch.running.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_folder_is_refused_and_free_again_when_its_holder_dies(holder, tmp_path):
    with pytest.raises(HeldError, match="another process trains this run"), held(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with held(tmp_path):
        pass


def test_of_torchrun_s_processes_only_the_first_holds(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with held(tmp_path):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(HeldError), held(tmp_path):
        pass


def test_bench_on_a_folder_that_is_trained_says_so_in_a_line(job, tmp_path, capsys):
    from diffmatch.running.plan import plan

    asked = job(tmp_path, method="supervised", train__steps=2, train__audits=0)
    sets = [part for key, value in asked.overrides.items() for part in ("--set", f"{key}={value}")]
    with held(plan(asked).folder.create().path):
        line = [
            "bench",
            asked.dataset,
            "--labels",
            asked.labels,
            "--method",
            asked.method,
            "--out",
            str(tmp_path),
            *sets,
        ]
        assert invoke([*line, *(["--data", str(asked.data)] if asked.data else [])]) == 2
    error = capsys.readouterr().err.strip()
    assert "another process trains this run" in error
    assert error.count("\n") == 0
