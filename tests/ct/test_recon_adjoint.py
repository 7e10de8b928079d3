"""The transpose, the noise it predicts, the rows that are needed, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from analytic_scan import Ellipsoid, project, scan

from twinlab.ct.rebin import needed_rows
from twinlab.ct.recon import adjoint, reconstruct
from twinlab.schema import InputError, label

SMALL: dict[str, Any] = {
    "views": 90,
    "channels": 120,
    "channel_pitch": 4.0,
    "rows": 12,
    "row_pitch": 2.5,
    "isocentre": (3.0, -5.0),
}
KINDS: list[dict[str, Any]] = [
    {"mode": "helical", "pitch": 0.98},
    {"mode": "helical", "pitch": 1.45, "reverse": True},
    {"mode": "axial", "steps": (-6.0, 6.0)},
    {"mode": "axial", "flat": True},
]
GRID = {"z": np.array([-1.0, 1.5, 3.5]), "y": 20 + np.arange(6) * 3.0, "x": -50 + np.arange(7) * 2.5}


def noisy(geometry: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    shape = tuple(geometry.sizes[d] for d in ("view", "row", "channel"))
    return geometry.assign(projection=label("projection", rng.standard_normal(shape)))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_transpose_is_exact(kind: dict[str, Any], dtype: Any, tolerance: float) -> None:
    rng = np.random.default_rng(3)
    data = noisy(scan(**SMALL, **kind), rng)
    options = {"grid": GRID, "kernel": "sharp", "slice_thickness_mm": 2.0, "dtype": dtype}
    image = reconstruct(data, **options).values.astype(float) + 1000.0
    template = rng.standard_normal(image.shape)
    rays = adjoint(template, data.drop_vars("projection"), **options).astype(float)
    scale = np.linalg.norm(image) * np.linalg.norm(template)
    # demanded: 1e-5 in single, 1e-10 in double precision
    assert abs((image * template).sum() - (rays * data["projection"].values).sum()) < tolerance * scale


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_only_needed_rows_are_read(kind: dict[str, Any]) -> None:
    geometry = scan(**SMALL, **kind)
    data = noisy(geometry, np.random.default_rng(4))
    lo, hi = needed_rows(geometry, grid=GRID, slice_thickness_mm=2.0)
    row = np.arange(SMALL["rows"])
    needed = (row >= lo[:, None]) & (row < hi[:, None])
    assert 0.05 < needed.mean() < 0.8
    holes = data.copy()
    holes["projection"] = data["projection"].where(xr.DataArray(needed, dims=("view", "row")))
    images = [reconstruct(d, grid=GRID, slice_thickness_mm=2.0).values for d in (data, holes)]
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("kind", [KINDS[0], {"mode": "axial", "steps": (-4.0, 4.0)}], ids=str)
def test_predicted_variance_is_that_of_realisations(kind: dict[str, Any]) -> None:
    n = 150
    rng = np.random.default_rng(11)
    geometry = scan(views=60, channels=60, channel_pitch=8.0, rows=6, row_pitch=3.0, **kind)
    grid = {"z": [0.0, 2.0], "y": np.arange(4) * 5.0, "x": np.arange(4) * 5.0}
    pixel, blob = np.zeros((2, 4, 4)), np.ones((2, 4, 4))
    pixel[0, 1, 2] = 1.0
    spread = 1.0 + np.linspace(0, 1, 60)  # standard deviation that differs over channels
    responses = []
    for _ in range(n):
        data = noisy(geometry, rng)
        data["projection"] = data["projection"].copy(data=0.01 * spread * data["projection"].values)
        hu = reconstruct(data, grid=grid).values.astype(float)
        responses.append([(pixel * hu).sum(), (blob * hu).sum()])
    for i, template in enumerate((pixel, blob)):
        predicted = (adjoint(template, geometry, grid=grid).astype(float) ** 2 * (0.01 * spread) ** 2).sum()
        # sampling of a variance: relative sd sqrt(2 / 149) = 12 %; three of them
        assert np.var([r[i] for r in responses], ddof=1) == pytest.approx(predicted, rel=0.36)


def test_inputs_that_cannot_be_used_are_refused() -> None:
    good = project(scan(**SMALL), [Ellipsoid((0, 0, 0), (20, 20, 20))])
    cases: list[tuple[xr.Dataset, dict[str, Any], str]] = [
        (good, {"kernel": "bone"}, "smooth"),
        (good, {"slice_thickness_mm": 0.3}, "no thinner than a detector row"),
        (good, {"grid": {**GRID, "z": [0.0, 500.0]}}, "inside the scanned range"),
        (good, {"grid": {"z": [0.0], "y": [0.0]}}, "coordinates z, y, x"),
        (good, {"grid": {**GRID, "x": [1.0, 0.0]}}, "ascending"),
        (good, {"grid": {**GRID, "x": [0.0, 600.0]}}, "within"),
        (good.assign_attrs(views_per_rotation=7), {}, "8 views"),
        (good, {"truncation": "mend"}, "extrapolate, refuse, ignore"),
        (good.isel(view=slice(0, 0)), {}, "at least one view"),
        (good.assign_attrs(views_per_rotation=92), {}, "even steps"),
        (good.assign_attrs(mode="topogram"), {}, "helical"),
        (good.assign_attrs(mu_water_per_mm=0.0), {}, "mu_water_per_mm"),
        (good.drop_vars("source_z"), {}, "source_z"),
        (good.assign(source_z=good["source_z"] ** 3), {}, "units|constant feed"),
    ]
    for data, change, message in cases:
        with pytest.raises(InputError, match=message):
            reconstruct(data, **{"grid": GRID, **change})
    with pytest.raises(InputError, match="shape"):
        adjoint(np.ones((1, 1, 1)), good, grid=GRID)
    axial = scan(**SMALL, mode="axial")
    with pytest.raises(InputError, match="zero where"):
        adjoint(np.ones((1, 6, 7)), axial, grid={**GRID, "z": [10.0]})
    with pytest.raises(InputError, match="half a rotation and the fan"):
        reconstruct(noisy(axial.isel(view=slice(0, 45)), np.random.default_rng(0)), grid=GRID)
