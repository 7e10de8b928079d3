"""Projections as files: netCDF that loses nothing, DICOM-CT-PD-like views that reconstruct to the same image."""

from __future__ import annotations

import math

import numpy as np
import pydicom
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol

from twinlab.ct import acquire, line_integrals, reconstruct
from twinlab.ct.export import read_ct_pd, read_projections, write_ct_pd, write_projections
from twinlab.ct.export.ct_pd_tags import TAGS
from twinlab.scanner import trajectory
from twinlab.schema import InputError, label

GRID = {"x": np.linspace(-60, 60, 13), "y": np.linspace(-60, 60, 13), "z": np.array([-2.5, 0.0, 2.5])}


@pytest.fixture(scope="module", params=["arc", "flat"])
def scan(request):
    protocol = small_protocol(shape=request.param)
    path = trajectory(protocol, z_range_mm=(-4, 4), start_angle_deg=40.0, isocentre_mm=(3.0, -2.0))
    paths = line_integrals(small_phantom(), protocol, path)
    return protocol, paths, acquire(paths, protocol, seed=1)


def test_netcdf_gives_back_what_was_written(scan, tmp_path):
    _, paths, projections = scan
    for name, data in (("projections", projections), ("paths", paths)):
        back = read_projections(write_projections(data, tmp_path / f"{name}.nc"))
        xr.testing.assert_identical(back, data.assign_attrs(back.attrs))
        assert back.attrs == {k: v for k, v in data.attrs.items() if v is not None}
        for variable in data.variables:
            assert back[variable].dtype.kind == data[variable].dtype.kind
            assert back[variable].attrs.get("units") == data[variable].attrs.get("units")


def test_netcdf_is_compressed_and_reconstructs_to_the_same_bits(scan, tmp_path):
    protocol, paths, _ = scan
    clean = acquire(paths, protocol, seed=1, noise=False)
    path = write_projections(clean, tmp_path / "p.nc")
    raw = sum(clean[name].nbytes for name in clean.variables)
    assert path.stat().st_size < raw
    again = reconstruct(read_projections(path), protocol, grid=GRID)
    np.testing.assert_array_equal(again, reconstruct(clean, protocol, grid=GRID))


def test_netcdf_refuses_what_it_cannot_hold(scan, tmp_path):
    _, _, projections = scan
    with pytest.raises(InputError, match="attribute 'extra' as number"):
        write_projections(projections.assign_attrs(extra={"a": 1}), tmp_path / "a.nc")
    with pytest.raises(InputError, match="view_angle"):
        write_projections(projections.drop_vars("view_angle"), tmp_path / "b.nc")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="format"):
        read_projections(tmp_path / "c.nc")
    with pytest.raises(InputError, match="no file"):
        read_projections(tmp_path / "none.nc")
    assert not list(tmp_path.glob("[ab].nc"))
    assert not list(tmp_path.glob(".*"))


def test_ct_pd_gives_back_geometry_and_values(scan, tmp_path):
    protocol, _, projections = scan
    files = write_ct_pd(projections, tmp_path / "pd", protocol=protocol)
    assert len(files) == projections.sizes["view"]
    back = read_ct_pd(tmp_path / "pd")
    span = float(projections["projection"].max() - projections["projection"].min())
    # half a step of 16 bits over the range, and float32
    np.testing.assert_allclose(back["projection"], projections["projection"], atol=0.51 * span / 65534 + 1e-6)
    turned = np.asarray(back["view_angle"] - projections["view_angle"]) / (2 * math.pi)
    np.testing.assert_allclose(
        turned, np.round(turned[0]), atol=1e-6
    )  # float32 angles; whole turns are no matter
    np.testing.assert_allclose(back["source_z"], projections["source_z"], atol=1e-4)
    channel = "u" if "u" in projections.coords else "fan_angle"
    np.testing.assert_allclose(back[channel], projections[channel], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(back["row"], projections["row"], rtol=1e-6, atol=1e-5)
    same = (
        "source_to_isocentre_mm",
        "isocentre_x_mm",
        "isocentre_y_mm",
        "views_per_rotation",
        "mu_water_per_mm",
    )
    for name in same:
        assert back.attrs[name] == pytest.approx(projections.attrs[name], rel=1e-7)
    assert back.attrs["mode"] == "axial"


def test_ct_pd_reconstructs_to_the_same_image(scan, tmp_path):
    protocol, _, projections = scan
    write_ct_pd(projections, tmp_path / "pd", protocol=protocol)
    again = reconstruct(read_ct_pd(tmp_path / "pd"), protocol, grid=GRID)
    image = reconstruct(projections, protocol, grid=GRID)
    # 16-bit steps of 1.5e-4 are noise of 4e-5 a ray: far below 1 HU
    assert np.abs(again - image).max() < 1.0


def test_ct_pd_states_the_published_geometry(scan, tmp_path):
    """Focal spot and cells by the published formulas, against the rays that we trace."""
    protocol, _, projections = scan
    files = write_ct_pd(projections, tmp_path / "pd", protocol=protocol)
    i = 7
    h = pydicom.dcmread(files[i])

    def get(name):
        return h[TAGS[name][0]].value

    rho, phi = get("DetectorFocalCenterRadialDistance"), get("DetectorFocalCenterAngularPosition")
    right, up = -rho * math.sin(phi), rho * math.cos(phi)  # seen from the table
    angle, radius = float(projections["view_angle"][i]), protocol.scanner.source_to_isocentre_mm
    assert (right, -up) == pytest.approx((radius * math.sin(angle), -radius * math.cos(angle)), abs=1e-3)
    assert (h.Rows, h.Columns) == (get("NumberofDetectorColumns"), get("NumberofDetectorRows"))
    column, row = get("DetectorCentralElement")
    fan = protocol.scanner.fan_angles_rad()
    assert np.interp(0.0, fan, np.arange(1, fan.size + 1)) == pytest.approx(column, abs=1e-3)
    assert row == (projections.sizes["row"] + 1) / 2
    # row 1 of column 1: farthest from the table is towards the head; on the left is towards the patient's right
    stored = h.pixel_array[0, 0] * float(h.RescaleSlope) + float(h.RescaleIntercept)
    assert stored == pytest.approx(float(projections["projection"][i, -1, 0]), abs=2e-4)
    assert len(get("PhotonStatistics")) == fan.size


def test_ct_pd_carries_a_flying_focal_spot(scan, tmp_path):
    protocol, _, projections = scan
    n = projections.sizes["view"]
    shift = np.where(np.arange(n)[:, None] % 2, 1, -1) * np.array([0.4, 0.3, 0.8])
    flying = projections.assign(
        focal_shift=label("focal_shift", shift, {"shift_axis": ["tangential", "radial", "z"]})
    )
    write_ct_pd(flying, tmp_path / "pd", protocol=protocol.model_copy(update={"flying_focal_spot": "both"}))
    back = read_ct_pd(tmp_path / "pd")
    np.testing.assert_allclose(back["focal_shift"], shift, atol=1e-4)  # float32 of an angle and a radius
    h = pydicom.dcmread(tmp_path / "pd" / "view000002.dcm")
    angle = float(projections["view_angle"][1])
    phi, rho, z = (
        float(h[TAGS["DetectorFocalCenter" + a][0]].value) + float(h[TAGS["Source" + b][0]].value)
        for a, b in (
            ("AngularPosition", "AngularPositionShift"),
            ("RadialDistance", "RadialDistanceShift"),
            ("AxialPosition", "AxialPositionShift"),
        )
    )
    radius = protocol.scanner.source_to_isocentre_mm + 0.3
    x = radius * math.sin(angle) + 0.4 * math.cos(angle)
    y = -radius * math.cos(angle) + 0.4 * math.sin(angle)
    assert (-rho * math.sin(phi), -rho * math.cos(phi)) == pytest.approx((x, y), abs=1e-3)
    assert z == pytest.approx(float(projections["source_z"][1]) + 0.8, abs=1e-4)


def test_ct_pd_refuses_other_folders(tmp_path, scan):
    protocol, _, projections = scan
    with pytest.raises(InputError, match="DICOM-CT-PD"):
        read_ct_pd(tmp_path)
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="new or empty folder"):
        write_ct_pd(projections, tmp_path, protocol=protocol)
    with pytest.raises(InputError, match="upright"):
        write_ct_pd(projections.assign_attrs(gantry_tilt_deg=9.0), tmp_path / "t", protocol=protocol)
    two = protocol.model_copy(update={"second_kv": 140.0})
    with pytest.raises(InputError, match="one tube voltage"):
        write_ct_pd(projections, tmp_path / "k", protocol=two)
    with pytest.raises(InputError, match="finite"):
        write_ct_pd(
            projections.assign(projection=projections["projection"] / 0.0), tmp_path / "n", protocol=protocol
        )
