"""Local frames of the muscle: axes from gradients, rotations, quaternions and their interpolation.

A frame is a rotation matrix whose columns are e0 (around), e1 (towards the base), e2 (across the wall); arrays of
frames have the shape (n, 3, 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(vectors: Array) -> Array:
    """Vectors (n, 3) of length one; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def axes(up: Array, across: Array, spare: Array) -> Array:
    """Frames from a direction across the wall, kept, and one towards the base, made square to it.

    Where the two are parallel (at the apex) or a gradient vanishes, a spare direction takes the place: at the tip
    all directions in the wall are alike, and any frame is right as long as it is one.

    Parameters
    ----------
    up, across : ndarray, shape (n, 3)
        Gradients.
    spare : ndarray, shape (3,)
        Direction used for ``up`` where it says nothing; a second one, square to it, is used where that fails too.
    """
    e2 = unit(across)
    lost = np.linalg.norm(e2, axis=1) == 0
    e2[lost] = unit(np.cross(up[lost], spare) + 1e-12 * _square_to(spare))
    e1 = _reject(unit(up), e2)
    for other in (spare, _square_to(spare)):
        weak = np.linalg.norm(e1, axis=1) < 1e-3
        e1[weak] = _reject(np.broadcast_to(other, e2.shape), e2)[weak]
    e1 = unit(e1)
    return np.stack([np.cross(e1, e2), e1, e2], axis=2)


def _reject(vectors: Array, unit_vectors: Array) -> Array:
    return vectors - unit_vectors * (vectors * unit_vectors).sum(axis=1, keepdims=True)


def _square_to(vector: Array) -> Array:
    other = np.eye(3)[int(np.argmin(np.abs(vector)))]
    return unit(np.cross(vector, other))


def oriented(frame: Array, alpha: Array, beta: Array) -> Array:
    """Frames turned by ``alpha`` about e2, then by ``beta`` about the new e0 (Bayer 2012, equation for orient).

    Angles in rad, shape (n,). The columns become fibre, sheet normal, sheet (with the reverse sign of the middle
    one: fibre x sheet = -column 1).
    """
    ca, sa, cb, sb = np.cos(alpha), np.sin(alpha), np.cos(beta), np.sin(beta)
    e0, e1, e2 = (frame[:, :, k] for k in range(3))
    f = ca[:, None] * e0 + sa[:, None] * e1
    n = -sa[:, None] * e0 + ca[:, None] * e1
    return np.stack([f, cb[:, None] * n - sb[:, None] * e2, sb[:, None] * n + cb[:, None] * e2], axis=2)


def quaternions(frame: Array) -> Array:
    """Unit quaternions (w, x, y, z) of rotation matrices, shape (n, 4)."""
    m = frame
    trace = np.einsum("nii->n", m)
    # Each row is one of four formulas; the one with the largest divisor is used.
    four = np.stack([trace, m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]], axis=1)
    best = four.argmax(axis=1)
    q = np.empty((len(m), 4))
    d = {(i, j): m[:, i, j] - m[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))}
    s = {(i, j): m[:, i, j] + m[:, j, i] for i, j in ((0, 1), (0, 2), (1, 2))}
    rows = [
        np.stack([1 + trace, d[2, 1], d[0, 2], d[1, 0]], 1),
        np.stack([d[2, 1], 1 + 2 * m[:, 0, 0] - trace, s[0, 1], s[0, 2]], 1),
        np.stack([d[0, 2], s[0, 1], 1 + 2 * m[:, 1, 1] - trace, s[1, 2]], 1),
        np.stack([d[1, 0], s[0, 2], s[1, 2], 1 + 2 * m[:, 2, 2] - trace], 1),
    ]
    for k, row in enumerate(rows):
        q[best == k] = row[best == k]
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def matrices(q: Array) -> Array:
    """Rotation matrices of unit quaternions."""
    w, x, y, z = q.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        axis=1,
    )


def bislerp(one: Array, two: Array, share: Array) -> Array:
    """Frames between two, by spherical interpolation of the nearest of four equivalent ones (Bayer 2012).

    A fibre has no sign: frames that differ by half turns about their own axes say the same. Of the four such
    frames for ``one`` the nearest to ``two`` is taken.

    Parameters
    ----------
    one, two : ndarray, shape (n, 3, 3)
    share : ndarray, shape (n,)
        0 gives ``one`` (or its equivalent), 1 gives ``two``.
    """
    a, b = quaternions(one), quaternions(two)
    w, x, y, z = a.T
    turned = np.stack(
        [a, np.stack([-x, w, z, -y], 1), np.stack([-y, -z, w, x], 1), np.stack([-z, y, -x, w], 1)], axis=1
    )
    dots = np.einsum("nkc,nc->nk", turned, b)
    best = np.abs(dots).argmax(axis=1)
    rows = np.arange(len(a))
    dot = dots[rows, best]
    start = turned[rows, best] * np.where(dot < 0, -1.0, 1.0)[:, None]
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-8
    sine = np.where(near, 1.0, sine)
    first = np.where(near, 1 - share, np.sin((1 - share) * angle) / sine)
    second = np.where(near, share, np.sin(share * angle) / sine)
    q = first[:, None] * start + second[:, None] * b
    return matrices(q / np.linalg.norm(q, axis=1, keepdims=True))
