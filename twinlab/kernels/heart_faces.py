"""Quadratic triangles: pressure forces, the volume they enclose, and the exact tangent.

A quadratic triangle makes the enclosed volume a polynomial of its six nodes, ``sum G[abc] y_a . (y_b x y_c) / 3``
with one table ``G`` for all triangles (:func:`twinlab.cardiac.mechanics.quadrature.face_tables`), so that
nothing is integrated here.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def faces(here, centre, facet, table, tangent, force, block):
    """Integral of shape function times outward normal over each triangle, and its derivative.

    Parameters
    ----------
    here : float array (node, 3)
    centre : float array (3,)
        Places are taken from here (the middle of the rim of an open cavity).
    facet : int array (facet, 6)
        Corners, then the middles of the edges 01, 12, 20.
    table : float array (6, 6, 6)
        Antisymmetric in its last two axes.
    tangent : bool
    force : result (facet, 18)
    block : result (facet, 18, 18)

    Returns
    -------
    float
        Volume under the triangles as seen from ``centre``, positive where normals point away from it.
    """
    y = np.empty((6, 3))
    volume = 0.0
    for e in range(facet.shape[0]):
        for a in range(6):
            for i in range(3):
                y[a, i] = here[facet[e, a], i] - centre[i]
        for a in range(6):
            g0 = g1 = g2 = 0.0
            for b in range(6):
                v0 = v1 = v2 = 0.0
                for c in range(6):
                    t = table[a, b, c]
                    v0 += t * y[c, 0]
                    v1 += t * y[c, 1]
                    v2 += t * y[c, 2]
                g0 += y[b, 1] * v2 - y[b, 2] * v1
                g1 += y[b, 2] * v0 - y[b, 0] * v2
                g2 += y[b, 0] * v1 - y[b, 1] * v0
                if tangent:
                    cell = block[e, 3 * a : 3 * a + 3, 3 * b : 3 * b + 3]
                    cell[0, 0] = cell[1, 1] = cell[2, 2] = 0.0
                    cell[0, 1], cell[0, 2] = 2.0 * v2, -2.0 * v1
                    cell[1, 0], cell[1, 2] = -2.0 * v2, 2.0 * v0
                    cell[2, 0], cell[2, 1] = 2.0 * v1, -2.0 * v0
            force[e, 3 * a], force[e, 3 * a + 1], force[e, 3 * a + 2] = g0, g1, g2
            volume += (y[a, 0] * g0 + y[a, 1] * g1 + y[a, 2] * g2) / 3.0
    return volume
