"""How far every ray of a panel runs in closed triangle meshes, by gVXR (extra ``gvxr``).

gVXR projects surfaces by OpenGL, without a screen through EGL. Only its path lengths are used; spectrum,
detector and noise are those of every other radiograph (:mod:`twinlab.ct.radiography`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.mesh import Mesh, checked, refined
from twinlab.schema import refuse

if TYPE_CHECKING:
    from twinlab.ct.stand import Radiography

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
    gvxr = _engine()
    gvxr.removePolygonMeshesFromXRayRenderer()
    gvxr.removePolygonMeshesFromSceneGraph()
    # before the meshes: a spectrum set after them would leave the first one transparent
    gvxr.setMonoChromatic(_ANY_KEV, "keV", 1)
    right, up, _ = setup.axes
    channel, row = setup.cells_mm()
    middle = setup.panel_mm.array + channel.mean() * right + row.mean() * up
    gvxr.usePointSource()
    gvxr.setSourcePosition(*setup.source_mm.array.tolist(), "mm")
    gvxr.setDetectorPosition(*middle.tolist(), "mm")
    gvxr.setDetectorUpVector(*up.tolist())
    gvxr.setDetectorRightVector(*right.tolist())
    gvxr.setDetectorNumberOfPixels(channel.size, row.size)
    gvxr.setDetectorPixelSize(setup.detector.channel_pitch_mm, setup.detector.row_pitch_mm, "mm")
    lengths = np.empty((len(meshes), row.size, channel.size))
    for i, mesh in enumerate(meshes):
        mesh = _fine_enough(mesh, setup)
        label = f"mesh {i}"
        corners = np.ascontiguousarray(mesh.triangles, np.uint32).ravel()
        gvxr.makeTriangularMesh(label, np.ascontiguousarray(mesh.vertices, float).ravel(), corners, "mm")
        gvxr.setLinearAttenuationCoefficient(label, 1.0, "cm-1")
        gvxr.addPolygonMeshAsInnerSurface(label)
        lengths[i] = np.asarray(gvxr.computeLBuffer(label), float)
    return np.maximum(lengths, 0.0)


def _fine_enough(mesh: Mesh, setup: Radiography) -> Mesh:
    """Triangles so small that what gVXR interpolates in them, the distance from the source, is nearly linear.

    The distance to points of a flat triangle with edges up to e, seen from R, bends by e^2 / (6 R) at most.
    """
    source = setup.source_mm.array
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    nearest = float(np.linalg.norm(np.maximum(np.maximum(low - source, source - high), 0.0)))
    if nearest <= 0.0:
        refuse(f"mesh {mesh.name!r}", "a source outside the mesh's box", source.tolist())
    return refined(mesh, math.sqrt(6.0 * nearest * BEND_MM))


def mesh_masses(meshes: list[Mesh], setup: Radiography) -> tuple[list[str], Array]:
    """Materials of some meshes and the mass of each on every ray, shape (material, row, channel), g/cm2.

    Outside the meshes there is vacuum. A mesh displaces the matter of the one that it is ``inside``.

    Raises
    ------
    InputError
        See :func:`mesh_lengths_cm`.
    """
    lengths = mesh_lengths_cm(meshes, setup)
    # air, of no mass here, is in the list so that the energy quadrature is fitted to thin rays too
    names = list(dict.fromkeys(["air", *(mesh.material for mesh in meshes)]))
    masses = np.zeros((len(names), *lengths.shape[1:]))
    for i, mesh in enumerate(meshes):
        own = lengths[i] - sum(lengths[k] for k, m in enumerate(meshes) if m.inside == mesh.name)
        masses[names.index(mesh.material)] += mesh.density * np.maximum(own, 0.0)
    return names, masses
