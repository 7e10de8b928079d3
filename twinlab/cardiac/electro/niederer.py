"""The N-version benchmark of cardiac propagation: a slab of 20 x 7 x 3 mm, one corner stimulated.

References
----------
Niederer S A et al. 2011, Phil. Trans. R. Soc. A 369, 4331 (problem: section 2 and tables 1 to 3; points: figure 1).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.interpolate import RegularGridInterpolator

from twinlab.cardiac.electro.loops import Mass, Solver
from twinlab.cardiac.electro.stepping import run
from twinlab.cardiac.electro.stimuli import box_stimulus
from twinlab.cardiac.electro.tissue import NIEDERER, excitable, slab
from twinlab.schema import label

SIZE_MM = (20.0, 7.0, 3.0)
# corners of the slab, then its centre, x y z in mm; P1 is stimulated, P8 lies opposite
POINTS_MM = {
    "P1": (0.0, 0.0, 0.0),
    "P2": (0.0, 0.0, 3.0),
    "P3": (20.0, 0.0, 0.0),
    "P4": (20.0, 0.0, 3.0),
    "P5": (0.0, 7.0, 0.0),
    "P6": (0.0, 7.0, 3.0),
    "P7": (20.0, 7.0, 0.0),
    "P8": (20.0, 7.0, 3.0),
    "P9": (10.0, 3.5, 1.5),
}
STIMULUS_UA_PER_MM3 = 50.0
CHI_PER_MM, CM_UF_PER_MM2 = 140.0, 0.01


def n_version(
    h_mm: float = 0.2,
    dt_ms: float = 0.01,
    *,
    mass: Mass = "consistent",
    solver: Solver = "auto",
    end_ms: float = 200.0,
    until_active: bool = True,
    sleep_mv: float = 1e-3,
    progress: bool = False,
) -> xr.Dataset:
    """Activation times of the N-version benchmark.

    Epicardial cells of ten Tusscher and Panfilov 2006 from the benchmark's initial state, conductivities 0.17,
    0.019 (intracellular) and 0.62, 0.24 S/m joined in harmony, 50 uA/mm3 for 2 ms in a cube of 1.5 mm.

    Parameters
    ----------
    h_mm : float
        Grid step: 0.5, 0.2 and 0.1 in the paper.
    dt_ms : float
        Time step: 0.05, 0.01 and 0.005 in the paper.
    mass, solver, sleep_mv
        See :func:`twinlab.cardiac.electro.monodomain`.
    end_ms : float
        Latest end; the run ends when all is active, unless ``until_active`` is False.
    progress : bool
        Say the expected time, then show a bar.

    Returns
    -------
    Dataset
        ``site_activation_time`` (site) of P1 to P9 and ``line_activation_time`` (distance) along the diagonal from
        P1 to P8, ms; NaN where not reached.

    References
    ----------
    Niederer S A et al. 2011, Phil. Trans. R. Soc. A 369, 4331.
    """
    muscle = excitable(
        slab(SIZE_MM, h_mm),
        conductivity=NIEDERER,
        chi_per_mm=CHI_PER_MM,
        cm_uf_per_mm2=CM_UF_PER_MM2,
        where="n_version",
    )
    amplitude = STIMULUS_UA_PER_MM3 / (CHI_PER_MM * CM_UF_PER_MM2)
    corner = box_stimulus((-h_mm,) * 3, (1.5,) * 3, duration_ms=2.0, amplitude_mv_per_ms=amplitude)
    state, facts = run(
        muscle,
        stimuli=[corner],
        cell="tp06_epi",
        dt_ms=dt_ms,
        end_ms=end_ms,
        mass=mass,
        solver=solver,
        sleep_mv=sleep_mv,
        until_active=until_active,
        progress=progress,
        where="n_version",
    )
    times = state.marks.first_up.reshape(tuple(s + 1 for s in muscle.weight.shape))
    axes = tuple(np.linspace(0.0, s, n) for s, n in zip(SIZE_MM[::-1], times.shape, strict=True))
    at = RegularGridInterpolator(axes, times)
    along = np.linspace(0.0, 1.0, 101)
    diagonal = at(np.outer(along, SIZE_MM[::-1]))
    return xr.Dataset(
        {
            "site_activation_time": label(
                "site_activation_time", at([p[::-1] for p in POINTS_MM.values()]), {"site": list(POINTS_MM)}
            ),
            "line_activation_time": label(
                "line_activation_time", diagonal, {"distance": along * float(np.linalg.norm(SIZE_MM))}
            ),
        },
        attrs=facts,
    )


def converged(coarse: float, fine: float, *, ratio: float = 2.0, order: float = 2.0) -> float:
    """Value for a vanishing step from two steps (Richardson), the coarser ``ratio`` times the finer.

    True only where both steps show that order: P8 of the N-version slab at 0.2 and 0.1 mm does not.

    Examples
    --------
    >>> converged(5.0, 2.0)
    1.0
    """
    return fine + (fine - coarse) / (ratio**order - 1.0)
