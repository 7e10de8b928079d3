"""Two energies in one scan: switched voltage and second source."""

import numpy as np
import pytest
import xarray as xr

from twinlab.scanner import load_protocol, trajectory
from twinlab.scanner.second import (
    aligned,
    second_protocol,
    second_trajectory,
    switched_protocols,
    switched_trajectory,
    switched_views,
)
from twinlab.schema import InputError, label


@pytest.fixture
def switching():
    return load_protocol("qc_axial", kv=80, second_kv=140)


@pytest.fixture
def dual():
    protocol = load_protocol("liver_arterial", kv=140, second_kv=80)
    source = {
        "angle_deg": 95.0,
        "n_channels": 640,
        "channel_offset": 0.25,
        "filters": {"aluminum": 6.0, "tin": 0.4},
    }
    scanner = type(protocol.scanner).make({**protocol.scanner.model_dump(), "second_source": source})
    return protocol.replace(scanner=scanner)


def test_voltage_alternates_and_the_parts_are_the_scan(switching):
    whole = switched_trajectory(switching, trajectory(switching, z_range_mm=(-5.0, 5.0)))
    assert whole["tube_kv"].to_numpy()[:4].tolist() == [80, 140, 80, 140]
    assert whole["tube_kv"].attrs["units"] == "kV"
    parts, settings = switched_views(whole), switched_protocols(switching)
    joined = np.sort(np.concatenate([part["view_angle"] for part in parts]))
    assert np.array_equal(joined, whole["view_angle"])
    for part, setting, kv in zip(parts, settings, (80, 140), strict=True):
        assert setting.kv == kv
        assert (part["tube_kv"] == kv).all()
        assert part.attrs["views_per_rotation"] == setting.scanner.views_per_rotation == 492
        # a view keeps its exposure
        assert setting.mas / 492 == pytest.approx(switching.mas / 984)
        step = np.diff(part["view_angle"])
        assert step == pytest.approx(np.full(step.size, 2 * np.pi / 492))


def test_second_source_has_its_own_detector_filters_voltage_and_angle(dual):
    other = second_protocol(dual)
    assert other.kv == 80
    assert other.second_kv is None
    assert other.scanner.second_source is None
    assert other.scanner.detector.n_channels == 640
    assert other.scanner.tube.filters == {"aluminum": 6.0, "tin": 0.4}
    assert other.scanner.key == f"{dual.scanner.key}_b"
    assert other.reconstruction_fov_mm <= other.scanner.scan_fov_mm < dual.scanner.scan_fov_mm
    assert other.mas == dual.mas
    first = trajectory(dual, z_range_mm=(0.0, 20.0))
    second = second_trajectory(dual, first)
    assert np.rad2deg(second["view_angle"] - first["view_angle"]).to_numpy() == pytest.approx(95.0)
    assert second["source_z"].identical(first["source_z"])


@pytest.mark.parametrize("mode", ["axial", "helical"])
def test_alignment_interpolates_between_neighbouring_views(mode):
    angle = np.arange(20) * 2 * np.pi / 20
    wave = np.float32(np.cos(angle + 1.0)[:, None, None] * np.ones((1, 2, 3)))
    scan = xr.Dataset(
        {
            "projection": label("projection", wave),
            "variance": label("variance", np.ones_like(wave)),
            "view_angle": label("view_angle", angle),
            "source_z": label("source_z", np.linspace(0.0, 1.0, 20)),
        },
        attrs={"mode": mode, "views_per_rotation": 10},
    )
    odd, even = switched_views(scan.assign_attrs(views_per_rotation=20))[::-1]
    found = aligned(odd, even)
    off = np.abs(found["projection"] - even["projection"]).to_numpy()
    # linear interpolation of a cosine over steps of 2 pi / 10: 1 - cos(pi / 10)
    assert off[1:].max() <= 1 - np.cos(np.pi / 10)
    assert (off[0].max() < 0.05) == (
        mode == "axial"
    )  # the view across the end of the rotation, or the nearest
    assert found["variance"].to_numpy()[1:] == pytest.approx(0.5)
    assert np.array_equal(found["view_angle"], even["view_angle"])
    assert np.array_equal(found["source_z"], even["source_z"])


def test_refuses(switching, dual):
    plain = load_protocol("qc_axial")
    scan = trajectory(plain, z_range_mm=(-5.0, 5.0))
    with pytest.raises(InputError, match="second tube voltage"):
        switched_trajectory(plain, scan)
    with pytest.raises(InputError, match="one source"):
        switched_protocols(dual)
    with pytest.raises(InputError, match="second source"):
        second_protocol(plain)
    with pytest.raises(InputError, match="second source"):
        second_trajectory(plain, scan)
    with pytest.raises(InputError, match="second tube voltage"):
        second_protocol(dual.replace(second_kv=None))
    odd = switching.scanner.model_copy(update={"views_per_rotation": 983})
    with pytest.raises(InputError, match="even number"):
        switched_trajectory(switching.replace(scanner=odd), scan)
    with pytest.raises(InputError, match="even number"):
        switched_views(scan.assign_attrs(views_per_rotation=983))
