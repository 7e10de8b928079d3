"""Ring correction: cells whose gain is off by 1 %."""

from __future__ import annotations

import numpy as np
import pytest
from disc_scan import Disc, disc_paths, disc_protocol, square_grid

from twinlab import ct
from twinlab.ct.artefacts import ring_correction
from twinlab.ct.recon import reconstruct
from twinlab.schema import InputError

ROD = Disc("ptfe", 30.0, 0.0, 8.0)
GRID = square_grid(60, 0.7)


def with_gains(scan, gain):
    """Each cell's readings times its gain: the logarithm of the readings, and nearly the projection, shifted."""
    shifted = scan["projection"].values - np.log(gain).astype(np.float32)
    return scan.assign(projection=scan["projection"].copy(data=shifted))


def rings(hu, true) -> float:
    """Root mean square over radii (5 to 55 mm) of the difference's mean over angle [HU]."""
    radius = np.rint(np.hypot(*np.meshgrid(hu.y, hu.x, indexing="ij")) / 0.7).astype(int)
    difference = (hu - true).values[0]
    mean = np.bincount(radius.ravel(), difference.ravel()) / np.bincount(radius.ravel())
    return float(np.sqrt((mean[7:79] ** 2).mean()))


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 8])
def scans(request):
    setting = disc_protocol(120, rows=request.param, views=328)
    scan = ct.acquire(disc_paths(setting, [Disc("water"), ROD]), setting, seed=3, noise=False)
    gain = np.random.default_rng(5).normal(1.0, 0.01, scan["projection"].shape[1:])
    return setting, scan, with_gains(scan, gain)


def test_rings_of_drifted_cells_go_and_the_object_stays(scans):
    setting, clean, drifted = scans
    true, before, after = (
        reconstruct(s, setting, grid=GRID) for s in (clean, drifted, ring_correction(drifted))
    )
    # Left is the median's own error at long wavelengths, 1.25 / sqrt(cells in the window): 15 cells with one row
    # (rings fall by 3.0), 105 with eight (by 5.2).
    factor = 4.5 if drifted.sizes["row"] > 1 else 2.5
    assert rings(after, true) < rings(before, true) / factor, (rings(before, true), rings(after, true))
    inside = ROD.around(true, -3.0)
    assert float((after - true).values[inside].mean()) == pytest.approx(0.0, abs=6.0)


def test_a_scan_without_drift_is_hardly_touched(scans):
    setting, clean, _ = scans
    true, after = (reconstruct(s, setting, grid=GRID) for s in (clean, ring_correction(clean)))
    away = ~ROD.around(true, 3.0)
    # 3.3 HU at the worst pixel was seen, beside the path of a rod of 1,000 HU.
    assert np.abs((after - true).values[away]).max() < 5.0
    assert float(np.sqrt(((after - true).values[away] ** 2).mean())) < 1.0


def test_a_helix_is_corrected_too():
    setting = disc_protocol(120, rows=8, views=120, mode="helical", pitch=1.0)
    paths = disc_paths(setting, [Disc("water", radius=60.0)])
    scan = ct.acquire(paths, setting, seed=3, noise=False)
    gain = np.random.default_rng(5).normal(1.0, 0.01, scan["projection"].shape[1:])
    drifted = with_gains(scan, gain)
    error = ring_correction(drifted)["projection"] - scan["projection"]
    # The median's own error again, with that of the parabola over 31 cells: a quarter of the gains' spread. The
    # rim of the centred disc, which does not move from view to view, is left to itself.
    assert float(np.abs(error).median()) < 0.3 * float(np.log(gain).std())


def test_windows_that_make_no_sense_are_refused(scans):
    with pytest.raises(InputError, match="odd channels"):
        ring_correction(scans[2], channels=4)
