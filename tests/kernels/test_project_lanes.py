"""A passage between slabs and the addition of a cell, in vectors, equal the same sums written out."""

import numpy as np
import pytest
from numba import njit

from twinlab.kernels.columns import ALIGN, prepare
from twinlab.kernels.lanes import LANES, LINE, add_line, item, pass_slabs, set_item


@njit
def passage(out, at, acc, old, new, columns, cell, s):
    pass_slabs(out, at, acc, old, new, columns, cell, s)


@njit
def line(acc, at, columns, cell, width, ahead):
    add_line(acc, at, columns, cell, width, ahead)


@njit
def moved(source, to, i, j):
    set_item(to, i, item(source, j))


@pytest.mark.parametrize("s", [0.0, 0.4, 1.7])
def test_passes_from_slab_to_slab_inside_a_cell(s):
    rng = np.random.default_rng(0)
    out, acc, columns = (rng.random(n, dtype=np.float32) for n in (11, 20, 80))
    cell, old, new, at = 41, 5, 12, 3  # unaligned on purpose
    expected = out.copy()
    for k in range(LANES):
        here = columns[cell + old + k] - columns[cell + new + k]
        expected[at + k] += acc[old + k] - acc[new + k] + np.float32(s) * here
    passage(out, at, acc, old, new, columns, cell, np.float32(s))
    assert np.abs(out - expected).max() < 1e-6  # float32 rounding of five terms below 1.7
    untouched = np.r_[0:at, at + LANES : out.size]
    assert np.array_equal(out[untouched], expected[untouched])


def test_adds_a_line_of_a_cell():
    rng = np.random.default_rng(1)
    acc, columns = rng.random(60, dtype=np.float32), rng.random(90, dtype=np.float32)
    expected = acc.copy()
    expected[7 : 7 + LINE] += np.float32(0.3) * columns[38 : 38 + LINE]
    line(acc, 7, columns, 31, np.float32(0.3), 0)
    assert np.abs(acc - expected).max() < 2e-7  # one rounding of numbers below 2
    assert np.array_equal(acc[7 + LINE :], expected[7 + LINE :])


def test_items_are_read_and_written_by_place():
    source, to = np.arange(5, dtype=np.int32), np.full(4, -1, np.int32)
    moved(source, to, 2, 3)
    assert to.tolist() == [-1, -1, 3, -1]


@pytest.mark.parametrize("shape", [(1, 14, 2, 2), (4, 5, 3, 7)])
def test_columns_begin_with_a_cache_line(shape):
    values = prepare(np.random.default_rng(0).random(shape, dtype=np.float32)).values
    assert values.ctypes.data % (4 * ALIGN) == 0


@pytest.mark.parametrize("nz", [14, 15])
def test_memory_behind_the_last_column_may_be_read(nz):
    """Vectors at the last plane reach up to three numbers behind the last column."""
    values = prepare(np.random.default_rng(0).random((1, nz, 2, 2), dtype=np.float32)).values
    assert values.flags.c_contiguous
    owner = values
    while owner.base is not None:
        owner = owner.base
    assert owner.size >= values.size + ALIGN
