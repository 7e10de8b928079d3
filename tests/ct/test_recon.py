"""Reconstruction of exact projections of ellipsoids."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from analytic_scan import Ellipsoid, project, scan
from scipy.special import j0, j1

from twinlab.ct.export import write_dicom
from twinlab.ct.export.netcdf import read_image
from twinlab.ct.filters import Kernel, fit_kernel, mtf
from twinlab.ct.recon import adjoint, needed_rows, reconstruct
from twinlab.phantom import read_series
from twinlab.phantom.body import PADDED_BELOW_HU, PADDING_HU
from twinlab.phantom.files import write_netcdf
from twinlab.scanner import load_protocol
from twinlab.schema import InputError, label

HELICAL: dict[str, Any] = {"mode": "helical", "pitch": 0.98}
SCANS: list[dict[str, Any]] = [HELICAL, {"mode": "axial"}, {"mode": "axial", "flat": True}]


@pytest.mark.parametrize("kind", [*SCANS, {"mode": "helical", "pitch": 1.375}], ids=str)
@pytest.mark.parametrize("kernel", ["standard", "ramp"])
def test_water_cylinder_reads_zero_and_is_flat(kind: dict[str, Any], kernel: str) -> None:
    data = project(scan(**kind), [Ellipsoid((0, 0, 0), (100, 100, 1e5))])
    grid = {"z": [-2.0, 0.0, 2.0], "y": np.arange(-120, 121, 6.0), "x": np.arange(-120, 121, 6.0)}
    hu = reconstruct(data, grid=grid, kernel=kernel).values
    r = np.hypot(grid["x"], grid["y"][:, None])
    # demanded: mean within 0.5 HU, flat within 1 HU (channels of 1.1 mm at the isocentre)
    assert hu[:, r < 85].mean() == pytest.approx(0.0, abs=0.5)
    assert hu[:, r < 25].mean() - hu[:, (r > 65) & (r < 85)].mean() == pytest.approx(0.0, abs=1.0)
    assert hu[:, r > 112].mean() == pytest.approx(-1000.0, abs=1.0)


@pytest.mark.parametrize("pitch", [0.5, 0.98, 1.375, 1.5])
def test_helix_of_any_pitch_images_a_sphere_in_its_place(pitch: float) -> None:
    centre = (40.0, -25.0, 3.3)
    geometry = scan(
        pitch=pitch, views=360, channels=300, channel_pitch=1.6, rows=32, row_pitch=1.2, z_range=(-12, 18),
        isocentre=(5.0, -3.0), reverse=pitch == 0.5,
    )  # fmt: skip
    body = [Ellipsoid((0, 0, 0), (110, 90, 1e5)), Ellipsoid(centre, (12, 12, 12), 0.1)]
    axes = {
        "z": np.arange(-12.0, 19.0),
        "y": centre[1] + np.arange(-30.0, 31.0, 2),
        "x": centre[0] + np.arange(-30.0, 31.0, 2),
    }
    hu = reconstruct(project(geometry, body), grid=axes, kernel="smooth").values.astype(float)
    z, y, x = np.meshgrid(axes["z"] - centre[2], axes["y"] - centre[1], axes["x"] - centre[0], indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    assert np.isfinite(hu).all()
    assert hu[r < 8].mean() == pytest.approx(100.0, abs=0.5)
    outside = hu[(r > 17) & (np.hypot(x + centre[0], (y + centre[1]) * 1.22) < 95)]
    assert outside.mean() == pytest.approx(0.0, abs=0.2)
    assert outside.std() < 0.5  # HU; measured 0.1 to 0.2: helical artefacts of a 100 HU sphere
    weight = np.where(r < 18, hu, 0.0)
    # demanded in z: 0.1 mm
    for offset in (z, y, x):
        assert (weight * offset).sum() / weight.sum() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("kind", SCANS, ids=str)
def test_objects_come_out_at_their_place(kind: dict[str, Any]) -> None:
    """Three balls placed without symmetry; turning or mirroring the image anywhere would move one."""
    balls = [(30.0, -10.0, 0.0), (-45.0, -20.0, 2.0), (10.0, 50.0, -2.0)]
    geometry = scan(views=240, channels=160, rows=24, isocentre=(4.0, 9.0), z_range=(-8, 8), **kind)
    data = project(geometry, [Ellipsoid(c, (5, 5, 5)) for c in balls])
    axis = np.arange(-8.0, 8.1, 2.0)
    for c in balls:
        z = c[2] + np.arange(-4.0, 4.1, 1.0)
        density = (
            reconstruct(data, grid={"z": z, "y": c[1] + axis, "x": c[0] + axis}, kernel="smooth") + 1000.0
        )
        for i, name in enumerate("xyz"):
            centroid = float((density * density[name]).sum() / density.sum())
            # edges of 1 mm rows and 1.1 mm channels, z cut at the ball's poles
            assert centroid == pytest.approx(c[i], abs=0.15), name


def test_axial_steps_join_and_what_no_step_sees_is_missing() -> None:
    steps = (-7.0, 7.0)  # rows cover 17.5 mm at the isocentre
    data = project(scan(mode="axial", steps=steps, channels=160), [Ellipsoid((0, 0, 0), (60, 60, 1e5))])
    axis = np.array([-30.0, 0.0, 30.0])
    hu = reconstruct(data, grid={"z": np.arange(-11.0, 11.1, 1.0), "y": axis, "x": axis}).values
    assert hu == pytest.approx(np.zeros_like(hu), abs=1.0)
    with pytest.raises(InputError, match="17 mm outside"):
        reconstruct(data, grid={"z": [0.0, 17.0], "y": axis, "x": axis})
    wide = np.array([0.0, 80.0])  # at the rim the rays reach less high than on the axis
    rim = reconstruct(data, grid={"z": [16.2], "y": wide, "x": wide}).values[0]
    assert np.isnan(rim[1, 1])
    assert np.isfinite(rim[0, 0])


def wire_mtf(
    data: Any, centre: tuple[float, float], radius: float, kernel: str | Kernel, frequency: np.ndarray
) -> np.ndarray:
    """Absolute MTF of a wire in air: Hankel transform of its image over that of the wire."""
    step = 0.15
    axis = (np.arange(81) - 40) * step
    grid = {"z": [0.0], "y": centre[1] + axis, "x": centre[0] + axis}
    density = reconstruct(data, grid=grid, kernel=kernel).values[0] + 1000.0
    r = np.hypot(axis, axis[:, None])
    image = np.array([(density * j0(2 * math.pi * f * r))[r < 6].sum() for f in frequency]) * step**2
    q = 2 * math.pi * frequency * radius
    return image / (1000.0 * math.pi * radius**2 * 2 * j1(q) / q)


def test_wire_has_the_mtf_of_the_kernel() -> None:
    centre, radius = (20.0, -10.0), 0.4
    geometry = scan(mode="axial", views=720, channels=120, channel_pitch=1.0, rows=2, row_pitch=1.2)
    data = project(geometry, [Ellipsoid((*centre, 0.0), (radius, radius, 1e5))], channel_samples=4)
    frequency = np.array([0.05, 0.2, 0.3, 0.4, 0.55, 0.65])
    aperture = np.sinc(frequency * 570 / 1040)  # channels of 1 mm at the detector
    for kernel in ("smooth", "standard", "sharp"):
        measured = wire_mtf(data, centre, radius, kernel, frequency) / aperture
        # measured 0.003 with 984 views; the rest is interpolation over 720 views and four samples a channel
        assert measured == pytest.approx(mtf(kernel, frequency), abs=0.012), kernel


def test_wire_of_a_fitted_kernel_has_the_mtf_asked_for() -> None:
    """4.6/7.8/8.6 lp/cm of all the chain: cells of 0.55 mm at the isocentre, then the kernel."""
    centre, radius, pitch = (20.0, -10.0), 0.3, 1.0
    geometry = scan(mode="axial", views=984, channels=120, channel_pitch=pitch, rows=1, row_pitch=1.2)
    data = project(geometry, [Ellipsoid((*centre, 0.0), (radius, radius, 1e5))], channel_samples=4)
    kernel = fit_kernel(4.6, 7.8, aperture_mm=(pitch * 570 / 1040,))
    measured = wire_mtf(data, centre, radius, kernel, np.array([0.46, 0.78, 0.86]))
    # demanded: 5 % of the frequencies; that is 0.03, 0.03 and 0.02 of the transfer
    assert measured == pytest.approx([0.5, 0.1, 0.05], abs=0.015)


@pytest.mark.parametrize("pitch", [0.5, 1.375])
def test_slice_profile_has_the_requested_width(pitch: float) -> None:
    geometry = scan(
        pitch=pitch, views=240, channels=60, channel_pitch=1.5, rows=32, row_pitch=1.1, z_range=(-5, 5)
    )
    data = project(geometry, [Ellipsoid((5.0, 2.0, 0.4), (4, 4, 0.1))], row_samples=4)
    z = np.arange(-4.0, 4.0, 0.1)
    for width in (1.25, 2.5):
        profile = (
            reconstruct(data, grid={"z": z, "y": [2.0], "x": [5.0]}, slice_thickness_mm=width).values[:, 0, 0]
            + 1000
        )
        above = np.flatnonzero(profile > 0.5 * profile.max())
        lo, hi = above[0], above[-1]
        half = 0.5 * profile.max()
        left = z[lo] - 0.1 * (profile[lo] - half) / (profile[lo] - profile[lo - 1])
        right = z[hi] + 0.1 * (profile[hi] - half) / (profile[hi] - profile[hi + 1])
        assert right - left == pytest.approx(
            width, rel=0.02
        )  # measured 0.3 %; sampling of the profile at 0.1 mm
        assert (profile * z).sum() / profile.sum() == pytest.approx(0.4, abs=0.02)


def test_region_equals_crop_and_map_is_linear() -> None:
    rng = np.random.default_rng(5)
    one = project(scan(views=120, channels=120, channel_pitch=4.0), [Ellipsoid((10, 5, 0), (60, 50, 40))])
    two = one.copy()
    two["projection"] = one["projection"].copy(data=rng.standard_normal(one["projection"].shape))
    z, y, x = np.arange(-3.0, 3.5, 1.5), np.arange(-60.0, 61.0, 5), np.arange(-60.0, 61.0, 5)
    whole = reconstruct(one, grid={"z": z, "y": y, "x": x}, dtype=np.float64)
    part = reconstruct(one, grid={"z": z[1:3], "y": y[3:9], "x": x[10:20]}, dtype=np.float64)
    # the same sums over windows that start elsewhere: rounding only
    assert part.values == pytest.approx(whole.values[1:3, 3:9, 10:20], abs=1e-8)
    both = one.copy()
    both["projection"] = one["projection"].copy(
        data=2.0 * one["projection"].values - 3.0 * two["projection"].values
    )
    grid = {"z": z[:2], "y": y[:4], "x": x[:4]}
    a, b, c = (reconstruct(d, grid=grid, dtype=np.float64).values + 1000 for d in (one, two, both))
    assert c == pytest.approx(2 * a - 3 * b, abs=1e-8 * np.abs(b).max())


def test_slices_that_share_bounds_are_those_alone() -> None:
    """Overlapping even slices take a short cut; one slice by itself does not."""
    data = project(scan(views=120, channels=120, channel_pitch=4.0), [Ellipsoid((10, 5, 0), (60, 50, 8))])
    plane = {"y": np.array([-20.0, 5.0]), "x": np.array([0.0, 30.0])}
    options = {"slice_thickness_mm": 4.0, "dtype": np.float64}
    stack = reconstruct(data, grid={"z": np.arange(-4.0, 5.0, 2.0), **plane}, **options).values
    for i, z in enumerate(np.arange(-4.0, 5.0, 2.0)):
        # the same sums: rounding only
        assert stack[i] == pytest.approx(
            reconstruct(data, grid={"z": [z], **plane}, **options).values[0], abs=1e-8
        )


def test_same_bits_on_any_number_of_threads() -> None:
    import numba

    data = project(scan(views=120, channels=120, channel_pitch=4.0), [Ellipsoid((10, 5, 0), (60, 50, 40))])
    grid = {"z": [0.0, 1.0], "y": np.arange(-60.0, 61.0, 5), "x": np.arange(-60.0, 61.0, 5)}
    before = numba.get_num_threads()
    images = []
    try:
        for n in sorted({1, before}):
            numba.set_num_threads(n)
            images.append(reconstruct(data, grid=grid).values)
    finally:
        numba.set_num_threads(before)
    assert all((image == images[0]).all() for image in images)
    assert np.isfinite(images[0]).all()


def test_rows_that_were_not_computed_are_not_taken_for_air() -> None:
    data = project(scan(views=120, channels=120, channel_pitch=4.0), [Ellipsoid((0, 0, 0), (60, 50, 1e5))])
    grid = {"z": [0.0, 1.0], "y": np.arange(-60.0, 61.0, 20), "x": np.arange(-60.0, 61.0, 20)}
    lo, hi = needed_rows(data, grid=grid)
    rows = np.arange(data.sizes["row"])
    outside = (rows < lo[:, None]) | (rows >= hi[:, None])
    assert outside.mean() > 0.3
    cut = data.assign(
        projection=data["projection"].where(xr.DataArray(~outside, dims=("view", "row")), 0.0),
        row_lo=label("row_lo", lo),
        row_hi=label("row_hi", hi),
    )
    cut["projection"].attrs = data["projection"].attrs
    # what needed_rows names is what is read
    assert (reconstruct(cut, grid=grid).values == reconstruct(data, grid=grid).values).all()
    wider = {**grid, "z": [-4.0, 0.0, 1.0]}
    with pytest.raises(InputError, match=r"reconstruct: expected the rows that the grid needs.*too few in"):
        reconstruct(cut, grid=wider)
    with pytest.raises(InputError, match="adjoint: expected the rows"):
        adjoint(np.ones((3, 7, 7)), cut, grid=wider)
    none = cut.assign(row_hi=label("row_hi", np.where(np.arange(lo.size) == lo.size // 2, lo, hi)))
    with pytest.raises(
        InputError, match=f"of view {lo.size // 2}; got none of them computed, too few in 1 views"
    ):
        reconstruct(none, grid=grid)


def test_an_image_says_what_it_was_made_from() -> None:
    data = project(
        scan(mode="axial", views=120, channels=120, channel_pitch=4.0, isocentre=(0.0, 60.0)),
        [Ellipsoid((0, 60, 0), (60, 50, 1e5))],
    )
    told = {"kv": 120.0, "mas": 150.0, "scanner": "one", "seed": 3, "realisation": 2, "phantom": "abc"}
    told |= {"reference_kev": 70.0, "beyond_phantom": 0.25}
    data.attrs |= {**told, "truncated": 0.5, "basis": [1, 2]}
    hu = reconstruct(data, grid={"z": [0.0], "y": [60.0], "x": [0.0]})
    assert {name: hu.attrs[name] for name in told} == told
    assert (hu.attrs["isocentre_x_mm"], hu.attrs["isocentre_y_mm"]) == (0.0, 60.0)
    assert (hu.attrs["truncated"], hu.attrs["truncated_share"]) == (0, 0.5)
    assert hu.attrs["mu_water_per_mm"] == 0.02
    assert "basis" not in hu.attrs
    # 120 channels of 4 mm, a quarter of one aside: the nearer end is 59.25 channels off at 1040 mm
    assert hu.attrs["field_mm"] == pytest.approx(2 * 570 * math.sin(59.25 * 4 / 1040), rel=1e-9)


def test_a_pitch_beyond_the_method_is_warned_of() -> None:
    body = [Ellipsoid((0, 0, 0), (40, 40, 1e5))]
    grid = {"z": [0.0], "y": [0.0], "x": [0.0]}
    for pitch in (1.5, 1.7):
        data = project(scan(pitch=pitch, views=120, channels=60, channel_pitch=6.0), body)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            reconstruct(data, grid=grid)
        assert [("a pitch of 1.7" in str(w.message)) for w in heard] == ([True] if pitch > 1.5 else [])
        assert all(w.filename == __file__ for w in heard)


AXIS = np.arange(-100.0, 101.0, 20.0)


def corners_outside() -> tuple[xr.Dataset, dict[str, Any]]:
    """A field of 118 mm radius at the nearer end of the detector, and a grid whose corners lie beyond."""
    data = project(
        scan(mode="axial", views=120, channels=120, channel_pitch=3.5, isocentre=(5.0, 20.0)),
        [Ellipsoid((5, 20, 0), (60, 50, 1e5))],
    )
    return data, {"z": [0.0, 1.0], "y": 20.0 + AXIS, "x": 5.0 + AXIS}


def test_voxels_outside_the_field_are_told_apart() -> None:
    data, grid = corners_outside()
    kept, masked = reconstruct(data, grid=grid), reconstruct(data, grid=grid, outside_field="nan")
    inside = np.hypot(AXIS, AXIS[:, None]) <= 0.5 * kept.attrs["field_mm"]
    assert 0.5 < inside.mean() < 1.0
    for hu, word in ((kept, "extrapolated"), (masked, "nan")):
        assert hu.attrs["outside_field_share"] == pytest.approx(1.0 - inside.mean(), abs=1e-4)
        assert hu.attrs["outside_field"] == word
    assert np.isfinite(kept.values).all()
    assert (np.isnan(masked.values) == ~inside).all()
    assert (masked.values[:, inside] == kept.values[:, inside]).all()
    within = reconstruct(data, grid={"z": [0.0], "y": [20.0], "x": [5.0]})
    assert "outside_field" not in within.attrs
    with pytest.raises(InputError, match="'extrapolated' or 'nan'"):
        reconstruct(data, grid=grid, outside_field="zero")


def test_the_field_travels_with_the_image(tmp_path: Path) -> None:
    """Through netCDF, beside images of a smaller grid, and as padding through DICOM."""
    data, grid = corners_outside()
    chest = load_protocol("adult_chest", tube_current_ma=200)
    images = {word: reconstruct(data, grid=grid, outside_field=word) for word in ("extrapolated", "nan")}
    for word, hu in images.items():
        back = read_image(write_netcdf(hu.to_dataset(), tmp_path / f"{word}.nc", encoding={}))
        xr.testing.assert_identical(back, hu)
        both = xr.concat([hu.isel(z=[0]), hu.isel(z=[1])], dim="z")
        xr.testing.assert_equal(both, hu)
    hu = images["nan"]
    write_dicom(hu, tmp_path / "series", protocol=chest)
    read = read_series(tmp_path / "series").values
    outside = np.isnan(hu.values)
    assert (read[outside] == PADDING_HU).all()
    # stored in steps of 1 HU; streaks below -1050 HU that hang together with the padding count as padding
    kept = ~outside & ~((read == PADDING_HU) & (hu.values < PADDED_BELOW_HU + 1.0))
    assert kept.sum() > 0.8 * (~outside).sum()
    assert np.abs(read - hu.values)[kept].max() < 0.501


def test_projections_without_numbers_are_refused() -> None:
    data, grid = corners_outside()
    with pytest.raises(InputError, match="finite projections"):
        reconstruct(data.assign(projection=np.nan * data["projection"]), grid=grid)
