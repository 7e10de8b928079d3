"""The files that gecatsim reads: materials, spectrum, attenuation, phantoms, all from ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from twinlab.phantom.recipes import Recipe
from twinlab.physics import materials
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol, beam_fluence
from twinlab.schema import spacing


def bin_centres(protocol: Protocol) -> np.ndarray:
    """Energies of our spectrum, 1 keV apart [keV]."""
    return np.asarray(beam_fluence(protocol)["energy"])


def write_materials(folder: Path, protocol: Protocol, voxels: xr.Dataset) -> None:
    """Material files with our compositions and densities."""
    names = [str(n) for n in voxels["material_name"].to_numpy()]
    for name in {*names, protocol.scanner.detector.absorber_material}:
        material = materials.get(name)
        rows = "\n".join(f"{z} {share:.9f}" for z, share in material.elements)
        (folder / name).write_text(f"{len(material.elements)}\n{material.density_g_cm3:.9g}\n{rows}\n")


def write_spectrum(folder: Path, protocol: Protocol) -> None:
    """Our filtered spectrum [photons/mm2/mAs at 1 m per 1 keV]."""
    beam = beam_fluence(protocol)[0]
    rows = "\n".join(
        f"{e:.6f},{n:.8e}" for e, n in zip(beam["energy"].to_numpy(), beam.to_numpy(), strict=True)
    )
    (folder / "spectrum.dat").write_text(f"{beam.size}\n{rows}\n0\n")


def write_attenuation(folder: Path, protocol: Protocol, voxels: xr.Dataset, energies: int) -> None:
    """Our attenuation coefficients [1/cm] at all energies that gecatsim may ask for."""
    fine = bin_centres(protocol)
    low, high = fine[0] - 0.5, fine[-1] + 0.5
    width = (high - low) / energies
    energy = np.unique(np.append(fine, np.linspace(low + width / 2, high - width / 2, energies)))
    names = {*map(str, voxels["material_name"].to_numpy()), protocol.scanner.detector.absorber_material}
    table = {name: 10 * linear_attenuation_per_mm(name, energy) for name in names}
    np.savez(folder / "attenuation.npz", energy_kev=energy, **table)


def write_voxels(folder: Path, voxels: xr.Dataset) -> Path:
    """Volume fractions of every material, and the JSON file that lists them."""
    names = [str(n) for n in voxels["material_name"].to_numpy()]
    material, density = voxels["material"].to_numpy(), voxels["density"].to_numpy()
    used = [m for m in range(len(names)) if (density[material == m] > 0).any()]
    nz, ny, nx = material.shape
    for m in used:
        share = np.where(material == m, density / materials.get(names[m]).density_g_cm3, 0.0)
        np.ascontiguousarray(share, np.float32).tofile(folder / f"volume_{m}.raw")
    n = len(used)
    steps = {f"{a}_size": [spacing(voxels[a], where="write_voxels")] * n for a in "xyz"}
    description = {
        "n_materials": n, "mat_name": [str(folder / names[m]) for m in used],
        "volumefractionmap_filename": [f"volume_{m}.raw" for m in used],
        "volumefractionmap_datatype": ["float"] * n, "cols": [nx] * n, "rows": [ny] * n, "slices": [nz] * n,
        **steps,
        "x_offset": [(nx + 1) / 2] * n, "y_offset": [(ny + 1) / 2] * n, "z_offset": [(nz + 1) / 2] * n,
    }  # fmt: skip
    (folder / "voxels.json").write_text(json.dumps(description))
    return folder / "voxels.json"


def write_analytic(folder: Path, recipe: Recipe) -> Path:
    """The recipe's cylinders in gecatsim's format; its y axis points up, ours down."""
    names = list(dict.fromkeys(s.material for s in recipe.shapes))
    text = ["materialList = {" + " ".join(f"'{folder / name}'" for name in names) + "};"]
    for i, shape in enumerate(recipe.shapes, start=1):
        c, r = shape.centre_mm, shape.diameter_mm / 2
        text += [
            f"object.center({i},:) = [{c.x} {-c.y} {c.z}];",
            f"object.half_axes({i},:) = [{r} {r} {shape.length_mm / 2}];",
            f"object.euler_angs({i},:) = [0.0 0.0 0.0];",
            f"object.density({i}) = {recipe.density_of(shape) / materials.get(shape.material).density_g_cm3:.9g};",
            f"object.type({i}) = 2;",
            f"object.material({i}) = {names.index(shape.material) + 1};",
            f"object.axial_lims({i},:) = [0 0];",
            f"object.shape({i}) = 0;",
            f"object.clip{{{i}}} = [];",
        ]
    (folder / "cylinders.ppm").write_text("\n".join(text) + "\n")
    return folder / "cylinders.ppm"
