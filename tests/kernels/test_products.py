"""Matrix products shared between threads."""

from __future__ import annotations

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads

from twinlab.kernels.products import multiply


@pytest.mark.parametrize("rows", [1, 63, 129, 1000])
def test_as_one_product_and_the_same_on_any_number_of_threads(rows):
    rng = np.random.default_rng(3)
    left = rng.standard_normal((rows, 96)).astype(np.float32)
    right = rng.standard_normal((96, 64)).astype(np.float32)
    before = get_num_threads()
    found = []
    for threads in {1, before}:
        set_num_threads(threads)
        wide = np.zeros((rows, 70), np.float32)
        multiply(left, right, wide[:, :64])
        found.append(wide)
    set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[-1])
    exact = left.astype(float) @ right.astype(float)
    # single precision over 96 terms of size one
    np.testing.assert_allclose(found[0][:, :64], exact, atol=96 * 6e-8 * 10)
    assert not found[0][:, 64:].any()
