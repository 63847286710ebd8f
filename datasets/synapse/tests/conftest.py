"""Shared by the tests of the Synapse plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch_synapse import Synapse


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole invented set. Read only."""
    root = tmp_path_factory.mktemp("synapse")
    Synapse.fabricate(root, seed=0)
    return root
