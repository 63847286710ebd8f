"""Seeds tell two rows apart only where the interval of their difference says so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from diffmatch_reports.ranking import told_apart


@pytest.mark.parametrize("seed", range(40))
def test_rows_are_told_apart_where_students_interval_lies_above_0(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.normal(1.0, 1.0, rng.integers(2, 8)).tolist()
    low = ttest_1samp(differences, 0).confidence_interval(0.95).low
    assert told_apart(differences) == (low > 0)


def test_one_seed_equal_rows_and_the_worse_row_are_not_told_apart() -> None:
    assert not told_apart([]) and not told_apart([50.0]) and not told_apart([0.0, 0.0])
    assert not told_apart([-5.0, -5.1, -4.9]) and told_apart([5.0, 5.1, 4.9])
    assert not told_apart([30.0, 1.0, 2.0]), "a large mean of three that do not agree"
