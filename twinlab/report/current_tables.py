"""Doses and noise at a modulated tube current beside those at a fixed one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.report.dose_tables import plain, plus_minus
from twinlab.scanner import Protocol
from twinlab.scanner.exposure import WATER_PER_MM
from twinlab.schema import check, refuse

SURE = 3.0  # standard uncertainties; of 20 organs alike, one lies outside by chance in 19 runs


def current_table(fixed: xr.Dataset, modulated: xr.Dataset) -> pd.DataFrame:
    """Organ doses at a fixed and at a modulated tube current, and their difference.

    Parameters
    ----------
    fixed, modulated : Dataset
        From :func:`twinlab.dose.simulate` in one phantom; of different seeds, so that they are independent.

    Returns
    -------
    DataFrame
        Sorted by the difference, with ``sds``: difference over its standard uncertainty. :func:`current_rows` shows it.

    Raises
    ------
    InputError
        Different organs, or the same seed.
    """
    for run in (fixed, modulated):
        check(run, "organ_dose", "organ_dose_sd", where="current_table")
    if not np.array_equal(fixed.organ_id, modulated.organ_id):
        refuse("current_table", "runs with the same organs", (fixed.organ_id.size, modulated.organ_id.size))
    if fixed.attrs.get("seed") == modulated.attrs.get("seed"):
        refuse("current_table", "runs of different seeds", fixed.attrs.get("seed"))
    a, b = (run.organ_dose.values for run in (fixed, modulated))
    relative = [(run.organ_dose_sd / run.organ_dose).values for run in (fixed, modulated)]
    sd = 100 * b / a * np.hypot(*relative)
    rows = pd.DataFrame(
        {
            "organ": [plain(n) for n in modulated.organ_name.values],
            "fixed [mGy]": a,
            "sd [mGy]": fixed.organ_dose_sd.values,
            "modulated [mGy]": b,
            "sd [mGy] ": modulated.organ_dose_sd.values,
            "difference [%]": 100 * (b / a - 1),
            "sd [%]": sd,
            "sds": 100 * (b / a - 1) / sd,
        }
    )
    return rows.sort_values("difference [%]", ignore_index=True)


def current_rows(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`current_table` for the page: each value with its standard uncertainty."""
    columns = {
        "fixed ± sd [mGy]": ("fixed [mGy]", "sd [mGy]"),
        "modulated ± sd [mGy]": ("modulated [mGy]", "sd [mGy] "),
        "difference ± sd [%]": ("difference [%]", "sd [%]"),
    }
    shown = {"organ": table["organ"]}
    for name, (value, sd) in columns.items():
        shown[name] = [plus_minus(v, s) for v, s in zip(table[value], table[sd], strict=True)]
    return pd.DataFrame(shown)


def relative_noise(
    trajectory: xr.Dataset, protocol: Protocol, width: xr.DataArray, z_mm: Sequence[float] | np.ndarray
) -> xr.Dataset:
    """Noise in the middle of each slice that quanta behind the patient allow, modulated and fixed current.

    The variance of a view is ``exp(mu w) / mA``, that of a slice the mean over the views of a rotation about it;
    both are relative to the mean variance at fixed current over the slices given.

    Parameters
    ----------
    trajectory : Dataset
        From :func:`twinlab.scanner.modulated`.
    protocol : Protocol
    width : DataArray
        From :func:`twinlab.scanner.water_width`.
    z_mm : sequence of float
        Slices.

    Returns
    -------
    Dataset, dims (z)
        ``fixed``, ``modulated``: relative standard deviation. attrs: ``variance_ratio``, mean variance of the
        modulated over that of the fixed current at equal mAs.

    References
    ----------
    Gies M et al. (1999) Dose reduction in CT by anatomically adapted tube current modulation I. Med Phys 26:2235.
    """
    check(trajectory, "view_angle", "source_z", "tube_current", where="relative_noise")
    turn = xr.concat([width, width.isel(angle=[0]).assign_coords(angle=[np.pi])], "angle")
    z = trajectory.source_z.clip(float(width.z[0]), float(width.z[-1]))
    seen = turn.interp(z=z, angle=np.mod(trajectory.view_angle, np.pi)).to_numpy()
    current = trajectory.tube_current.to_numpy()
    quanta = np.exp(WATER_PER_MM * (seen - seen.mean()))
    half = max(0.5 * protocol.feed_mm / protocol.pitch, 1.0)
    near = np.abs(trajectory.source_z.to_numpy() - np.asarray(z_mm, float)[:, None]) <= half
    if not near.any(axis=1).all():
        refuse(
            "relative_noise: z_mm", "slices that the beam covers", list(np.asarray(z_mm)[~near.any(axis=1)])
        )
    fixed, shaped = (near @ v / near.sum(axis=1) for v in (quanta / current.mean(), quanta / current))
    unit = fixed.mean()
    coords = {"z": np.asarray(z_mm, float)}
    return xr.Dataset(
        {
            "fixed": ("z", np.sqrt(fixed / unit)),
            "modulated": ("z", np.sqrt(shaped / unit)),
        },
        coords,
        attrs={"variance_ratio": float(shaped.mean() / unit)},
    )


def current_words(table: pd.DataFrame, noise: xr.Dataset) -> str:
    """What modulation at equal mAs does to organs and to noise."""
    sure = table[table["sds"].abs() > SURE]
    if len(sure):
        least, most = sure.iloc[0], sure.iloc[-1]
        parts = [
            f"{row['organ']} by {plus_minus(row['difference [%]'], row['sd [%]'])} %" for row in (least, most)
        ]
        told = " and ".join(dict.fromkeys(parts))
        text = f"{len(sure)} of {len(table)} organs differ by more than {SURE:g} sd, among them {told}."
    else:
        text = f"No organ of {len(table)} differs by more than {SURE:g} sd at these statistics."
    ratio = noise.attrs["variance_ratio"]
    spread = {k: float(noise[k].max() / noise[k].min()) for k in ("fixed", "modulated")}
    way = "less" if ratio < 1 else "more"
    return (
        f"At equal mAs: {text} The noisiest slice has {spread['modulated']:.1f} times the noise of the best instead "
        f"of {spread['fixed']:.1f} times; for the same mean variance the modulated scan would need "
        f"{100 * abs(1 - ratio):.0f} % {way} mAs, and all its doses would be as much "
        f"{'lower' if ratio < 1 else 'higher'}."
    )
