"""Small sets of pictures, and the command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.cli import invoke

TINY = [
    word
    for setting in (
        "network.encoder=plain2",
        "network.dim=16",
        "network.heads=2",
        "network.layers=1",
        "data.resize=16",
        "data.crop=16",
        "train.batch=2",
        "train.steps=6",
        "train.audits=0",
        "train.validations=0",
        "eval.samples=1",
    )
    for word in ("--set", setting)
]
"""Settings of a run that takes a second."""


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """`pictures(name, count)`: a set of the folder plugin with two classes, 16 x 16 pixels each."""

    def write(name: str = "set", count: int = 8, stem: str = "p{}") -> Path:
        root = tmp_path / name
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        (root / "classes.csv").write_text("0,background\n1,boat\n")
        rng = np.random.default_rng(0)
        for n in range(count):
            mask = np.zeros((16, 16), np.uint8)
            mask[2 + n % 8 : 8 + n % 8, 3:9] = 1
            noise = rng.integers(0, 60, (16, 16, 3))
            Image.fromarray((noise + mask[..., None] * 150).astype(np.uint8)).save(
                root / "images" / f"{stem.format(n)}.png"
            )
            Image.fromarray(mask).save(root / "masks" / f"{stem.format(n)}.png")
        return root

    return write


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., int]:
    """`bench(data, *words)`: a tiny supervised run in this process; the exit code."""
    always = ["bench", "folder", "--out", str(tmp_path / "runs"), "--method", "supervised", *TINY]
    return lambda data, *words: invoke([*always, "--data", str(data), *words])


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command(words, **variables)`: diffmatch as a process of its own; `under` is put before it."""

    def run(words: list[str], under: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
        program = [*under, sys.executable, "-c", "from diffmatch.cli import main; main()", *words]
        return subprocess.run(
            program, env=os.environ | variables, capture_output=True, text=True, errors="replace", timeout=120
        )

    return run
