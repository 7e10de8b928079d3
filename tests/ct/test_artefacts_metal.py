"""Metal artefact reduction: two hips of titanium in a pelvis-like body."""

from __future__ import annotations

import numpy as np
import pytest
from disc_scan import Disc, disc_paths, disc_protocol, square_grid

from twinlab import ct
from twinlab.ct.artefacts import metal_correction
from twinlab.ct.artefacts.metal import interpolate
from twinlab.ct.recon import reconstruct
from twinlab.schema import InputError

BODY = Disc("soft_tissue_icru44", radius=150.0)
BONES = [Disc("bone_cortical", -80.0, 40.0, 12.0), Disc("bone_cortical", 0.0, 80.0, 14.0)]
FAT = Disc("adipose", 0.0, -40.0, 20.0)


def hips(material: str, radius: float) -> list[Disc]:
    return [Disc(material, -75.0, -10.0, radius), Disc(material, 75.0, -10.0, radius)]


def scan_of(setting, discs, noise=False):
    return ct.acquire(disc_paths(setting, [BODY, *BONES, FAT, *discs]), setting, seed=2, noise=noise)


@pytest.mark.parametrize(
    ("material", "radius"), [("titanium", 7.0), pytest.param("iron", 3.0, marks=pytest.mark.slow)]
)
def test_streaks_of_metal_fall(material, radius):
    setting = disc_protocol(140, views=328)
    grid = square_grid(155, 1.5)
    true = reconstruct(scan_of(setting, []), setting, grid=grid)
    scan = scan_of(setting, hips(material, radius))
    first = reconstruct(scan, setting, grid=grid)
    corrected, metal = metal_correction(scan, setting, grid=grid)
    after = reconstruct(corrected, setting, grid=grid)
    outside = BODY.around(true, -6.0)
    for disc in (*hips(material, radius + 4.0), *BONES, FAT):
        outside = outside & ~disc.around(true, 3.0)
    error = {
        name: float(np.sqrt(((hu - true).values[outside] ** 2).mean()))
        for name, hu in (("before", first), ("after", after))
    }
    # In soft tissue away from metal and edges. The factor is what this scene gives, less a third.
    assert error["after"] < error["before"] / 4.0, error
    found = metal.values & (
        hips(material, radius + 2.0)[0].around(true) | hips(material, radius + 2.0)[1].around(true)
    )
    assert found.sum() == metal.values.sum() > 0
    # The bone, which the prior keeps, and the fat, which it does not.
    for disc, bound in ((BONES[1], 60.0), (FAT, 15.0)):
        inside = disc.around(true, -4.0)
        assert abs(float((after - true).values[inside].mean())) < bound, disc


def test_interpolation_bridges_gaps_by_a_line():
    values = np.array([[1.0, 9.0, 9.0, 4.0, 5.0, 9.0], [9.0, 2.0, 9.0, 9.0, 9.0, 7.0]], np.float32)
    trace = values == 9.0
    assert np.allclose(interpolate(values, trace), [[1, 2, 3, 4, 5, 5], [2, 2, 3.25, 4.5, 5.75, 7]])
    everything = np.ones((1, 3), bool)
    assert np.array_equal(interpolate(values[:1, :3], everything), values[:1, :3])


def test_a_patient_without_metal_is_refused():
    setting = disc_protocol(120, views=120)
    with pytest.raises(InputError, match="above 2500 HU"):
        metal_correction(scan_of(setting, []), setting, grid=square_grid(155, 4.0))
    with pytest.raises(InputError, match="air_hu < soft_hu"):
        metal_correction(scan_of(setting, []), setting, grid=square_grid(155, 4.0), metal_hu=0.0)
