"""A share of the examples of `fuzz.py`: whatever is done to a file, it is read rightly or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import fuzz


@pytest.mark.parametrize("make", [make for make in fuzz.READERS if make is not fuzz.dataset])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_file_is_read_rightly_or_refused_by_name(make, seed, tmp_path_factory):
    assert fuzz.example(make, seed, tmp_path_factory.mktemp("one")) in ("read rightly", "refused")


def test_examples_are_counted_by_reader(tmp_path):
    counts = fuzz.rows(fuzz.run(14, seed=1))
    assert [row[0] for row in counts] == [*(make.__name__ for make in fuzz.READERS), "all"]
    assert counts[-1][1] == 14 and counts[-1][-1] == 0


def test_what_is_read_wrongly_is_found(tmp_path):
    def swapped(folder, rng):
        path, read, right = fuzz.packed(folder, rng)
        return path, lambda p: read(p) + 1, right

    outcomes = {fuzz.example(swapped, seed, tmp_path) for seed in range(8)}
    assert "read wrongly" in outcomes and "read rightly" not in outcomes
