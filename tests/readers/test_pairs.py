"""The later date is found beside the earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch.domain import InputError
from diffmatch.readers.pairs import later


def empty(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [("A/x.png", "B/x.tif"), ("A/before.png", "B/before.png"), ("before/before.tif", "after/after.tif")],
)
def test_the_later_date_has_the_same_name(tmp_path: Path, before: str, after: str) -> None:
    expected = empty(tmp_path / after)
    assert later(empty(tmp_path / before)) == expected


def test_a_date_that_is_missing_is_told(tmp_path: Path) -> None:
    for path in (empty(tmp_path / "A" / "x.png"), empty(tmp_path / "B" / "y.png"), empty(tmp_path / "z.png")):
        with pytest.raises(InputError, match=f"{path.name}: two dates are needed"):
            later(path)
