"""Electrodes in an infinite, even volume conductor: weights of the nodes' potentials, by the lead field."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from twinlab.cardiac.electro.tissue import Tissue, fibre_tensor
from twinlab.kernels import heart_stencil
from twinlab.schema import refuse

INTRACELLULAR_S_PER_M = (0.17, 0.019)  # along and across the fibre
TORSO_S_PER_M = 0.2


def electrode_weights(
    muscle: Tissue,
    electrodes_mm: Mapping[str, tuple[float, float, float]],
    *,
    intracellular_s_per_m: tuple[float, float] = INTRACELLULAR_S_PER_M,
    torso_s_per_m: float = TORSO_S_PER_M,
) -> np.ndarray:
    """Weights (electrode, node) so that ``weights @ V`` is the potential at each electrode, mV.

    ``phi = -1 / (4 pi sigma_b) * integral of grad V . sigma_i grad(1 / r)``: with trilinear elements the weights are
    the stiffness matrix of ``sigma_i`` times ``1 / r`` at the nodes.

    Raises
    ------
    InputError
        An electrode lies in or within a voxel of the muscle.

    References
    ----------
    Gima K, Rudy Y 2002, Circ. Res. 90, 889 (equation of the pseudo-electrocardiogram).
    Plonsey R, Barr R C 2007, Bioelectricity, 3rd ed., section 8.6 (lead field of a distributed source).
    """
    n = len(muscle.nodes)
    out = np.zeros((len(electrodes_mm), n))
    if not len(out):
        return out
    inside = muscle.weight > 0
    tensor = fibre_tensor(muscle.voxels, inside, *intracellular_s_per_m, None, where="electrodes")
    start, lead, _, stiffness = heart_stencil.assemble(
        muscle.number, muscle.nodes, tensor / np.float32(muscle.h_mm**2), muscle.weight, 1.0
    )
    position = muscle.position_mm()
    margin = slice(heart_stencil.MARGIN, -heart_stencil.MARGIN)
    for k, (name, place) in enumerate(electrodes_mm.items()):
        r = np.sqrt(((position - np.asarray(place, dtype=float)) ** 2).sum(axis=1))
        if not r.min() > muscle.h_mm:
            refuse(f"electrode {name}", "a position (x, y, z in mm) outside the muscle", place)
        x = np.zeros(n + 2 * heart_stencil.MARGIN)
        x[margin] = 1.0 / r
        out[k] = heart_stencil.multiply(start, lead, stiffness, x)[margin]
    return out * (-(muscle.h_mm**3) / (4.0 * np.pi * torso_s_per_m))
