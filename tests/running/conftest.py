"""What the tests of grids share."""

from __future__ import annotations

import io

import pytest
from rich.console import Console


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def small(job, tmp_path):
    """`small(...)`: a run of two steps."""
    return lambda **changes: job(
        tmp_path / "runs", **{"method": "supervised", "train__steps": 2, "train__audits": 0} | changes
    )
