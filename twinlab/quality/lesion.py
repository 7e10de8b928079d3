"""A spherical lesion seen by a scanner: exact chords, regions of interest, templates carried to the detector."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import correct_rays, water_correction
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.recon import adjoint, reconstruct
from twinlab.physics.attenuation import mass_attenuation
from twinlab.quality.dprime import npwe_template
from twinlab.scanner import Protocol
from twinlab.schema import label, refuse


class Chords(NamedTuple):
    """Rays that a sphere meets, and their path in it."""

    view: NDArray[np.intp]
    row: NDArray[np.intp]
    channel: NDArray[np.intp]
    length_mm: NDArray[np.float64]


def sphere_chords(geometry: xr.Dataset, *, centre_mm: tuple[float, float, float], radius_mm: float) -> Chords:
    """Exact path of every ray of a scan through a sphere.

    Parameters
    ----------
    geometry : Dataset
        ``view_angle``, ``source_z`` (view), coordinates ``fan_angle`` or ``u`` (channel) and ``row``, and the geometry
        attributes of a scan, as from :func:`twinlab.ct.line_integrals`.
    centre_mm : (x, y, z)
    radius_mm : float

    Returns
    -------
    Chords
        Only rays that meet the sphere.

    Raises
    ------
    InputError
        The radius is not positive, or the sphere reaches the focal spot's circle.
    """
    attrs = geometry.attrs
    distance, detector = attrs["source_to_isocentre_mm"], attrs["source_to_detector_mm"]
    if radius_mm <= 0:
        refuse("sphere_chords", "a positive radius", radius_mm)
    flat = "u" in geometry.coords
    fan = (
        np.arctan(np.asarray(geometry["u"], float) / detector)
        if flat
        else np.asarray(geometry["fan_angle"], float)
    )
    rows = np.asarray(geometry["row"], float)
    angle = np.asarray(geometry["view_angle"], float)
    x = centre_mm[0] - attrs["isocentre_x_mm"] - distance * np.sin(angle)
    y = centre_mm[1] - attrs["isocentre_y_mm"] + distance * np.cos(angle)
    z = centre_mm[2] - np.asarray(geometry["source_z"], float)
    depth = -x * np.sin(angle) + y * np.cos(angle)  # along the central ray
    aside = x * np.cos(angle) + y * np.sin(angle)
    in_plane = np.hypot(depth, aside)
    if (in_plane <= 2 * radius_mm).any():
        refuse("sphere_chords", "a sphere well inside the gantry", f"centre {centre_mm}, radius {radius_mm}")
    gamma = np.arctan2(aside, depth)
    half = math.ceil(float(np.arcsin(radius_mm / in_plane.min())) / float(np.diff(fan).min())) + 1
    channel = np.searchsorted(fan, gamma)[:, None] + np.arange(-half, half + 1)[None, :]
    scale = detector / in_plane  # from the sphere to the detector, on the arc
    if flat:
        scale = scale / np.cos(gamma)
    row_step = float(np.diff(rows).min()) if rows.size > 1 else 1.0
    reach = math.ceil(radius_mm * float(scale.max()) * 1.1 / row_step) + 1
    row = np.searchsorted(rows, z * scale)[:, None] + np.arange(-reach, reach + 1)[None, :]
    valid = ((channel >= 0) & (channel < fan.size))[:, None, :] & ((row >= 0) & (row < rows.size))[:, :, None]
    channel_in, row_in = np.clip(channel, 0, fan.size - 1), np.clip(row, 0, rows.size - 1)
    v = rows[row_in][:, :, None]
    g = fan[channel_in][:, None, :]
    along = detector / np.cos(g) if flat else np.full_like(g, detector)
    norm = np.hypot(along, v)
    # Component of the centre along each ray; its distance from the ray follows by Pythagoras.
    on_ray = (
        (depth[:, None, None] * np.cos(g) + aside[:, None, None] * np.sin(g)) * along + z[:, None, None] * v
    ) / norm
    off2 = (in_plane**2 + z**2)[:, None, None] - on_ray**2
    chord2 = radius_mm**2 - off2
    hit = valid & (chord2 > 0)
    i, r, c = np.nonzero(hit)
    return Chords(i, row_in[i, r], channel_in[i, c], 2 * np.sqrt(chord2[hit]))


def roi_grid(
    centre_mm: tuple[float, float, float], *, size_mm: float, pixel_mm: float
) -> dict[str, NDArray[np.float64]]:
    """Axial region of interest of one slice, centred on a point.

    Returns
    -------
    dict with ``z`` (1,), ``y`` (n,), ``x`` (n,), voxel centres in mm; n odd, so that a pixel is at the centre.
    """
    half = max(1, round(size_mm / pixel_mm / 2))
    offset = np.arange(-half, half + 1) * pixel_mm
    x, y, z = centre_mm
    return {"z": np.array([z]), "y": y + offset, "x": x + offset}


def lesion_image(
    geometry: xr.Dataset,
    chords: Chords,
    *,
    grid: dict[str, NDArray[np.float64]],
    kernel: str,
    slice_thickness_mm: float,
) -> xr.DataArray:
    """Image of a sphere of +1 HU as this scanner and kernel show it, noise-free.

    Parameters
    ----------
    geometry : Dataset
        See :func:`sphere_chords`; attrs need ``mu_water_per_mm``.
    chords : Chords
    grid : dict
        From :func:`roi_grid`.
    kernel : str
    slice_thickness_mm : float

    Returns
    -------
    DataArray, dims (z, y, x), units HU per HU of contrast
    """
    shape = (geometry.sizes["view"], geometry.sizes["row"], geometry.sizes["channel"])
    values = np.zeros(shape, np.float32)
    values[chords.view, chords.row, chords.channel] = (
        chords.length_mm * geometry.attrs["mu_water_per_mm"] * 1e-3
    )
    scan = geometry.assign(projection=label("projection", values))
    # reconstruct() is affine: -1000 HU for empty projections
    settings: dict[str, Any] = {"kernel": kernel, "slice_thickness_mm": slice_thickness_mm, "device": "cpu"}
    return reconstruct(scan, grid=grid, **settings) + 1000.0  # rounding of one machine for all


def noise_probe(
    shape: tuple[int, ...], *, pixel_mm: float, distance_mm: float = 6.0, seed: int = 0
) -> NDArray[np.float32]:
    """Pixels of random sign on a grid so wide that their noise is hardly correlated.

    ``sum(adjoint(probe)^2 var(p)) / sum(probe^2)`` is then the mean variance of the region's pixels: one transpose
    instead of one a pixel; random signs take away what correlation is left, on average.

    Parameters
    ----------
    shape : (z, y, x) of the region
    pixel_mm : float
    distance_mm : float
        Between the pixels used.
    seed : int
    """
    step = max(1, round(distance_mm / pixel_mm))
    probe = np.zeros(shape, np.float32)
    part = probe[:, shape[1] // 2 % step :: step, shape[2] // 2 % step :: step]
    part[...] = np.random.default_rng(seed).choice([-1.0, 1.0], part.shape)
    return probe


def observer_rays(
    geometry: xr.Dataset,
    signal: xr.DataArray,
    *,
    kernel: str,
    slice_thickness_mm: float,
    eye: bool = True,
    **viewing: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The observer's template, and the pixels of its region, carried back to the detector.

    Parameters
    ----------
    geometry : Dataset
        As for :func:`lesion_image`.
    signal : DataArray, dims (z, y, x)
        From :func:`lesion_image`; its grid is the region.
    kernel, slice_thickness_mm
        As there.
    eye : bool
        NPWE with, NPW without.
    **viewing
        See :func:`twinlab.quality.eye_filter`.

    Returns
    -------
    template, probe : ndarray, shape (view, row, channel)
        ``sum(template^2 var(p))`` is the variance of the observer's answer, ``sum(probe^2 var(p))`` the mean
        variance of a pixel in HU2.
    """
    grid = {axis: signal[axis].values for axis in ("z", "y", "x")}
    template = np.asarray(npwe_template(signal, eye=eye, **viewing), np.float32)
    probe = noise_probe(signal.shape, pixel_mm=float(grid["x"][1] - grid["x"][0]))
    probe /= np.sqrt((probe**2).sum())
    kwargs: dict[str, Any] = {"grid": grid, "kernel": kernel, "slice_thickness_mm": slice_thickness_mm}
    return adjoint(template, geometry, **kwargs), adjoint(probe, geometry, **kwargs)


def projection_change(
    path: NDArray[np.float32],
    channel: NDArray[np.intp],
    paths: xr.Dataset,
    protocol: Protocol,
    *,
    chord_mm: NDArray[np.float64],
    energy_kev: NDArray[np.float64],
    mu_per_cm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Change of the water-corrected projections of some rays by a small object, noise-free.

    Parameters
    ----------
    path : ndarray (basis, ray), g/cm2
        Line integrals of the patient on these rays.
    channel : ndarray (ray,)
        Their detector channels.
    paths : Dataset
        From :func:`twinlab.ct.line_integrals`, for the attenuation of its basis.
    protocol : Protocol
    chord_mm : ndarray (ray,)
        Path in the object.
    energy_kev, mu_per_cm : ndarray (energy,)
        The object's attenuation minus that of what it replaces.

    Returns
    -------
    ndarray (ray,)
    """
    energy, spectrum = detected_spectrum(protocol, bin_width_kev=2.0)
    names = [str(name) for name in paths["mixed_material"].values]
    mu = paths["mixing"].values @ mass_attenuation(names, energy)
    extra = np.interp(energy, energy_kev, mu_per_cm)
    correction = water_correction(protocol)
    total = spectrum.sum(axis=1)
    change = np.empty(channel.size)
    for lo in range(0, channel.size, 20000):  # blocks that stay in the cache
        part = slice(lo, lo + 20000)
        c = channel[part]
        reaching = np.exp(-(path[:, part].T.astype(float) @ mu)) * spectrum[c]
        with_object = reaching * np.exp(-chord_mm[part, None] * 0.1 * extra[None, :])
        before, after = (-np.log(signal.sum(1) / total[c]) for signal in (reaching, with_object))
        before, after = (correct_rays(p, correction, channel=c) for p in (before, after))
        change[part] = after - before
    return change
