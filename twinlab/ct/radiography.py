"""Radiography: one point source, one flat panel anywhere, the same tubes, detectors and phantoms as CT.

Line integrals come from voxels (exact, ray by ray), from recipes of solids (exact chords) or from triangle
meshes (:mod:`twinlab.ct.mesh`); readings come from the detector model of the scanner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.basis import Basis
from twinlab.ct.detector import detected
from twinlab.ct.paths import scan_basis
from twinlab.ct.stand import Radiography
from twinlab.kernels import philox
from twinlab.kernels.general_rays import trace
from twinlab.kernels.readings import draw_readings
from twinlab.kernels.threads import one_parallel_region
from twinlab.phantom.build import AIR_DENSITY_G_CM3
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Box
from twinlab.scanner import cell_solid_angle
from twinlab.schema import check, label, refuse, spacing

if TYPE_CHECKING:
    from twinlab.ct.mesh import Mesh

_NOISE_STREAM = np.uint64(0x72616469)  # keeps these random numbers apart from those of scans
_BLOCK = 1 << 16  # rays whose chords are found together

Array = NDArray[np.float64]
Scatter = Callable[[xr.Dataset], Any] | xr.DataArray | NDArray[Any]


def radiograph_paths(
    body: xr.Dataset | Recipe | Sequence[Mesh], setup: Radiography, *, n_basis: int | None = None
) -> xr.Dataset:
    """Line integrals of an attenuation basis from the source to every cell of the panel.

    Parameters
    ----------
    body : Dataset, Recipe or sequence of Mesh
        Voxels (exact ray by ray, float64), solids with exact chords in their box of air, or surfaces that gVXR
        projects. Outside there is vacuum.
    setup : Radiography
    n_basis : int, optional
        Default: as few as keep transmission right to 2e-4 at all of the tube's voltages.

    Returns
    -------
    Dataset
        As :func:`twinlab.ct.line_integrals` with one view; ``row`` and ``u`` [mm] from the panel's middle.

    Raises
    ------
    InputError
        A phantom of other variables, an uneven grid, or what :func:`twinlab.ct.mesh_rays.mesh_lengths_cm` refuses.
    """
    if isinstance(body, Recipe):
        names, masses = _solid_masses(body, setup)
    elif isinstance(body, xr.Dataset):
        return _voxel_paths(body, setup, n_basis)
    else:
        from twinlab.ct.mesh_rays import mesh_masses

        names, masses = mesh_masses(list(body), setup)
    basis = scan_basis(names, setup.protocol(), n_basis=n_basis)
    path = np.einsum("mk,mrc->krc", basis.coefficients, masses).astype(np.float32)
    return _as_paths(path, basis, setup)


def _voxel_paths(phantom: xr.Dataset, setup: Radiography, n_basis: int | None) -> xr.Dataset:
    check(phantom, "material", "density", "material_name", where="radiograph_paths")
    steps = tuple(spacing(phantom[axis], where="radiograph_paths: phantom") for axis in ("z", "y", "x"))
    material = phantom["material"].to_numpy()
    present = np.unique(material)
    names = [str(name) for name in phantom["material_name"].to_numpy()]
    if present[-1] >= len(names):
        refuse("radiograph_paths", f"material below {len(names)}", int(present[-1]))
    basis = scan_basis([names[m] for m in present], setup.protocol(), n_basis=n_basis)
    table = np.zeros((len(names), basis.basis_mu.shape[0]), np.float32)
    table[present] = basis.coefficients
    volumes = table[material]  # the basis innermost, as the kernel likes it
    volumes *= phantom["density"].to_numpy()[..., None]
    end = setup.cell_centres_mm().reshape(-1, 3)
    path = trace(
        np.moveaxis(volumes, -1, 0),
        spacing_mm=(steps[0], steps[1], steps[2]),
        origin_mm=(float(phantom["z"][0]), float(phantom["y"][0]), float(phantom["x"][0])),
        start_mm=np.broadcast_to(setup.source_mm.array, end.shape),
        end_mm=end,
    )
    return _as_paths(path, basis, setup, phantom=str(phantom.attrs.get("key", "")))


def _solid_masses(recipe: Recipe, setup: Radiography) -> tuple[list[str], Array]:
    """Materials of a recipe and the mass [g/cm2] of each on every ray, shape (material, row, channel)."""
    air = Box(name="surrounding air", material="air", density_g_cm3=AIR_DENSITY_G_CM3, size_mm=recipe.size_mm)
    whole = recipe.model_copy(update={"shapes": (air, *recipe.shapes)})
    names = list(dict.fromkeys(s.material for s in whole.shapes))
    owner = np.array([names.index(s.material) for s in whole.shapes])
    density = np.array([whole.density_of(s) for s in whole.shapes])
    end = setup.cell_centres_mm()
    way = (end - setup.source_mm.array).reshape(-1, 3)
    direction = way / np.linalg.norm(way, axis=1, keepdims=True)
    masses = np.zeros((len(names), len(way)))
    for part in _blocks(len(way)):
        source = np.broadcast_to(setup.source_mm.array, direction[part].shape)
        lengths = whole.path_lengths(source, direction[part]) / 10.0
        np.add.at(masses[:, part], owner, lengths * density[:, None])
    return names, masses.reshape(len(names), *end.shape[:2])


def _blocks(n: int) -> Iterator[slice]:
    return (slice(i, min(i + _BLOCK, n)) for i in range(0, n, _BLOCK))


def _as_paths(
    path: NDArray[np.float32], basis: Basis, setup: Radiography, *, phantom: str = ""
) -> xr.Dataset:
    channel, row = setup.cells_mm()
    path = np.ascontiguousarray(path.reshape(basis.basis_mu.shape[0], 1, row.size, channel.size))
    window = np.zeros(1, np.int64), np.full(1, row.size, np.int64)
    return xr.Dataset(
        {
            "path": label("path", path, {"row": row, "u": ("channel", channel)}),
            "basis_mu": label("basis_mu", basis.basis_mu, {"energy": basis.energy_kev}),
            "mixing": label("mixing", basis.mixing, {"mixed_material": list(basis.material_names)}),
            "view_angle": label("view_angle", [0.0]),
            "source_z": label("source_z", [setup.source_mm.z]),
            "row_lo": label("row_lo", window[0]),
            "row_hi": label("row_hi", window[1]),
        },
        attrs={
            "scanner": setup.key,
            "basis_error": basis.error,
            "phantom": phantom,
            "source_to_panel_mm": setup.distance_mm,
            **{f"{name}_mm": getattr(setup, f"{name}_mm").array.tolist() for name in ("source", "panel")},
            **{name: axis.tolist() for name, axis in zip(("right", "up"), setup.axes, strict=False)},
        },
    )


def radiograph(
    body: xr.Dataset | Recipe | Sequence[Mesh],
    setup: Radiography,
    *,
    seed: int,
    realisation: int = 0,
    noise: bool = True,
    output_factor: float = 1.0,
    scatter: Scatter | None = None,
) -> xr.Dataset:
    """Radiograph of a body: what an energy-integrating flat panel reads.

    Parameters
    ----------
    body : Dataset, Recipe or sequence of Mesh
        See :func:`radiograph_paths`; or what it returns, to save its time at other exposures; or what this
        function returns, for further realisations.
    setup : Radiography
    seed, realisation : int
        Name the noise; the same whatever the threads.
    noise : bool
        False: expected readings.
    output_factor : float
        Photons of the real tube per photon of the model.
    scatter : array (row, channel), or callable, optional
        Scattered radiation behind an anti-scatter grid, keV per mAs in each cell; or a function of the
        primary signals (this Dataset) that returns it.

    Returns
    -------
    Dataset, dims (view, row, channel) with one view
        ``signal`` [keV/mAs], ``signal_variance``, ``reading`` [keV], ``transmission`` (reading over the mean
        one without an object); ``air_signal`` (row, channel); ``row`` and ``u`` [mm] from the panel's middle.

    Raises
    ------
    InputError
        See :func:`radiograph_paths`; paths of another setup, a bad seed, or scatter of another shape.

    Limits
    ------
    Point focal spot and cell centres. No heel effect across the panel and no bowtie. Cross-talk, afterglow
    and digitisation of the detector are left out; Swank factor and electronic noise are in.

    References
    ----------
    Siddon RL (1985) Med Phys 12:252 (voxels). Whiting BR (2002) Proc SPIE 4682:53 (compound Poisson).
    """
    if not 0 <= int(seed) < 2**64 or not 0 <= int(realisation) < 2**64:
        refuse("radiograph: seed and realisation", "integers from 0 to 2**64 - 1", (seed, realisation))
    if isinstance(body, xr.Dataset) and "signal" in body:
        out = body.copy()
    else:
        known = isinstance(body, xr.Dataset) and "path" in body
        out = _signals(body if known else radiograph_paths(body, setup), setup, output_factor)  # type: ignore[arg-type]
    if scatter is not None:
        out = _with_scatter(out, scatter)
    reading = _read(out, setup, seed=seed, realisation=realisation, noise=noise)
    coords = {name: out[name] for name in ("row", "u")}
    out["reading"] = label("reading", reading, coords)
    out["transmission"] = label("transmission", reading / (setup.mas * out["air_signal"].to_numpy()), coords)
    told = {"mas": setup.mas, "seed": int(seed), "realisation": int(realisation), "noise": int(noise)}
    return out.assign_attrs(told)


def _signals(paths: xr.Dataset, setup: Radiography, output_factor: float) -> xr.Dataset:
    """Mean and variance of readings, with the solid angles of the panel where it stands."""
    protocol = setup.protocol()
    out = detected(paths, protocol, output_factor=output_factor)
    aside = setup.solid_angle_sr() / cell_solid_angle(protocol).to_numpy()
    for name in ("signal", "signal_variance", "air_signal", "air_variance"):
        if name in out:
            values = (out[name].to_numpy() * aside).astype(out[name].dtype)
            out[name] = (out[name].dims, values, out[name].attrs)
    return out.drop_vars(["row_lo", "row_hi", "view_angle"])


def _with_scatter(out: xr.Dataset, scatter: Scatter) -> xr.Dataset:
    shape = out["air_signal"].shape
    added = np.asarray(scatter(out) if callable(scatter) else scatter, np.float32)
    if added.shape not in (shape, (1, *shape)) or not np.isfinite(added).all() or added.min(initial=0.0) < 0:
        refuse("radiograph: scatter", f"finite values of 0 or more, (row, channel) {shape}", added.shape)
    signal, second = (out[name].to_numpy() for name in ("signal", "signal_variance"))
    coords = {name: out[name] for name in ("row", "u")}
    # scattered photons are about as hard as the primary ones: the same variance per signal
    second = second * (1.0 + added / np.maximum(signal, np.float32(1e-30)))
    return out.assign(
        signal=label("signal", signal + added, coords),
        signal_variance=label("signal_variance", second, coords),
    )


def _read(
    out: xr.Dataset, setup: Radiography, *, seed: int, realisation: int, noise: bool
) -> NDArray[np.float32]:
    signal, second = (np.ascontiguousarray(out[n], np.float32) for n in ("signal", "signal_variance"))
    rows = np.zeros(1, np.int64), np.full(1, signal.shape[1], np.int64)
    reading = np.zeros(signal.shape, np.float32)
    k0, k1 = philox.key(int(seed))
    exposure, electronic = np.full(1, setup.mas, np.float32), np.float32(setup.detector.electronic_noise_kev)
    with one_parallel_region():
        draw_readings(
            signal, second, exposure, electronic if noise else np.float32(0.0), noise, 0,
            np.uint64(int(realisation)), k0, k1 ^ _NOISE_STREAM, *rows, reading,
        )  # fmt: skip
    return reading
