"""Splitting of photons outside the scan: the same doses, surer far away; forced collisions: the same doses."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab import dose
from twinlab.phantom import assemble
from twinlab.scanner import load_protocol
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def column():
    """Water, 24 cm across and 60 cm long: ten organs of 6 cm, the first two of them scanned."""
    x = (np.arange(26) - 12.5) * 10.0
    z = np.arange(60) * 10.0 + 5.0
    inside = np.hypot(*np.meshgrid(x, x)) < 120
    organ = np.where(inside, 1 + np.arange(60)[:, None, None] // 6, 0)
    material = np.broadcast_to(inside, organ.shape).astype(np.uint8)
    return assemble(
        material=material,
        density=np.where(material > 0, 1.0, 0.001205),
        organ=organ,
        material_names=["air", "water"],
        organ_names={0: "outside", **{k: f"slab {k}" for k in range(1, 11)}},
        z=z,
        y=x,
        x=x,
        name="column",
        source="made for this test",
    )


def test_ten_organs_agree(column):
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    scan = {"z_range_mm": (40.0, 120.0), "device": "cpu"}
    plain = dose.simulate(column, protocol, histories=800_000, seed=3, voxel_map=False, **scan)
    split = dose.simulate(column, protocol, histories=400_000, seed=4, splitting=True, **scan)
    pull = (split.organ_dose - plain.organ_dose) / np.hypot(split.organ_dose_sd, plain.organ_dose_sd)
    assert np.abs(pull).max() < 3.0  # ten organs
    surer = (2 * (plain.organ_dose_sd / split.organ_dose_sd) ** 2).values  # variance at equal histories
    # about 2 beyond 12 cm outside the beam; the variances of a few hundred photons are known to 20 %
    assert surer[4:].mean() > 1.5
    assert surer[:2].min() > 0.8
    forced = dose.simulate(column, protocol, histories=400_000, seed=5, forcing=True, voxel_map=False, **scan)
    pull = (forced.organ_dose - plain.organ_dose) / np.hypot(forced.organ_dose_sd, plain.organ_dose_sd)
    assert np.abs(pull).max() < 3.0
    assert forced.attrs["forcing"] == 1
    mapped = float((split.dose * column.density).sum()) * 1e-3  # voxels of 1 cm3, kg
    assert mapped == pytest.approx(float((split.organ_dose * split.organ_mass).sum()) / 1e3, rel=1e-5)


def test_refused_with_track_lengths(column):
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    with pytest.raises(InputError, match="splitting"):
        dose.simulate(
            column,
            protocol,
            z_range_mm=(40.0, 120.0),
            histories=1000,
            splitting=True,
            estimator="track_length",
        )
    with pytest.raises(InputError, match="forcing"):
        dose.simulate(
            column, protocol, z_range_mm=(40.0, 120.0), histories=1000, splitting=True, forcing=True
        )
