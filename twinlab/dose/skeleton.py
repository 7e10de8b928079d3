"""Dose of red bone marrow and endosteum from the doses of labelled bones (ICRP Publication 116)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import xarray as xr

from twinlab.dose.tables import labelled, mapping, rows
from twinlab.phantom import check_phantom, material_names
from twinlab.physics import materials
from twinlab.physics.attenuation import mass_attenuation, mass_energy_absorption
from twinlab.scanner import Protocol, beam_fluence
from twinlab.schema import check, label, refuse

WATER_MM = 0.0
"""Hardening that suits bones in a body: the scatter makes up for it (docs/methods/dose_quantities.md)."""

_JOULE_PER_KEV = 1.602176634e-16
_TARGETS = {"marrow": "red_marrow", "endosteum": "endosteum"}


def body_spectrum(protocol: Protocol, *, water_mm: float = WATER_MM) -> xr.DataArray:
    """Relative photon fluence inside a body: the central ray behind some water.

    Parameters
    ----------
    protocol : Protocol
    water_mm : float
        Hardening depth.

    Returns
    -------
    DataArray ``fluence``, dims (energy), keV
        On the scale of :func:`twinlab.scanner.beam_fluence`; only its shape is used.

    Raises
    ------
    InputError
        A depth below zero.
    """
    if not water_mm >= 0:
        refuse("body_spectrum: water_mm", "0 or more", water_mm)
    beam = beam_fluence(protocol, fan_angle_rad=0.0)
    energy = beam["energy"].values
    thick = materials.get("water").density_g_cm3 * water_mm / 10.0
    values = beam.values[0] * np.exp(-thick * mass_attenuation("water", energy)[0])
    return label("fluence", values, {"energy": energy}, water_mm=float(water_mm), kv=float(protocol.kv))


def bone_response(target: str, site: str, energy_kev: np.ndarray) -> np.ndarray:
    """Absorbed dose of a target in the spongiosa of a bone per photon fluence.

    Parameters
    ----------
    target : "marrow" or "endosteum"
    site : str
        A site of ``skeleton_sites.yaml``.
    energy_kev : array, 10 to 200 keV

    Returns
    -------
    ndarray of the shape of energy_kev, Gy m2

    Raises
    ------
    InputError
        No response for this target and site, or energies outside the table.

    References
    ----------
    ICRP Publication 116 (2010), annex D; interpolated in the logarithm of both.
    """
    table = _responses()
    if (target, site) not in table:
        refuse("bone_response", f"one of {sorted(table)}", (target, site))
    energy = np.asarray(energy_kev, float)
    known, values = table[target, site]
    if not (energy.size and (energy >= known[0]).all() and (energy <= known[-1]).all()):
        refuse("bone_response: energy_kev", f"{known[0]:g} to {known[-1]:g} keV", energy_kev)
    return np.exp(np.interp(np.log(energy), np.log(known), np.log(values)))


@lru_cache(maxsize=1)
def _responses() -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    out = {}
    for row in rows("icrp116_bone_response.csv"):
        energies = [key for key in row if key not in ("target", "site")]
        values = np.array([float(row[key]) for key in energies]) * 1e-17
        out[row["target"], row["site"]] = np.array([float(key) for key in energies]), values
    return out


def _kerma_per_fluence(names: list[str], energy: np.ndarray, fluence: np.ndarray) -> np.ndarray:
    """Collision kerma of materials in one spectrum, Gy m2 per unit fluence."""
    per_photon = mass_energy_absorption(names, energy) * 0.1 * energy * _JOULE_PER_KEV
    return per_photon @ fluence / fluence.sum()


def _bone_kerma(dose: xr.Dataset, phantom: xr.Dataset, chosen: np.ndarray, kerma: np.ndarray) -> np.ndarray:
    """Mass-weighted kerma per fluence of each chosen label; refuses another phantom than that of the dose."""
    spacing = check_phantom(phantom, where="marrow_dose")
    ids = dose["organ_id"].values.astype(np.int64)
    mass = np.zeros(int(max(ids.max(), phantom["organ_id"].values.max())) + 1)
    sums = np.zeros_like(mass)
    for organ, density, material in zip(
        phantom["organ"].values, phantom["density"].values, phantom["material"].values, strict=True
    ):
        flat = organ.ravel()
        mass += np.bincount(flat, weights=density.ravel(), minlength=mass.size)
        sums += np.bincount(flat, weights=(density * kerma[material]).ravel(), minlength=mass.size)
    for i in np.flatnonzero(chosen):
        given, found = float(dose["organ_mass"][i]), mass[ids[i]] * np.prod(spacing) / 1000.0
        if abs(found - given) > 1e-3 * given:
            name = dose["organ_name"].values[i]
            refuse(
                f"marrow_dose: mass of {name}", f"{given:.6g} g (the phantom of that run)", f"{found:.6g} g"
            )
    return np.where(chosen, sums[ids] / np.maximum(mass[ids], 1e-30), 0.0)


def marrow_dose(
    dose: xr.Dataset, phantom: xr.Dataset, *, protocol: Protocol, water_mm: float = WATER_MM
) -> xr.Dataset:
    """Dose of red bone marrow and of endosteum, adult, from the doses of the labelled bones.

    ``D_target(site) = D_bone * int(Phi R_site dE) / <int(Phi E mu_en/rho dE)>_bone``: the fluence that gave the
    bone its dose, times the response of marrow or endosteum in the spongiosa of that bone. Sites are weighted by
    their share of the active marrow or endosteum. [ICRP116]_ [ICRP89]_

    Parameters
    ----------
    dose : Dataset
        As from :func:`twinlab.dose.simulate`: ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_cut``.
    phantom : Dataset
        The Phantom of that run: its materials and densities in each bone.
    protocol : Protocol
        For the shape of the spectrum.
    water_mm : float
        Hardening depth (:func:`body_spectrum`).

    Returns
    -------
    Dataset, dims (site)
        ``site_marrow_dose``, ``site_endosteum_dose`` (mGy, NaN where no label) with ``_sd``, ``marrow_share``,
        ``endosteum_share``, ``site_coverage`` (labels present over labels of the whole site; a cut label counts
        in full) and ``site_coverage_uncut`` (cut labels count nothing). Scalars ``red_marrow_dose``,
        ``endosteum_dose`` with ``_sd``: mean over the share inside the images, which is
        ``red_marrow_coverage`` and ``endosteum_coverage``. sd: upper bound (bones fully correlated).

    Raises
    ------
    InputError
        No labelled bone, another phantom than that of the dose, photons outside 10 to 200 keV.

    Limits
    ------
    Adult shares; a child's marrow is spread otherwise. Fluence is taken as even within one bone label. The
    labels of humeri and femora count as their upper halves. Marrow outside the images is not estimated.

    References
    ----------
    .. [ICRP116] ICRP Publication 116 (2010), section 3.4 and annex D.
    .. [ICRP89] ICRP Publication 89 (2002), table 9.4.
    """
    check(dose, "organ_dose", "organ_dose_sd", "organ_mass", "organ_cut", where="marrow_dose")
    check_phantom(phantom, where="marrow_dose")
    sites = mapping("skeleton_sites.yaml")["sites"]
    names = [str(n) for n in dose["organ_name"].values]
    member = {site: labelled(names, [*row["labels"], *row.get("whole", [])]) for site, row in sites.items()}
    chosen = np.any(list(member.values()), axis=0)
    if not chosen.any():
        refuse("marrow_dose", "a phantom with labelled bones (vertebrae_L1, rib_left_1, sternum ...)", names)
    spectrum = body_spectrum(protocol, water_mm=water_mm)
    keep = spectrum["energy"].values >= 10.0
    energy, fluence = spectrum["energy"].values[keep], spectrum.values[keep]
    kerma = _kerma_per_fluence(material_names(phantom), energy, fluence)
    of_bone = _bone_kerma(dose, phantom, chosen, kerma)
    columns: dict[str, list[float]] = {}
    for site, row in sites.items():
        for key, value in _site(dose, names, member[site], row, site, of_bone, energy, fluence).items():
            columns.setdefault(key, []).append(value)
    coords = {"site": list(sites)}
    out = xr.Dataset({key: label(key, np.array(values), coords) for key, values in columns.items()})
    for target, name in _TARGETS.items():
        out = out.assign(_whole(out, target, name))
    out.attrs = {
        "edition": mapping("skeleton_sites.yaml")["edition"],
        "spectrum": f"{protocol.kv:g} kV, central ray behind {water_mm:g} mm of water",
        "sd": "upper bound: bones of one run taken as fully correlated",
        "missing": ", ".join(str(s) for s in out["site"].values[out["site_coverage"].values == 0]),
        "cut": ", ".join(n for n, c in zip(names, dose["organ_cut"].values & chosen, strict=True) if c),
    }
    return out


def _site(
    dose: xr.Dataset,
    names: list[str],
    member: np.ndarray,
    row: dict[str, object],
    site: str,
    of_bone: np.ndarray,
    energy: np.ndarray,
    fluence: np.ndarray,
) -> dict[str, float]:
    """Doses and coverage of one site of the skeleton."""
    mass = dose["organ_mass"].values[member]
    cut = dose["organ_cut"].values[member].astype(bool)
    whole = labelled(names, row.get("whole", []))[member]  # type: ignore[arg-type]
    part = np.where(whole, 1.0, 1.0 / float(row["parts"]))  # type: ignore[arg-type]
    out = {
        "marrow_share": float(row["marrow"]),  # type: ignore[arg-type]
        "endosteum_share": float(row["endosteum"]),  # type: ignore[arg-type]
        "site_coverage": min(1.0, float(part.sum())),
        "site_coverage_uncut": min(1.0, float(part[~cut].sum())),
    }
    for target in _TARGETS:
        value = sd = np.nan
        if out[f"{target}_share"] > 0 and mass.sum() > 0:
            response = bone_response(target, site, energy) @ fluence / fluence.sum()
            weight = mass / mass.sum() * response / of_bone[member]
            value = float(weight @ dose["organ_dose"].values[member])
            sd = float(weight @ dose["organ_dose_sd"].values[member])
        out[f"site_{target}_dose"], out[f"site_{target}_dose_sd"] = value, sd
    return out


def _whole(sites: xr.Dataset, target: str, name: str) -> dict[str, xr.DataArray]:
    """Mean over the share of the target tissue inside the images, and that share."""
    value = sites[f"site_{target}_dose"].values
    weight = np.where(np.isfinite(value), sites[f"{target}_share"] * sites["site_coverage"], 0.0)
    total = float(weight.sum())
    means = {
        part: float(np.nansum(weight * sites[f"site_{target}_dose{part}"]) / total) if total else np.nan
        for part in ("", "_sd")
    }
    uncut = float((np.isfinite(value) * sites[f"{target}_share"] * sites["site_coverage_uncut"]).sum())
    return {
        f"{name}_dose": label(f"{name}_dose", means[""]),
        f"{name}_dose_sd": label(f"{name}_dose_sd", means["_sd"]),
        f"{name}_coverage": label(f"{name}_coverage", total),
        f"{name}_coverage_uncut": label(f"{name}_coverage_uncut", uncut),
    }
