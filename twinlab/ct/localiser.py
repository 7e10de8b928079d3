"""Localiser (scout, topogram): the tube stands still while the table moves."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from twinlab.ct.paths import line_integrals
from twinlab.ct.scan import acquire
from twinlab.phantom.recipes import Recipe
from twinlab.scanner import Protocol, Sampling
from twinlab.schema import label, refuse


def scout(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    view_angle_deg: float = 0.0,
    step_mm: float = 1.0,
    mas: float = 0.1,
    seed: int,
    noise: bool = True,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
) -> xr.Dataset:
    """Localiser of a phantom: one line an exposure, the table going on by one step.

    Each line is the mean over the middle rows of the detector that a step spans at the isocentre.

    Parameters
    ----------
    phantom : Dataset or Recipe
    protocol : Protocol
        Its tube voltage, filters, bowtie and detector are used; collimation and exposure are the scout's own.
    z_range_mm : (float, float)
    view_angle_deg : float
        0: tube in front (anterior-posterior), 90: on the patient's left, 180: behind.
    step_mm : float
        Table travel between lines.
    mas : float
        Exposure of one line.
    seed : int
    noise : bool
    isocentre_mm : (x, y)

    Returns
    -------
    Dataset
        ``scout`` (z, channel): water-corrected line integrals; coordinates ``z`` [mm], ``fan_angle`` [rad] or
        ``u`` [mm] (channel), and ``lateral`` (channel) [mm], the distance from the axis at the isocentre,
        growing as x at angle 0. Attrs ``view_angle_deg``, ``kv``, ``mas``.

    Raises
    ------
    InputError
        An empty range, a step or exposure that is not positive, or see :func:`twinlab.ct.line_integrals`.
    """
    low, high = (float(z) for z in z_range_mm)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        refuse("scout: z_range_mm", "(lower, upper) in mm", z_range_mm)
    if not step_mm > 0 or not mas > 0:
        refuse("scout", "step_mm and mas above 0", (step_mm, mas))
    scanner = protocol.scanner
    rows = min(scanner.detector.n_rows, max(1, round(step_mm / scanner.row_pitch_isocentre_mm)))
    narrow = protocol.replace(
        mode="axial", pitch=1.0, gantry_tilt_deg=0.0, flying_focal_spot="off", second_kv=None,
        sampling=Sampling(), collimation_mm=rows * scanner.row_pitch_isocentre_mm,
    )  # fmt: skip
    z = low + step_mm * (np.arange(math.ceil((high - low) / step_mm - 1e-9)) + 0.5)
    table = xr.Dataset(
        {
            "view_angle": label("view_angle", np.full(z.size, math.radians(view_angle_deg))),
            "source_z": label("source_z", z),
        },
        attrs={
            "isocentre_x_mm": float(isocentre_mm[0]),
            "isocentre_y_mm": float(isocentre_mm[1]),
            "mode": "axial",
            "pitch": 1.0,
            "feed_mm": float(step_mm),
            "views_per_rotation": scanner.views_per_rotation,
        },
    )
    paths = line_integrals(phantom, narrow, table)
    lines = acquire(paths, narrow, seed=seed, noise=noise, mas=mas * scanner.views_per_rotation)
    name = "u" if "u" in lines.coords else "fan_angle"
    fan = scanner.fan_angles_rad()
    coords = {
        "z": z,
        name: ("channel", lines[name].to_numpy()),
        "lateral": ("channel", scanner.source_to_isocentre_mm * np.tan(fan), {"units": "mm"}),
    }
    values = lines["projection"].mean("row").to_numpy()
    told = {"view_angle_deg": float(view_angle_deg), "kv": float(protocol.kv), "mas": float(mas)}
    kept = {key: lines.attrs[key] for key in ("mu_water_per_mm", "scanner", "phantom", "seed")}
    return xr.Dataset({"scout": label("scout", values, coords)}, attrs={**kept, **told})
