"""A passage between slabs in vectors equals the same sums written out."""

import numpy as np
import pytest
from numba import njit

from twinlab.kernels.columns import ALIGN, prepare
from twinlab.kernels.lanes import LANES, pass_slabs


@njit
def passage(out, at, acc, old, new, columns, c0, c1, c2, c3, ends, widths, s):
    pass_slabs(out, at, acc, old, new, columns, c0, c1, c2, c3, ends, widths, s)


@pytest.mark.parametrize("s", [-1.0, 0.0, 0.4, 1.7, 2.6, 9.0])
def test_takes_back_what_lies_beyond_the_plane(s):
    rng = np.random.default_rng(0)
    out, acc, columns = (rng.random(n, dtype=np.float32) for n in (11, 20, 80))
    widths = np.array([0.5, 1.5, 0.0, 1.0], np.float32)
    ends = np.cumsum(widths, dtype=np.float32)
    cells, old, new, at = (1, 21, 40, 57), 5, 12, 3  # unaligned on purpose
    left = np.clip(ends - np.float32(s), 0.0, widths)
    expected = out.copy()
    for k in range(LANES):
        behind = sum(
            p * (columns[c + old + k] - columns[c + new + k]) for p, c in zip(left, cells, strict=True)
        )
        expected[at + k] += acc[old + k] - acc[new + k] - behind
    passage(out, at, acc, old, new, columns, *cells, ends, widths, np.float32(s))
    assert np.abs(out - expected).max() < 1e-6  # float32 rounding of nine terms below 1.5
    untouched = np.r_[0:at, at + LANES : out.size]
    assert np.array_equal(out[untouched], expected[untouched])


@pytest.mark.parametrize("nz", [14, 15])
def test_memory_behind_the_last_column_may_be_read(nz):
    """Vectors at the last plane reach up to three numbers behind the last column."""
    values = prepare(np.random.default_rng(0).random((1, nz, 2, 2), dtype=np.float32)).values
    assert values.flags.c_contiguous
    owner = values
    while owner.base is not None:
        owner = owner.base
    assert owner.size >= values.size + ALIGN
