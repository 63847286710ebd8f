"""Large arrays by blocks of rows, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 2**24
"""Values in a block."""


def rows(count: int, width: int, multiple: int = 256) -> Iterator[slice]:
    """Slices that tile `count` rows.

    Args:
        width: values in a row; a block holds about `BLOCK` of them.
        multiple: each block but the last one holds a multiple of this number of rows.
    """
    step = max(1, BLOCK // (width * multiple)) * multiple
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
