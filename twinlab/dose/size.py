"""Size-specific dose estimate: CTDIvol made to fit the patient's size, slice by slice."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.scanner import Protocol, trajectory
from twinlab.schema import check, label, refuse

#: Coefficients a, b of ``f = a exp(-b Dw)``, Dw in cm, by phantom diameter (AAPM Report 204, figure legends).
SSDE = {16: (1.874799, 0.03871313), 32: (3.704369, 0.03671937)}


def ssde_factor(dw_mm: ArrayLike, *, phantom_cm: int, region: str = "body") -> NDArray[np.float64]:
    """SSDE over CTDIvol for a water-equivalent diameter.

    Parameters
    ----------
    dw_mm : array_like
        Water-equivalent diameter, mm, as from :func:`twinlab.phantom.water_equivalent_diameter`.
    phantom_cm : 16 or 32
        Phantom that the CTDIvol refers to.
    region : "body"
        The factors are for the trunk. Those of the head (AAPM Report 293) are not here.

    Returns
    -------
    ndarray of the shape given, 1

    Raises
    ------
    InputError
        Another phantom or region, or a diameter that is not positive.

    References
    ----------
    AAPM Report 204 (2011), with the water-equivalent diameter of Report 220 (2014).

    Examples
    --------
    >>> round(float(ssde_factor(320, phantom_cm=32)), 3)
    1.144
    """
    if phantom_cm not in SSDE:
        refuse("ssde_factor: phantom_cm", "16 or 32", phantom_cm)
    if region != "body":
        refuse(
            "ssde_factor: region",
            "body (the head's coefficients, AAPM Report 293, are not here)",
            repr(region),
        )
    dw = np.asarray(dw_mm, float)
    if not ((dw > 0) & np.isfinite(dw)).all():
        refuse("ssde_factor: dw_mm", "positive diameters", dw_mm)
    a, b = SSDE[phantom_cm]
    return a * np.exp(-b * dw / 10.0)


def ctdi_vol_of_slices(
    protocol: Protocol,
    ctdi_vol_mgy: float,
    *,
    z_mm: ArrayLike,
    z_range_mm: tuple[float, float],
    relative_mas: ArrayLike | None = None,
) -> xr.DataArray:
    """CTDIvol of each slice under a modulated tube current.

    ``CTDIvol(z) = CTDIvol * mean of relative_mas over the views whose beam covers z``; NaN where none does.

    Parameters
    ----------
    protocol : Protocol
    ctdi_vol_mgy : float
        Of the scan, at the protocol's mean mAs.
    z_mm : array_like
        Slice positions.
    z_range_mm : (float, float)
        Imaged range, as of the scan.
    relative_mas : (view,) array, optional
        mAs of the views over the mean, as given to :func:`twinlab.dose.simulate`.

    Returns
    -------
    DataArray ``ctdi_vol``, dims (z), mGy

    Raises
    ------
    InputError
        A negative CTDIvol, or values of ``relative_mas`` that do not fit the views of the trajectory.
    """
    if not ctdi_vol_mgy >= 0:
        refuse("ctdi_vol_of_slices: ctdi_vol_mgy", "0 or more", ctdi_vol_mgy)
    path = trajectory(protocol, z_range_mm=z_range_mm)
    n = path.sizes["view"]
    mas = np.ones(n) if relative_mas is None else np.asarray(relative_mas, float)
    if mas.shape != (n,) or not (mas >= 0).all() or not mas.mean() > 0:
        refuse("ctdi_vol_of_slices: relative_mas", f"{n} values of 0 or more, one a view", mas.shape)
    order = np.argsort(path["source_z"].values, kind="stable")
    at = path["source_z"].values[order]
    total = np.concatenate([[0.0], np.cumsum((mas / mas.mean())[order])])
    z = np.atleast_1d(np.asarray(z_mm, float))
    half = 0.5 * protocol.collimation_mm
    low, high = np.searchsorted(at, z - half, "left"), np.searchsorted(at, z + half, "right")
    with np.errstate(invalid="ignore", divide="ignore"):
        values = ctdi_vol_mgy * (total[high] - total[low]) / (high - low)
    return label("ctdi_vol", values, {"z": z}, phantom_cm=int(protocol.ctdi_phantom_cm))


def ssde(
    dw: xr.DataArray,
    *,
    ctdi_vol_mgy: ArrayLike | xr.DataArray,
    phantom_cm: int,
    z_range_mm: tuple[float, float] | None = None,
    region: str = "body",
) -> xr.Dataset:
    """Size-specific dose estimate of each slice and its mean over the scan.

    ``SSDE(z) = f(Dw(z)) CTDIvol(z)``. [AAPM220]_

    Parameters
    ----------
    dw : DataArray, dims (z), mm
        As from :func:`twinlab.phantom.water_equivalent_diameter`.
    ctdi_vol_mgy : float or (z,) array or DataArray
        CTDIvol of the scan, or of each slice (:func:`ctdi_vol_of_slices`, or mA of the image headers).
    phantom_cm : 16 or 32
        Phantom of the CTDIvol.
    z_range_mm : (float, float), optional
        Slices of the scan; all by default.
    region : "body"
        As in :func:`ssde_factor`.

    Returns
    -------
    Dataset
        By slice ``ssde``, ``ctdi_vol`` (mGy), ``size_factor``, ``water_equivalent_diameter``; means over the
        slices of the scan ``ssde_mean`` and ``ctdi_vol_mean``.

    Raises
    ------
    InputError
        Another phantom or region, no slice in the range, CTDIvol that does not fit the slices or is negative.

    References
    ----------
    .. [AAPM220] AAPM Report 220 (2014), sections 3 and 4; Report 204 (2011).
    """
    check(dw, "water_equivalent_diameter", where="ssde")
    z = dw["z"].values
    low, high = z_range_mm if z_range_mm is not None else (z[0], z[-1])
    keep = (z >= low) & (z <= high) & (dw.values > 0)
    if not keep.any():
        refuse("ssde: z_range_mm", f"slices of the body within {z[0]:g} to {z[-1]:g} mm", z_range_mm)
    given = np.asarray(ctdi_vol_mgy, float)
    if given.shape not in ((), z.shape) or (given[np.isfinite(given)] < 0).any():
        refuse("ssde: ctdi_vol_mgy", f"0 or more, one value or {z.size}, one a slice", given.shape)
    index = np.where(keep, np.broadcast_to(given, z.shape), np.nan)
    factor = np.full(z.shape, np.nan)
    factor[keep] = ssde_factor(dw.values[keep], phantom_cm=phantom_cm, region=region)
    coords = {"z": z}
    used = np.isfinite(index)
    if not used.any():
        refuse("ssde: ctdi_vol_mgy", "a value for a slice of the scan", "none")
    return xr.Dataset(
        {
            "ssde": label("ssde", factor * index, coords),
            "ctdi_vol": label("ctdi_vol", index, coords),
            "size_factor": label("size_factor", factor, coords),
            "water_equivalent_diameter": label("water_equivalent_diameter", dw.values, coords),
            "ssde_mean": label("ssde_mean", float((factor * index)[used].mean())),
            "ctdi_vol_mean": label("ctdi_vol_mean", float(index[used].mean())),
        },
        attrs={
            "phantom_cm": int(phantom_cm),
            "edition": "AAPM Reports 204 (2011) and 220 (2014)",
            "accuracy": "20 % of the mean dose in the middle of the scan (Report 204)",
        },
    )
