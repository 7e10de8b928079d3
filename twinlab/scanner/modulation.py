"""Tube-current modulation: the current of every view, from attenuation, a slice list, or to spare an organ.

The same trajectory with its ``tube_current`` drives the image and the dose (``trajectory=`` of both).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import rotate

from twinlab.physics.attenuation import mass_attenuation
from twinlab.scanner.exposure import WATER_PER_MM
from twinlab.scanner.models import Protocol
from twinlab.schema import check, label, refuse, spacing

ENERGY_KEV = 70.0  # effective energy behind a patient at 120 kV
CENTRAL_MM = 100.0  # of the shadow, about its middle: the rays that decide the noise
_COARSE_MM = 8.0

Array = NDArray[np.float64]


def water_width(phantom: xr.Dataset, *, n_angle: int = 24) -> xr.DataArray:
    """Water-equivalent width of a patient seen from all sides.

    Parallel beams through voxels of about 8 mm; of each shadow the mean of the 100 mm about the middle of the
    body counts, which is what the noise in the middle of the image depends on.

    Parameters
    ----------
    phantom : Dataset
        ``material``, ``density`` (z, y, x), ``material_name``.
    n_angle : int
        Directions over half a turn.

    Returns
    -------
    DataArray ``water_width``, dims (z, angle), mm
        ``angle``: view angle, rad, 0 to pi.

    Raises
    ------
    InputError
        Not a phantom, or fewer than 2 directions.
    """
    check(phantom, "material", "density", "material_name", where="water_width")
    if n_angle < 2:
        refuse("water_width: n_angle", "2 or more", n_angle)
    step_y, step_x = (spacing(phantom[axis], where="water_width") for axis in ("y", "x"))
    relative = _water_equivalent(phantom)
    thin_y, thin_x = max(round(_COARSE_MM / step_y), 1), max(round(_COARSE_MM / step_x), 1)
    coarse = np.stack([_binned(part, thin_y, thin_x) for part in relative])
    size_y, size_x = step_y * thin_y, step_x * thin_x
    square = _even_pixels(coarse, size_y / size_x)
    angle = np.arange(n_angle) * np.pi / n_angle
    width = np.empty((square.shape[0], n_angle))
    for i, turned in enumerate(angle):
        # view angle 0 looks along y; the tube moves towards +x, so the image turns with it
        seen = rotate(square, np.rad2deg(turned), axes=(1, 2), order=1, reshape=True)
        width[:, i] = _central(seen.sum(axis=1) * size_x, round(CENTRAL_MM / size_x))
    coords = {"z": phantom["z"].to_numpy(), "angle": angle}
    return label("water_width", np.maximum(width, 0.0), coords)


def _water_equivalent(phantom: xr.Dataset) -> list[Array]:
    """Attenuation relative to water of every slice, made one at a time."""
    names = [str(name) for name in phantom["material_name"].to_numpy()]
    per_gram = mass_attenuation([*names, "water"], np.array([ENERGY_KEV]))[:, 0]
    factor = per_gram[:-1] / per_gram[-1]
    pairs = zip(phantom["material"].to_numpy(), phantom["density"].to_numpy(), strict=True)
    return [factor[material] * density for material, density in pairs]


def _binned(plane: Array, ny: int, nx: int) -> Array:
    y, x = (plane.shape[0] // ny) * ny, (plane.shape[1] // nx) * nx
    return plane[:y, :x].reshape(y // ny, ny, x // nx, nx).mean(axis=(1, 3))


def _even_pixels(volume: Array, ratio: float) -> Array:
    """Rows as far apart as columns are, by interpolation; nothing to do for square pixels."""
    if abs(ratio - 1.0) < 0.01:
        return volume
    n = volume.shape[1]
    places = (np.arange(round(n * ratio)) + 0.5) / ratio - 0.5
    low = np.clip(np.floor(places).astype(int), 0, n - 2)
    part = np.clip(places - low, 0.0, 1.0)[None, :, None]
    return (1 - part) * volume[:, low] + part * volume[:, low + 1]


def _central(shadow: Array, n: int) -> Array:
    """Mean of ``n`` bins about the centre of gravity of each shadow (z, bin)."""
    bins = np.arange(shadow.shape[1])
    middle = (shadow * bins).sum(axis=1) / np.maximum(shadow.sum(axis=1), 1e-9)
    near = np.abs(bins - middle[:, None]) <= max(n, 1) / 2
    return (shadow * near).sum(axis=1) / np.maximum(near.sum(axis=1), 1)


def modulated(
    trajectory: xr.Dataset,
    protocol: Protocol,
    *,
    width: xr.DataArray,
    angular: float = 0.5,
    longitudinal: float = 0.5,
    min_ma: float = 10.0,
    max_ma: float | None = None,
) -> xr.Dataset:
    """Trajectory with the tube current of every view, shaped by the patient's attenuation.

    The current follows ``exp(mu (longitudinal * (w(z) - <w>) + angular * (w(z, angle) - w(z))))``, w being the
    water-equivalent width, with mu of water at 70 keV: strength 1 evens out the quanta behind the patient, 0.5,
    the square root of the attenuation, gives the least noise for a mAs [1]_. It is cut at the tube's limits and
    scaled so that the mean over the scan is the protocol's current.

    Parameters
    ----------
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    protocol : Protocol
        With a tube current, the mean (:func:`twinlab.scanner.for_patient` finds it for a patient).
    width : DataArray
        From :func:`water_width`.
    angular, longitudinal : float
        Strengths, 0 to 1.
    min_ma, max_ma : float
        Limits of the current; by default up to that of the tube.

    Returns
    -------
    Dataset
        With ``tube_current`` (view), mA.

    Raises
    ------
    InputError
        A strength outside 0 to 1, or limits that the mean current does not lie between.

    References
    ----------
    .. [1] Gies M et al. (1999) Dose reduction in CT by anatomically adapted tube current modulation I.
       Med Phys 26:2235.
    """
    check(trajectory, "view_angle", "source_z", where="modulated")
    check(width, "water_width", where="modulated")
    if not (0.0 <= angular <= 1.0 and 0.0 <= longitudinal <= 1.0):
        refuse("modulated", "strengths of 0 to 1", (angular, longitudinal))
    mean_ma = protocol.mas / protocol.rotation_time_s
    top = protocol.scanner.tube.max_tube_current_ma if max_ma is None else float(max_ma)
    if not 0.0 < min_ma <= mean_ma <= top:
        refuse("modulated", f"limits around the mean current of {mean_ma:g} mA", (min_ma, top))
    seen = _seen_width(trajectory, width)
    level = width.mean("angle")
    along = np.interp(trajectory["source_z"].to_numpy(), level["z"].to_numpy(), level.to_numpy())
    exponent = WATER_PER_MM * (longitudinal * (along - along.mean()) + angular * (seen - along))
    current = _scaled(np.exp(exponent - exponent.max()), mean_ma, min_ma, top)
    return trajectory.assign(tube_current=label("tube_current", current))


def _seen_width(trajectory: xr.Dataset, width: xr.DataArray) -> Array:
    """Width that each view sees: linear in z and angle, periodic over half a turn, constant beyond the ends."""
    table = width.to_numpy()
    table = np.concatenate([table, table[:, :1]], axis=1)
    n = table.shape[1] - 1
    turn = np.mod(trajectory["view_angle"].to_numpy(), np.pi) / np.pi * n
    z = np.interp(trajectory["source_z"].to_numpy(), width["z"].to_numpy(), np.arange(width.sizes["z"]))
    i, j = np.minimum(z.astype(int), max(table.shape[0] - 2, 0)), np.minimum(turn.astype(int), n - 1)
    k = np.minimum(i + 1, table.shape[0] - 1)
    p, q = z - i, turn - j
    low = (1 - q) * table[i, j] + q * table[i, j + 1]
    high = (1 - q) * table[k, j] + q * table[k, j + 1]
    return np.asarray((1 - p) * low + p * high, float)


def _scaled(shape: Array, mean: float, low: float, high: float) -> Array:
    """``clip(factor * shape, low, high)`` with the mean asked for, by bisection of the factor's logarithm."""
    below, above = np.log(low / shape.max()), np.log(high / shape.min())
    for _ in range(80):
        middle = 0.5 * (below + above)
        if np.clip(np.exp(middle) * shape, low, high).mean() < mean:
            below = middle
        else:
            above = middle
    return np.asarray(np.clip(np.exp(above) * shape, low, high), float)


def current_of_slices(trajectory: xr.Dataset, *, z_mm: ArrayLike, tube_current_ma: ArrayLike) -> xr.Dataset:
    """Trajectory with a current given slice by slice, as DICOM headers list it.

    Linear between slices, constant beyond them. The mean over the views is in general not the protocol's
    current; :func:`twinlab.dose.simulate` takes the mAs from the trajectory.

    Parameters
    ----------
    trajectory : Dataset
    z_mm, tube_current_ma : array_like (n,)
        Slice positions in any order, and their currents.

    Raises
    ------
    InputError
        Lists of different length, or a current that is not above 0.
    """
    check(trajectory, "source_z", where="current_of_slices")
    z, current = np.asarray(z_mm, float), np.asarray(tube_current_ma, float)
    if z.ndim != 1 or z.shape != current.shape or z.size == 0:
        refuse("current_of_slices", "one current per slice", (z.shape, current.shape))
    if not (np.isfinite(current) & (current > 0)).all() or not np.isfinite(z).all():
        refuse("current_of_slices", "currents above 0 mA", f"{current.min():g}")
    order = np.argsort(z)
    values = np.interp(trajectory["source_z"].to_numpy(), z[order], current[order])
    return trajectory.assign(tube_current=label("tube_current", values))


def organ_based(
    trajectory: xr.Dataset,
    protocol: Protocol,
    *,
    arc_deg: float = 120.0,
    level: float = 0.25,
    centre_deg: float = 0.0,
    z_range_mm: tuple[float, float] | None = None,
    compensate: bool = True,
    max_ma: float | None = None,
) -> xr.Dataset:
    """Trajectory whose current is lower while the tube passes an arc, and higher elsewhere.

    Comes on top of any ``tube_current`` that the trajectory has. The defaults are about those of the products
    that spare breast, thyroid and lens: a quarter of the current over the anterior 120 degrees, the mean of
    the scan kept by 1.375 of it elsewhere [1]_, [2]_ (factors second-hand). Other products lower the anterior
    current without raising the rest [3]_: ``compensate=False``, which costs noise.

    Parameters
    ----------
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`, :func:`modulated` or :func:`current_of_slices`.
    protocol : Protocol
        With a tube current, which counts where the trajectory has none.
    arc_deg : float
        Full width of the arc.
    level : float
        Current in the arc relative to what it was.
    centre_deg : float
        View angle of its middle; 0: the tube in front of the patient.
    z_range_mm : (float, float), optional
        Table positions between which this is done; by default all.
    compensate : bool
        Keep the mAs of these views by more current outside the arc.
    max_ma : float, optional
        By default that of the tube.

    Returns
    -------
    Dataset
        With ``tube_current`` (view), mA.

    Raises
    ------
    InputError
        An arc or level outside its range, no view in the range, or more current than the tube gives.

    References
    ----------
    .. [1] Vollmar SV, Kalender WA (2008) Reduction of dose to the female breast in thoracic CT. Eur Radiol
       18:1674.
    .. [2] Duan X et al. (2011) Dose reduction to anterior surfaces with organ-based tube-current modulation.
       AJR 197:689.
    .. [3] Dixon MT et al. (2016) Evaluating the benefit of Organ Dose Modulation. J Appl Clin Med Phys 17.
    """
    check(trajectory, "view_angle", "source_z", where="organ_based")
    if not (0.0 < arc_deg < 360.0 and 0.0 <= level <= 1.0):
        refuse("organ_based", "an arc within 0 to 360 degrees and a level of 0 to 1", (arc_deg, level))
    z = trajectory["source_z"].to_numpy()
    low, high = (-np.inf, np.inf) if z_range_mm is None else z_range_mm
    zone = (z >= low) & (z <= high)
    away = np.mod(np.rad2deg(trajectory["view_angle"].to_numpy()) - centre_deg + 180.0, 360.0) - 180.0
    near = np.abs(away) <= 0.5 * arc_deg + 1e-6  # views on the edge, whatever the rounding
    inside, outside = zone & near, zone & ~near
    if not (inside.any() and outside.any()):
        refuse("organ_based: z_range_mm", "table positions with views in the arc and outside", z_range_mm)
    if "tube_current" in trajectory:
        current = trajectory["tube_current"].to_numpy().astype(float)
    else:
        current = np.full(z.size, protocol.mas / protocol.rotation_time_s)
    taken = float(current[inside].sum()) * (1.0 - level)
    shaped = current.copy()
    shaped[inside] *= level
    if compensate:
        shaped[outside] *= 1.0 + taken / float(current[outside].sum())
    top = protocol.scanner.tube.max_tube_current_ma if max_ma is None else float(max_ma)
    if shaped.max() > top:
        refuse("organ_based", f"at most {top:g} mA outside the arc", f"{shaped.max():.4g} mA")
    return trajectory.assign(tube_current=label("tube_current", shaped))


def relative_mas(trajectory: xr.Dataset) -> Array:
    """mAs of the views relative to their mean.

    Raises
    ------
    InputError
        The trajectory has no ``tube_current``.
    """
    check(trajectory, "tube_current", where="relative_mas")
    current = trajectory["tube_current"].to_numpy().astype(float)
    return np.asarray(current / current.mean(), float)
