"""How far every ray of a panel runs in closed triangle meshes, by gVXR (extra ``gvxr``).

gVXR projects surfaces by OpenGL, without a screen through EGL. Only its path lengths are used; spectrum,
detector and noise are those of every other radiograph (:mod:`twinlab.ct.radiography`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.mesh import Mesh, checked, refined
from twinlab.ct.paths import scan_basis
from twinlab.ct.stand import Radiography, on_gantry
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

Array = NDArray[np.float64]
BEND_MM = 0.02
"""Largest error, from the size of triangles, of each surface that a ray crosses."""

_ANY_KEV = 60.0


@lru_cache(maxsize=1)
def _engine() -> Any:
    """gVXR with its one OpenGL context."""
    try:
        from gvxrPython3 import gvxr
    except (ImportError, OSError) as error:
        refuse(
            "meshes", "gVXR (pip install 'twinlab[gvxr]', and the EGL libraries of the system)", str(error)
        )
    gvxr.createOpenGLContext()
    return gvxr


def mesh_lengths_cm(meshes: list[Mesh], setup: Radiography) -> Array:
    """Way of every ray inside each surface, what lies inside it included, shape (mesh, row, channel), cm.

    Raises
    ------
    InputError
        See :func:`twinlab.ct.mesh.checked`; the source is inside a mesh's box; gVXR or its libraries are missing.

    References
    ----------
    Freud N et al. (2006) Fast and robust ray casting algorithms for virtual X-ray imaging. Nucl Instrum
    Methods B 248:175. Vidal FP et al. (2009) Simulation of X-ray attenuation on the GPU. TPCG 2009:25.
    """
    meshes = checked(meshes)
    engine = _scene(meshes, setup.source_mm.array[None])
    return _lengths(engine, len(meshes), setup)


def _scene(meshes: list[Mesh], sources: Array) -> Any:
    """gVXR with these meshes, and no others, cut finely enough for all sources, shape (n, 3)."""
    gvxr = _engine()
    gvxr.removePolygonMeshesFromXRayRenderer()
    gvxr.removePolygonMeshesFromSceneGraph()
    # before the meshes: a spectrum set after them would leave the first one transparent
    gvxr.setMonoChromatic(_ANY_KEV, "keV", 1)
    gvxr.usePointSource()
    for i, mesh in enumerate(meshes):
        mesh = _fine_enough(mesh, sources)
        corners = np.ascontiguousarray(mesh.triangles, np.uint32).ravel()
        gvxr.makeTriangularMesh(_name(i), np.ascontiguousarray(mesh.vertices, float).ravel(), corners, "mm")
        gvxr.setLinearAttenuationCoefficient(_name(i), 1.0, "cm-1")
        gvxr.addPolygonMeshAsInnerSurface(_name(i))
    return gvxr


def _name(i: int) -> str:
    return f"mesh {i}"


def _lengths(gvxr: Any, count: int, setup: Radiography) -> Array:
    right, up, _ = setup.axes
    channel, row = setup.cells_mm()
    middle = setup.panel_mm.array + channel.mean() * right + row.mean() * up
    gvxr.setSourcePosition(*setup.source_mm.array.tolist(), "mm")
    gvxr.setDetectorPosition(*middle.tolist(), "mm")
    gvxr.setDetectorUpVector(*up.tolist())
    gvxr.setDetectorRightVector(*right.tolist())
    gvxr.setDetectorNumberOfPixels(channel.size, row.size)
    gvxr.setDetectorPixelSize(setup.detector.channel_pitch_mm, setup.detector.row_pitch_mm, "mm")
    lengths = [np.asarray(gvxr.computeLBuffer(_name(i)), float) for i in range(count)]
    return np.maximum(np.stack(lengths), 0.0)


def _fine_enough(mesh: Mesh, sources: Array) -> Mesh:
    """Triangles so small that what gVXR interpolates in them, the distance from the source, is nearly linear.

    The distance to points of a flat triangle with edges up to e, seen from R, bends by e^2 / (6 R) at most.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    beside = np.maximum(np.maximum(low - sources, sources - high), 0.0)
    nearest = float(np.linalg.norm(beside, axis=1).min())
    if nearest <= 0.0:
        refuse(f"mesh {mesh.name!r}", "sources outside the mesh's box", "one inside")
    return refined(mesh, math.sqrt(6.0 * nearest * BEND_MM))


def mesh_masses(meshes: list[Mesh], setup: Radiography) -> tuple[list[str], Array]:
    """Materials of some meshes and the mass of each on every ray, shape (material, row, channel), g/cm2.

    Outside the meshes there is vacuum. A mesh displaces the matter of the one that it is ``inside``.

    Raises
    ------
    InputError
        See :func:`mesh_lengths_cm`.
    """
    names = _materials(meshes)
    return names, _masses(meshes, names, mesh_lengths_cm(meshes, setup))


def _materials(meshes: list[Mesh]) -> list[str]:
    # air, of no mass here, is in the list so that the energy quadrature is fitted to thin rays too
    return list(dict.fromkeys(["air", *(mesh.material for mesh in meshes)]))


def _masses(meshes: list[Mesh], names: list[str], lengths: Array) -> Array:
    masses = np.zeros((len(names), *lengths.shape[1:]))
    for i, mesh in enumerate(meshes):
        own = lengths[i] - sum(lengths[k] for k, m in enumerate(meshes) if m.inside == mesh.name)
        masses[names.index(mesh.material)] += mesh.density * np.maximum(own, 0.0)
    return masses


def mesh_line_integrals(
    meshes: list[Mesh], protocol: Protocol, trajectory: xr.Dataset, *, n_basis: int | None = None
) -> xr.Dataset:
    """Cone-beam scan of triangle meshes: what :func:`twinlab.ct.line_integrals` gives for voxels and solids.

    Parameters
    ----------
    meshes : list of Mesh
    protocol : Protocol
        Of a flat panel without bowtie.
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`, of an upright gantry and a focal spot at rest.
    n_basis : int, optional

    Returns
    -------
    Dataset
        ``path`` (basis, view, row, channel) [g/cm2] and all that :func:`twinlab.ct.acquire` asks for.

    Raises
    ------
    InputError
        An arc detector, a bowtie, a tilted gantry, a flying focal spot; or see :func:`mesh_lengths_cm`.
    """
    check(trajectory, "view_angle", "source_z", where="mesh_line_integrals")
    if trajectory.attrs.get("gantry_tilt_deg") or "focal_shift" in trajectory:
        refuse("mesh_line_integrals", "an upright gantry and a focal spot at rest", "another trajectory")
    row_mm, meshes = protocol.row_positions_mm(), checked(meshes)
    scanner = protocol.scanner
    opened = scanner.detector.model_copy(update={"n_rows": row_mm.size})
    seen = protocol.model_copy(update={"scanner": scanner.model_copy(update={"detector": opened})})
    centre = (float(trajectory.attrs["isocentre_x_mm"]), float(trajectory.attrs["isocentre_y_mm"]))
    setups = [
        on_gantry(seen, view_angle_deg=math.degrees(b), source_z_mm=float(z), isocentre_mm=centre)
        for b, z in zip(trajectory["view_angle"].to_numpy(), trajectory["source_z"].to_numpy(), strict=True)
    ]
    names = _materials(meshes)
    basis = scan_basis(names, protocol, n_basis=n_basis)
    shape = (basis.basis_mu.shape[0], len(setups), row_mm.size, scanner.detector.n_channels)
    path = np.empty(shape, np.float32)
    engine = _scene(meshes, np.array([s.source_mm.array for s in setups]))
    for i, setup in enumerate(setups):
        masses = _masses(meshes, names, _lengths(engine, len(meshes), setup))
        path[:, i] = np.einsum("mk,mrc->krc", basis.coefficients, masses)
    coords = {"row": row_mm, "u": ("channel", scanner.channel_positions_mm())}
    n_view = len(setups)
    return xr.Dataset(
        {
            "path": label("path", path, coords),
            "basis_mu": label("basis_mu", basis.basis_mu, {"energy": basis.energy_kev}),
            "mixing": label("mixing", basis.mixing, {"mixed_material": list(basis.material_names)}),
            **trajectory.data_vars,
            "row_lo": label("row_lo", np.zeros(n_view, np.int64)),
            "row_hi": label("row_hi", np.full(n_view, row_mm.size)),
        },
        attrs={
            **trajectory.attrs,
            "scanner": scanner.key,
            "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
            "source_to_detector_mm": scanner.source_to_detector_mm,
            "row_pitch_mm": scanner.detector.row_pitch_mm,
            "basis_error": basis.error,
            "phantom": ", ".join(mesh.name for mesh in meshes),
        },
    )
