"""Shared by the tests of the PASCAL plugin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from diffmatch.readers import lists
from diffmatch_pascal import Pascal

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "pascal"


@pytest.fixture
def classic(tmp_path: Path) -> None:
    """The lists of two classic budgets and of val, installed."""
    for name in ("92/labeled.txt", "92/unlabeled.txt", "1464/labeled.txt", "val.txt"):
        (tmp_path / "lists" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(LISTS / name, tmp_path / "lists" / name)
    lists.install(Pascal, tmp_path / "lists")
