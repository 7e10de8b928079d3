"""A patient's CT made into a Phantom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from twinlab.phantom import dicom, nifti
from twinlab.phantom.body import body_mask, skin_shell, truncation
from twinlab.phantom.build import AIR_DENSITY_G_CM3, BODY, OUTSIDE, RESERVED_ORGANS, SKIN, assemble
from twinlab.phantom.hu import METAL_HU, CtScale, ct_scale
from twinlab.phantom.labels import Conversion
from twinlab.schema import check, refuse, spacing

TRUNCATION_WARNED = 0.01


def from_dicom(
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    legend: str | Path | Mapping[int, str] | None = None,
    kv: float | None = None,
    series_uid: str | None = None,
    repair: str = "none",
    ignore_tilt_tag: bool = False,
    name: str | None = None,
    source: str | None = None,
    scale: CtScale | None = None,
    metal_hu: float | None = METAL_HU,
    skin_mm: float = 2.0,
) -> xr.Dataset:
    """Phantom from a folder with one CT series (see :func:`~twinlab.phantom.dicom.read_series`).

    Parameters
    ----------
    folder : path
    labels : path, optional
        Label map (NIfTI or what SimpleITK reads) on the series' grid, stored in whatever axis order.
    legend, name, source, scale, metal_hu, skin_mm
        As in :func:`from_image`.
    kv : float, optional
        Tube voltage; by default what the files say.
    series_uid, repair, ignore_tilt_tag
        As in :func:`~twinlab.phantom.dicom.read_series`.

    Returns
    -------
    Dataset
        A Phantom.

    Raises
    ------
    InputError
        The series or the labels cannot be used, or the files do not tell the tube voltage.
    """
    hu = dicom.read_series(folder, series_uid=series_uid, repair=repair, ignore_tilt_tag=ignore_tilt_tag)
    kv = kv if kv is not None else hu.attrs["kv"]
    if not kv:
        refuse(f"from_dicom({folder})", "the tube voltage in the files or as kv=", "none")
    return from_image(
        hu,
        labels=None if labels is None else nifti.read_labels(labels, like=hu),
        legend=legend,
        kv=kv,
        name=name or Path(folder).name,
        source=source or f"DICOM series {hu.attrs['series_uid']}",
        scale=scale,
        metal_hu=metal_hu,
        skin_mm=skin_mm,
    )


def from_nifti(
    ct: str | Path,
    labels: str | Path | None = None,
    *,
    legend: str | Path | Mapping[int, str] | None = None,
    kv: float = 120.0,
    name: str | None = None,
    source: str | None = None,
    scale: CtScale | None = None,
    metal_hu: float | None = METAL_HU,
    skin_mm: float = 2.0,
) -> xr.Dataset:
    """Phantom from a NIfTI image in HU and, if there is one, its label map.

    Parameters
    ----------
    ct : path
    labels : path, optional
        Label map on the image's grid, stored in whatever axis order.
    kv : float
        Tube voltage of the scan, which NIfTI does not tell.
    legend, name, source, scale, metal_hu, skin_mm
        As in :func:`from_image`.

    Returns
    -------
    Dataset
        A Phantom.

    Raises
    ------
    InputError
        A file is missing, is not in HU, is oblique, or the labels lie on another grid or lack a name.
    """
    hu = nifti.read_image(ct)
    return from_image(
        hu,
        labels=None if labels is None else nifti.read_labels(labels, like=hu),
        legend=legend,
        kv=kv,
        name=name or Path(ct).name.split(".")[0],
        source=source or f"image {Path(ct).name}",
        scale=scale,
        metal_hu=metal_hu,
        skin_mm=skin_mm,
    )


def from_image(
    hu: xr.DataArray,
    *,
    labels: np.ndarray | None = None,
    legend: str | Path | Mapping[int, str] | None = None,
    kv: float,
    name: str,
    source: str,
    scale: CtScale | None = None,
    metal_hu: float | None = METAL_HU,
    skin_mm: float = 2.0,
) -> xr.Dataset:
    """Phantom from CT numbers.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
        On ascending patient axes; padding below -1050 HU.
    labels : ndarray of int, shape (z, y, x), optional
        Organ labels from 0 (none) to 999.
    legend : path of a CSV or mapping, optional
        Organ names by label; they decide the class of tissue (see :mod:`twinlab.phantom.labels`).
    kv : float
        Tube voltage of the scan, 60 to 150.
    name, source : str
    scale : CtScale, optional
        Energies of the scanner at hand instead of :func:`~twinlab.phantom.hu.ct_scale` of ``kv``.
    metal_hu : float, optional
        From here on titanium, unless contrast medium; None: no metal.
    skin_mm : float
        Depth of the organ ``skin`` (1001) under the body's surface; 0: none.

    Returns
    -------
    Dataset
        A Phantom. Attributes beside name, source and key: ``kv``; ``truncated_body_fraction`` (share of the
        body's outline that the field of view cuts) and ``truncated_slices``; ``enhanced_organs``.

    Raises
    ------
    InputError
        ``hu`` is not an image in HU on even ascending axes, no body is in it, or labels do not fit.

    Warns
    -----
    UserWarning
        More than 1 % of the body's outline is cut by the field of view.
    """
    where = f"from_image({name})"
    check(hu, "hu", where=where)
    steps = tuple(spacing(hu[a], where=where) for a in "zyx")
    scale = scale or ct_scale(float(kv))
    values = np.ascontiguousarray(hu.values, dtype=np.float32)
    organ, names = _organs(labels, legend, values.shape, where)
    body = body_mask(values, spacing_mm=steps, labelled=None if labels is None else organ > 0)
    organ[body & (organ == OUTSIDE)] = BODY
    cut = truncation(values, body)
    if cut.fraction > TRUNCATION_WARNED:
        warnings.warn(
            f"{where}: the field of view cuts {100 * cut.fraction:.1f} % of the body's outline "
            f"({cut.slices} of {values.shape[0]} slices); what lies beyond is air here",
            UserWarning,
            stacklevel=3,
        )
    convert = Conversion(values, organ, names, spacing_mm=steps, scale=scale, metal_hu=metal_hu)
    material, density = convert.table.apply(
        np.maximum(values, np.float32(-1000.0)), np.arange(len(convert.table.rows)), convert.row
    )
    density[organ == OUTSIDE] = AIR_DENSITY_G_CM3
    if skin_mm > 0:
        organ[skin_shell(body, values, spacing_mm=steps, thickness_mm=skin_mm) & (organ == BODY)] = SKIN
    return assemble(
        material=material,
        density=density,
        organ=organ,
        material_names=convert.table.names,
        organ_names={**RESERVED_ORGANS, **names},
        z=hu["z"].values,
        y=hu["y"].values,
        x=hu["x"].values,
        name=name,
        source=source,
        attrs={
            "kv": float(kv),
            "truncated_body_fraction": cut.fraction,
            "truncated_slices": cut.slices,
            "enhanced_organs": ", ".join(convert.enhanced),
        },
    )


def _organs(
    labels: np.ndarray | None,
    legend: str | Path | Mapping[int, str] | None,
    shape: tuple[int, ...],
    where: str,
) -> tuple[np.ndarray, dict[int, str]]:
    if labels is None:
        return np.zeros(shape, np.uint16), {}
    if labels.shape != shape:
        refuse(where, f"labels of shape {shape}", labels.shape)
    if labels.min() < 0 or labels.max() >= BODY:
        refuse(where, f"labels from 0 to {BODY - 1}", f"{labels.min()} to {labels.max()}")
    organ = labels.astype(np.uint16, copy=True)
    return organ, nifti.read_legend(legend, np.flatnonzero(np.bincount(organ.ravel())))
