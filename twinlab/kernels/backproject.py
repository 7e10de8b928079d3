"""Back-projection of slice means from points (t, s) onto columns of voxels, and its transpose.

The points come from :mod:`twinlab.kernels.resample`. A voxel column takes all its slices from the four points
around it by linear interpolation: contiguous arithmetic in z, without look-ups.
"""

from __future__ import annotations

from numba import njit, prange

from twinlab.kernels.resample import FAST
from twinlab.kernels.vector import read, reread, write

TILE = 16  # voxels; a tile's part of two angles stays in the second-level cache


@njit(cache=True, inline="always")
def parallel_position(x, y, ray, steps, first_t, first_s):
    """Position along t and s of a voxel column, in points from the first; parameters as below."""
    t = (x * ray[0] + y * ray[1]) / steps[0] - first_t
    s = (y * ray[0] - x * ray[1]) / steps[1] - first_s
    return t, s


@njit(cache=True, inline="always")
def parallel_place(x, y, ray, steps, first_t, first_s):
    """Cell and fraction along t and s of a voxel column.

    Parameters
    ----------
    x, y : float
        Relative to the isocentre, mm.
    ray : array (2,)
        Cosine and sine of the parallel angle.
    steps : (float, float)
        Steps in t and s, mm.
    first_t, first_s : int
        Indices of the first point.
    """
    t, s = parallel_position(x, y, ray, steps, first_t, first_s)
    i, j = int(t), int(s)
    return i, t - i, j, s - j


@njit(cache=True, fastmath=FAST)
def _add_two(out, at, points, first, second, n, line, wa, wb, wc, wd, va, vb, vc, vd):
    """Add two cells of four points, at offsets in flat arrays: neighbours in t are columns side by side.

    ``n`` is the length of a column, ``line`` that of a line of points. Offsets, because slices of arrays cost more
    than the sum.
    """
    for k in range(n):
        a, b = first + k, second + k
        total = reread(out, at + k, 1) + wa * read(points, a, 1) + wb * read(points, a + n, 1)
        total += wc * read(points, a + line, 1) + wd * read(points, a + line + n, 1)
        total += va * read(points, b, 1) + vb * read(points, b + n, 1)
        total += vc * read(points, b + line, 1) + vd * read(points, b + line + n, 1)
        write(out, at + k, total, 1)


@njit(cache=True, parallel=True, fastmath=FAST)
def back_project(points, rays, grid, steps, x, y, out):
    """Add the back-projection of some half-turn angles to an image.

    Parameters
    ----------
    points : array (angles, n_s, n_t, slices)
        From :func:`twinlab.kernels.resample.resample`.
    rays : array (angles, 2)
        Cosine and sine of the parallel angles.
    grid : array of int (angles, 2)
        First index in t and s of the points.
    steps : (float, float)
        Steps in t and s, mm.
    x, y : arrays
        Voxel centres relative to the isocentre, mm.
    out : array (y, x, slices)
        Added to.
    """
    nx, n_angles, n = x.size, points.shape[0], out.shape[2]
    across = (nx + TILE - 1) // TILE
    line = points.shape[2] * n
    angle = points.shape[1] * line
    flat, image = points.reshape(points.size), out.reshape(out.size)
    kind = out.dtype.type
    one = kind(1)
    for tile in prange(across * ((y.size + TILE - 1) // TILE)):
        y_lo, x_lo = tile // across * TILE, tile % across * TILE
        for m in range(0, n_angles, 2):
            q = min(m + 1, n_angles - 1)
            second = kind(q > m)  # an odd one at the end: the angle again, with no weight
            for iy in range(y_lo, min(y_lo + TILE, y.size)):
                for ix in range(x_lo, min(x_lo + TILE, nx)):
                    i, f, j, g = parallel_place(x[ix], y[iy], rays[m], steps, grid[m, 0], grid[m, 1])
                    h, u, w, v = parallel_place(x[ix], y[iy], rays[q], steps, grid[q, 0], grid[q, 1])
                    f, g, u, v = kind(f), kind(g), kind(u), kind(v)
                    _add_two(
                        image, (iy * nx + ix) * n, flat, m * angle + j * line + i * n,
                        q * angle + w * line + h * n, n, line,
                        (one - f) * (one - g), f * (one - g), (one - f) * g, f * g,
                        (one - u) * (one - v) * second, u * (one - v) * second, (one - u) * v * second,
                        u * v * second,
                    )  # fmt: skip


@njit(cache=True, parallel=True, fastmath=FAST)
def back_project_adjoint(template, rays, grid, steps, x, y, points):
    """Transpose of :func:`back_project`: an image to points, added to ``points``."""
    for m in prange(points.shape[0]):
        for iy in range(y.size):
            for ix in range(x.size):
                column = template[iy, ix]
                if not column.any():
                    continue
                i, f, j, g = parallel_place(x[ix], y[iy], rays[m], steps, grid[m, 0], grid[m, 1])
                for k in range(column.size):
                    points[m, j, i, k] += column[k] * (1.0 - f) * (1.0 - g)
                    points[m, j, i + 1, k] += column[k] * f * (1.0 - g)
                    points[m, j + 1, i, k] += column[k] * (1.0 - f) * g
                    points[m, j + 1, i + 1, k] += column[k] * f * g
