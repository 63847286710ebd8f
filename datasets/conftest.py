"""Shared by the tests of all dataset plugins."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_lists(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The split lists that the machine's owner has installed are not there."""
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path_factory.mktemp("store")))
