"""Values of volumes to [0, 1]: known values, every Hounsfield unit, whatever the layout in memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from diffmatch.domain import MinMax, Percentiles, Reading, Scaling, Window
from diffmatch.readers.scaling import scaled


def reading(*scaling: Scaling, half: bool = False) -> Reading:
    return Reading(kind="volume", values=(0, 1), scaling=scaling, half=half)


def test_each_kind_on_known_values() -> None:
    values = np.array([[-200, -125, 75, 275, 300]], np.int16)
    assert scaled(values, reading(Window(low=-125, high=275))).tolist() == [[0, 0, 0.5, 1, 1]]
    np.testing.assert_allclose(scaled(values, reading(MinMax())), (values + 200) / 500, rtol=1e-6)
    np.testing.assert_allclose(
        scaled(values, reading(Percentiles(low=25, high=75))), ((values + 125) / 400).clip(0, 1), rtol=1e-6
    )
    assert scaled(values, reading()).tolist() == values.tolist()


def test_channels_have_their_own_or_share_one() -> None:
    values = np.array([[0, 10], [0, 40]])
    assert scaled(values, reading(MinMax())).tolist() == [[0, 1], [0, 1]]
    assert scaled(values, reading(MinMax(), Window(low=0, high=80))).tolist() == [[0, 1], [0, 0.5]]
    with pytest.raises(ValueError, match="shorter"):
        scaled(np.zeros((3, 2)), reading(MinMax(), MinMax()))


def test_a_volume_of_one_value_is_0() -> None:
    for scaling in (MinMax(), Percentiles(low=0.5, high=99.5)):
        assert not scaled(np.full((1, 2, 2), 7.0), reading(scaling)).any()


@pytest.mark.parametrize(("low", "high"), [(-125, 275), (-1000, 400)])
def test_every_hounsfield_unit_is_rounded_once(low: int, high: int) -> None:
    """To half precision, as if the division were exact; single precision rounds to the same."""
    units = np.arange(-1100, 500, dtype=np.int16)
    found = scaled(units[None], reading(Window(low=low, high=high), half=True))[0]
    single = ((np.clip(units.astype(np.float32), low, high) - low) / (high - low)).astype(np.float16)
    assert found.dtype == np.float16 and np.array_equal(found, single)
    for unit, value in list(zip(units.tolist(), found, strict=True))[::7]:
        exact = Fraction(min(max(unit, low), high) - low, high - low)
        above, below = (np.nextafter(value, np.float16(to)) for to in (2, -1))
        assert all(abs(Fraction(float(value)) - exact) <= abs(Fraction(float(n)) - exact) for n in (above, below))


@given(drawn.arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-1e4, 1e4, width=32)), st.permutations(range(3)))
def test_the_order_of_axes_makes_no_difference(values: np.ndarray, order: list[int]) -> None:
    axes = (0, *(axis + 1 for axis in order))
    recipe = reading(Percentiles(low=5, high=95), MinMax())
    found = scaled(values, recipe)
    assert found.min() >= 0 and found.max() <= 1
    assert np.array_equal(scaled(values.transpose(axes), recipe), found.transpose(axes))
