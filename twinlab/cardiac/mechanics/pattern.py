"""Where the contributions of elements go in the sparse matrix of the free unknowns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from twinlab.kernels.heart_tets import scatter
from twinlab.kernels.threads import one_parallel_region


@dataclass(frozen=True)
class Pattern:
    """Sorted map from the contributions of all blocks to the entries of a matrix in compressed columns."""

    n: int
    order: np.ndarray
    start: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    sizes: tuple[int, ...]

    def matrix(self, values: np.ndarray) -> sp.csc_matrix:
        """Sum the contributions in a fixed order.

        Parameters
        ----------
        values : (contribution,)
            All blocks in the order in which :func:`pattern` got their unknowns, flat.
        """
        data = np.empty(len(self.indices))
        with one_parallel_region():
            scatter(values, self.order, self.start, data)
        return sp.csc_matrix((data, self.indices, self.indptr), shape=(self.n, self.n))


def pattern(n: int, blocks: list[np.ndarray]) -> Pattern:
    """Pattern of square blocks.

    Parameters
    ----------
    n : int
        Free unknowns.
    blocks : list of int arrays (block, side)
        Free unknowns of each block's rows and columns; -1 is left out.
    """
    keys = []
    for unknown in blocks:
        unknown = unknown.astype(np.int64)
        row, column = unknown[:, :, None], unknown[:, None, :]
        keys.append(np.where((row >= 0) & (column >= 0), column * n + row, -1).ravel())
    key = np.concatenate(keys)
    order = np.argsort(key, kind="stable")
    order = order[np.searchsorted(key, 0, sorter=order) :]
    entry = key[order]
    first = np.flatnonzero(np.diff(entry, prepend=-1))
    column, row = np.divmod(entry[first], n)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n))])
    return Pattern(
        n,
        order,
        np.append(first, len(entry)),
        indptr.astype(np.int32),
        row.astype(np.int32),
        tuple(len(k) for k in keys),
    )
