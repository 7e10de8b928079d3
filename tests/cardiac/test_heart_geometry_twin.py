"""Voxel twin, fields back on the mesh, scar."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac.geometry import (
    add_scar,
    aha_segments,
    coordinates,
    fibres,
    idealised_lv,
    to_mesh,
    to_voxels,
)
from twinlab.cardiac.geometry.tets import volumes
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def heart():
    return coordinates(fibres(idealised_lv(cavity_ml=60, wall_ml=90, h_mm=4.0, layers=2)))


@pytest.fixture(scope="module")
def twin(heart):
    return to_voxels(add_scar(heart, segments=[7, 8], transmurality=0.5), spacing_mm=1.5)


def test_voxels_hold_the_muscle(heart, twin):
    volume = float((twin["wall"] > 0).sum()) * 1.5**3 / 1000
    # A voxel counts whole by its centre: about sqrt(boundary voxels) of them at random, 0.3 % of all.
    assert volume == pytest.approx(heart.attrs["wall_ml"], rel=0.005)
    steps = [np.diff(twin[a].values) for a in "zyx"]
    assert all(np.allclose(s, 1.5) for s in steps)
    assert twin["fibre"].dims == ("z", "y", "x", "axis")
    assert twin["wall"].dtype == np.uint8


def test_fibres_on_voxels_are_those_of_the_mesh(heart, twin):
    inside = twin["wall"].values > 0
    fibre = twin["fibre"].values
    assert np.allclose(np.linalg.norm(fibre[inside], axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(twin["sheet"].values[inside], axis=1), 1, atol=1e-5)
    assert np.abs((fibre * twin["sheet"].values).sum(-1)[inside]).max() < 1e-5
    assert (fibre[~inside] == 0).all()
    # Depth and angle: 60 - 120 depth, signless, about the normal of the ellipsoid through the voxel.
    depth = twin["transmural"].values
    k, j, i = np.nonzero(inside & (np.abs(twin["z"].values) < 10)[:, None, None])
    x, y = twin["x"].values[i], twin["y"].values[j]
    around = np.stack([-y, x], 1) / np.hypot(x, y)[:, None]
    got = np.abs((fibre[k, j, i, :2] * around).sum(1))
    wanted = np.abs(np.cos(np.radians(60 - 120 * depth[k, j, i])))
    assert np.sqrt(((got - wanted) ** 2).mean()) < 0.05  # two elements across carry 60 degrees each


def test_coordinates_on_voxels(twin):
    inside = twin["wall"].values > 0
    for name in ("transmural", "apicobasal", "rotational"):
        assert np.isfinite(twin[name].values[inside]).all()
        assert np.isnan(twin[name].values[~inside]).all()
    assert twin["apicobasal"].values[inside].min() >= 0
    assert twin["apicobasal"].values[inside].max() <= 1


def test_a_linear_field_comes_back_on_the_mesh(heart, twin):
    wide = to_voxels(heart, spacing_mm=1.5, margin_mm=1.5)
    field = (wide["x"] - 2 * wide["z"]).broadcast_like(wide["wall"]).transpose("z", "y", "x")
    points = heart["point"].values
    exact = points[:, 0] - 2 * points[:, 2]
    assert np.abs(to_mesh(field, heart).values - exact).max() < 1e-9
    some = field.where(twin["wall"] > 0)
    found = to_mesh(some, heart)
    assert found.dims == ("node",)
    # On the surface values come from the nearest filled voxel, up to sqrt(3) / 2 voxels off, times the slope.
    assert np.abs(found.values - exact).max() < np.sqrt(5) * 1.5 * np.sqrt(3)


def test_element_of_each_voxel_is_the_right_one(heart):
    """Numbers of the elements, written as scar, come back on their own centres' voxels."""
    centres = heart["point"].values[heart["tet"].values].mean(axis=1)
    marked = heart.assign(scar=heart["scar"].copy(data=(centres[:, 0] > 0).astype(np.uint8) * 2))
    twin = to_voxels(marked, spacing_mm=2.0)
    inside = twin["wall"].values > 0
    side = np.broadcast_to(twin["x"].values > 0, inside.shape)
    agree = ((twin["scar"].values == 2) == side)[inside & (np.abs(twin["x"].values) > 3)]
    assert agree.all()


def test_scar_fills_its_segments_to_its_depth(heart):
    marked = add_scar(heart, segments=[1, 7], transmurality=0.5, border_mm=4.0)
    scar = marked["scar"].values
    depth = heart["transmural"].values[heart["tet"].values].mean(axis=1)
    segment = aha_segments(heart).values
    inside = np.isin(segment, [1, 7]) & (depth <= 0.5)
    assert np.array_equal(scar == 2, inside)
    assert (scar == 1).any()
    volume = volumes(heart["point"].values, heart["tet"].values.astype(np.int64))
    assert marked.attrs["scar_ml"] == pytest.approx(volume[inside].sum() / 1000)
    assert marked.attrs["scar_share"] == pytest.approx(volume[inside].sum() / volume.sum())
    assert (add_scar(heart, segments=[1], border_mm=0)["scar"].values != 1).all()
    assert (heart["scar"].values == 0).all()  # the heart given is left alone


def test_scar_from_labels(heart):
    low, high = heart["point"].values.min(axis=0), heart["point"].values.max(axis=0)
    axes = {a: np.arange(low[2 - k] - 1, high[2 - k] + 2, 1.0) for k, a in enumerate("zyx")}
    labels = xr.DataArray(np.zeros([len(axes[a]) for a in "zyx"], np.uint8), coords=axes, dims=list("zyx"))
    labels = xr.where(labels["x"] > 15, 2, xr.where(labels["x"] > 10, 1, labels)).transpose("z", "y", "x")
    marked = add_scar(heart, labels=labels)
    x = heart["point"].values[heart["tet"].values].mean(axis=1)[:, 0]
    expected = np.where(x > 15, 2, np.where(x > 10, 1, 0))
    assert (marked["scar"].values == expected)[(np.abs(x - 15) > 1) & (np.abs(x - 10) > 1)].all()
    with pytest.raises(InputError, match="cover the heart"):
        add_scar(heart, labels=labels.isel(z=slice(0, 20)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either segments or labels"),
        ({"segments": [18]}, "segments from 1 to 17"),
        ({"segments": [1], "transmurality": 0}, "transmurality"),
        ({"segments": [1], "border_mm": -1}, "border_mm"),
        ({"segments": [1], "transmurality": 0.001}, "at least one element"),
    ],
)
def test_scars_that_are_none_are_refused(heart, settings, message):
    with pytest.raises(InputError, match=message):
        add_scar(heart, **settings)


def test_grids_that_are_none_are_refused(heart, twin):
    for spacing in (0.0, float("nan"), -1.0):
        with pytest.raises(InputError, match="spacing_mm above 0"):
            to_voxels(heart, spacing_mm=spacing)
    with pytest.raises(InputError, match="300,000,000 voxels"):
        to_voxels(heart, spacing_mm=0.05)
    empty = twin["transmural"].where(twin["transmural"] > 5)
    with pytest.raises(InputError, match="NaN everywhere"):
        to_mesh(empty, heart)
    with pytest.raises(InputError, match="dims"):
        to_mesh(twin["fibre"].isel(z=0), heart)
