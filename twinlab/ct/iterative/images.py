"""Iterative reconstruction of CT images: start, weights, iterations, history."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from twinlab.ct import recon
from twinlab.ct.gantry import geometry_of
from twinlab.ct.iterative import priors, solvers
from twinlab.ct.iterative.operator import System, axis, readings, system
from twinlab.ct.iterative.slices import at_heights, averages, voxel_centres
from twinlab.ct.provenance import image_attrs
from twinlab.kernels.device import Device, host, namespace, resolve
from twinlab.schema import label, refuse

Array = NDArray[Any]
Method = Literal["pwls", "os-sart", "sirt", "cgls"]
ITERATIONS = {"pwls": 20, "os-sart": 5, "sirt": 50, "cgls": 15}
SUBSETS = {"pwls": 8, "os-sart": 20}
_LEAST_VIEWS = 8  # of a subset
_OUTSIDE = 0.02  # mean line integral, 1 mm of water, above which the grid does not hold the body
_FAINT = 0.01  # of the median strength: the least that a voxel's penalty has


def reconstruct(
    projections: xr.Dataset,
    protocol: Any = None,
    *,
    grid: Mapping[str, Any],
    slice_thickness_mm: float | None = None,
    method: Method = "pwls",
    prior: str = "huber",
    beta: float = 1.0,
    delta_hu: float = 20.0,
    iterations: int | None = None,
    subsets: int | None = None,
    relaxation: float = 1.0,
    nonnegative: bool = True,
    initial: xr.DataArray | Literal["fbp", "zero"] = "fbp",
    device: Device = "auto",
    progress: bool = True,
) -> xr.DataArray:
    """Reconstruct CT numbers iteratively.

    ``Ctrl-C`` ends the iterations and hands the last whole one back, with attr ``interrupted`` = 1.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire`: ``projection`` and, for "pwls", its ``variance`` (view, row, channel).
    protocol : Protocol, optional
        Gives ``slice_thickness_mm`` where it is not given.
    grid : mapping
        ``z``, ``y``, ``x``: even, ascending voxel centres [mm]. It must hold the whole body (and table) in the
        plane; along z it is padded and cut again by itself.
    slice_thickness_mm : float, optional
        Slices are means over this length along z, as the slice profile of :func:`twinlab.ct.reconstruct` has this
        width; voxels are as high as the distance of the slices, or a whole part of it where slices are thinner.
        Without protocol: the distance of the slices, or for a single one a detector row at the isocentre.
    method : str
        "pwls": penalised least squares, readings weighted by their inverse variance. "sirt", "os-sart":
        algebraic. "cgls": unweighted least squares by conjugate gradients. Only "pwls" has a prior; the others
        are smoothed by their early end.
    prior : str
        "huber", "fair", "hyperbola" (edge-preserving), "quadratic", "tv" or "none".
    beta : float
        Strength of the prior, without unit: 1 gives a difference between two neighbours about the weight that
        the readings give one voxel by itself, whatever dose, number of views and voxel size.
    delta_hu : float
        Differences up to about this count as noise, greater ones as edges [HU]. A greater ``beta`` with a smaller
        ``delta_hu`` (3 and 5 HU) lowers noise much more, at the cost of faint structure.
    iterations, subsets : int, optional
        Defaults in ``ITERATIONS`` and ``SUBSETS``; fewer subsets where they would have less than 8 views.
        One subset makes "pwls" exact and monotone.
    relaxation : float
        Of "sirt" and "os-sart", between 0 and 2.
    nonnegative : bool
        No attenuation below 0; "cgls" cannot.
    initial : DataArray (z, y, x) in HU on ``grid``, "fbp" or "zero"
    device : "auto", "cpu" or "cuda"
        Where the operator and its arrays are; "auto": a CUDA device where there is one. Images of both differ by
        rounding of ray lengths (``docs/methods/gpu.md``).
    progress : bool
        Say the expected time, and show a bar.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x), units HU
        All settings in attrs, with what is known of the scan (:func:`twinlab.ct.provenance.image_attrs`), ``cost``
        after each iteration, ``cost_exact`` (0: summed over subsets as they came), ``seconds``, ``interrupted``.

    Raises
    ------
    InputError
        A setting or the grid cannot be used, the body reaches beyond the grid, variances are missing.

    References
    ----------
    See :mod:`twinlab.ct.iterative.solvers` and ``docs/methods/iterative.md``.
    """
    n, n_subsets = _settings(method, prior, beta, delta_hu, iterations, subsets, relaxation)
    place = resolve(device, where="iterative")
    begin = time.perf_counter()
    thickness, scan = _slices(projections, protocol, grid, slice_thickness_mm, place)
    n_subsets = max(1, min(n_subsets, scan.views.size // _LEAST_VIEWS))
    data, weight = map(scan.put, readings(projections, scan, weighted=method == "pwls"))
    image = scan.put(_start(initial, projections, grid, scan, place))
    row_sums, column_sums, seconds = _first_look(scan, data, weight)
    if progress:
        words = f"{method}: {n} iterations of {scan.views.size} views, about {n * seconds:.0f} s"
        tqdm.write(words + "; Ctrl-C keeps the last")
    penalty = (
        _penalty(prior, beta, delta_hu / 1000.0, scan, weight, column_sums) if method == "pwls" else None
    )
    steps = _steps(method, scan, data, weight, image, penalty, n_subsets, relaxation, nonnegative, row_sums)
    image, cost, interrupted = _run(steps, image, n, progress, method)
    return _labelled(
        host(image),
        scan,
        np.atleast_1d(np.asarray(grid["z"], float)),
        thickness,
        **image_attrs(projections, geometry_of(projections, where="iterative")),
        kernel=f"{method}-{prior}" if method == "pwls" else method,
        method=method,
        **({"prior": prior, "beta": float(beta), "delta_hu": float(delta_hu)} if method == "pwls" else {}),
        **({"relaxation": float(relaxation)} if method in ("sirt", "os-sart") else {}),
        iterations=len(cost),
        subsets=n_subsets,
        nonnegative=int(nonnegative and method != "cgls"),
        initial=initial if isinstance(initial, str) else "given",
        padded_slices=scan.z.size - (scan.wanted.stop - scan.wanted.start),
        cost=cost,
        cost_exact=int(n_subsets == 1),
        seconds=round(time.perf_counter() - begin, 3),
        interrupted=int(interrupted),
    )


def _settings(
    method: str, prior: str, beta: float, delta_hu: float, iterations: int | None, subsets: int | None,
    relaxation: float,
) -> tuple[int, int]:  # fmt: skip
    """Number of iterations and of subsets; everything that can be refused without the data is."""
    if method not in ITERATIONS:
        refuse("iterative: method", " or ".join(ITERATIONS), repr(method))
    if prior not in priors.NAMES:
        refuse("iterative: prior", " or ".join(priors.NAMES), repr(prior))
    if not beta >= 0:
        refuse("iterative: beta", "a number from 0", beta)
    if not delta_hu > 0:
        refuse("iterative: delta_hu", "a number above 0", delta_hu)
    if not 0 < relaxation < 2:
        refuse("iterative: relaxation", "a number between 0 and 2", relaxation)
    n = ITERATIONS[method] if iterations is None else iterations
    if n < 1 or n != int(n):
        refuse("iterative: iterations", "a whole number from 1", iterations)
    n_subsets = SUBSETS.get(method, 1) if subsets is None else subsets
    if n_subsets < 1 or n_subsets != int(n_subsets):
        refuse("iterative: subsets", "a whole number from 1", subsets)
    if n_subsets > 1 and method not in SUBSETS:
        refuse(f"iterative: subsets of {method!r}", "1", subsets)
    return int(n), int(n_subsets)


def _slices(
    projections: xr.Dataset, protocol: Any, grid: Mapping[str, Any], thickness: float | None, device: Device
) -> tuple[float, System]:
    """Thickness of the slices [mm] and the operator for voxels that fill them."""
    if thickness is None and protocol is not None:
        thickness = protocol.slice_thickness_mm
    if thickness is None:
        scan = system(projections, grid, device=device)
        return scan.spacing_mm[0], scan
    if not thickness > 0:
        refuse("iterative: slice_thickness_mm", "a number above 0", thickness)
    z, step = axis(grid, "z", float(thickness))
    voxel_z, height = voxel_centres(z, step, float(thickness))
    fine = {**grid, "z": voxel_z}
    return float(thickness), system(projections, fine, slice_mm=height, device=device)


def _start(
    initial: xr.DataArray | str,
    projections: xr.Dataset,
    grid: Mapping[str, Any],
    scan: System,
    device: Device,
) -> Array:
    """First image in units of water on the padded grid; slices beyond the wanted ones repeat the outermost."""
    z = np.atleast_1d(np.asarray(grid["z"], float))
    inner = (z.size, *scan.shape[1:])
    if isinstance(initial, str) and initial == "zero":
        return np.zeros(scan.shape, np.float32)
    if isinstance(initial, str):
        if initial != "fbp":
            refuse("iterative: initial", "an image, 'fbp' or 'zero'", repr(initial))
        thickness = max(scan.spacing_mm[0], scan.row_mm)
        found = recon.reconstruct(
            projections, grid=grid, kernel="smooth", slice_thickness_mm=thickness, device=device
        )
        hu = found.to_numpy()
    else:
        hu = np.asarray(initial, np.float32)
        if hu.shape != inner:
            refuse("iterative: initial", f"an image of shape {inner}, as the grid", hu.shape)
    water = np.maximum(np.nan_to_num(1.0 + hu / 1000.0, nan=0.0), 0.0).astype(np.float32)
    return at_heights(water, z, scan.z)


def _first_look(scan: System, data: Array, weight: Array) -> tuple[Array, Array, float]:
    """Row sums and column sums of the operator, seconds of an iteration; refuses a body beyond the grid."""
    few, xp = slice(0, 1), namespace(data)
    one = scan.put(np.ones(scan.shape))
    scan.adjoint(scan.forward(one, few), few)  # compiles, or loads what was compiled
    begin = time.perf_counter()
    row_sums = scan.forward(one)
    column_sums = scan.adjoint(xp.astype(weight > 0, xp.float32))
    float(xp.sum(column_sums))  # waits for the device
    seconds = time.perf_counter() - begin
    missing = (weight > 0) & (row_sums <= 0.0)
    n_missing = int(xp.sum(xp.astype(missing, xp.int64)))
    beyond = float(xp.sum(xp.where(missing, data, xp.zeros_like(data)))) / n_missing if n_missing else 0.0
    if beyond > _OUTSIDE:
        refuse(
            "iterative: grid", "a grid that holds the whole body", f"line integrals of {beyond:.2g} beside it"
        )
    return row_sums, column_sums, seconds


def _penalty(
    name: str, beta: float, delta: float, scan: System, weight: Array, column_sums: Array
) -> priors.Prior:
    """Prior whose strength follows the certainty of each voxel, so that resolution is about even.

    ``A'W1 / A'1`` is the mean weight of the rays through a voxel [Fessler and Rogers 1996, eq. 22], and
    ``A'1`` times a voxel's width of water about the diagonal of ``A'A``.
    """
    xp = namespace(weight)
    certainty = scan.adjoint(weight) / xp.maximum(column_sums, 1e-6 * xp.max(column_sums))
    sums = host(column_sums)  # medians are not in the array standard
    middle = float(np.median(host(certainty)[sums > 0]))
    inner = sums[scan.wanted]
    diagonal = float(np.median(inner[inner > 0])) * scan.mu_water_per_mm * scan.spacing_mm[2]
    strength = (beta * diagonal) * xp.clip(certainty, min=_FAINT * middle)
    return priors.make(name, strength, delta=delta, spacing_mm=scan.spacing_mm)


def _steps(
    method: str, scan: System, data: Array, weight: Array, image: Array, penalty: priors.Prior | None,
    subsets: int, relaxation: float, nonnegative: bool, row_sums: Array,
) -> Iterator[solvers.Step]:  # fmt: skip
    problem = (scan.forward, scan.adjoint, data, weight, image)
    if method == "cgls":
        return solvers.cgls(*problem)
    common: dict[str, Any] = {"subsets": subsets, "nonnegative": nonnegative, "row_sums": row_sums}
    if penalty is None:
        return solvers.sart(*problem, relaxation=relaxation, **common)
    return solvers.pwls(*problem, prior=penalty, **common)


def _run(
    steps: Iterator[solvers.Step], image: Array, n: int, progress: bool, name: str
) -> tuple[Array, list[float], bool]:
    """Iterate; an interrupt keeps the last whole iteration."""
    cost: list[float] = []
    with tqdm(total=n, desc=name, disable=not progress, leave=False) as bar:
        try:
            for _ in range(n):
                image, value = next(steps)
                cost.append(value)
                bar.update()
                bar.set_postfix(cost=f"{value:.4g}")
        except KeyboardInterrupt:
            tqdm.write(f"{name}: interrupted after {len(cost)} of {n} iterations; the last is kept")
            return image, cost, True
    return image, cost, False


def _labelled(image: Array, scan: System, z: Array, thickness: float, **attrs: Any) -> xr.DataArray:
    slices = averages(image, scan.z, scan.spacing_mm[0], z, thickness)
    hu = (1000.0 * slices - 1000.0).astype(np.float32)
    return label("hu", hu, {"z": z, "y": scan.y, "x": scan.x}, slice_thickness_mm=thickness, **attrs)
