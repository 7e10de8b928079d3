"""How often the stated 95 % intervals of organ doses hold the value of a long run."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab import dose
from twinlab.phantom import from_raw
from twinlab.physics import materials
from twinlab.scanner import load_protocol

TISSUES = (
    "adipose",
    "muscle",
    "liver",
    "lung",
    "bone_cortical",
    "heart",
    "kidney",
    "spleen",
    "blood",
    "brain",
)
OPTIONS = {"z_range_mm": (-30.0, 30.0), "voxel_map": False, "extend_mm": 0.0}


def _phantom():
    """Ten sectors of a cylinder of 24 cm, each an organ of its own tissue."""
    c = (np.arange(26) - 12.5) * 10.0
    y, x = np.meshgrid(c, c, indexing="ij")
    sector = np.floor((np.arctan2(y, x) / (2 * np.pi) % 1.0) * 10).astype(int)
    plane = np.where(np.hypot(x, y) < 120, 1 + sector, 0).astype(np.uint8)
    table = {0: ("air", 0.001205)}
    table |= {k + 1: (key, materials.get(key).density_g_cm3, key) for k, key in enumerate(TISSUES)}
    return from_raw(np.broadcast_to(plane, (12, 26, 26)).copy(), spacing_mm=10.0, table=table)


def _covered(runs: int, histories: int, reference: int) -> tuple[float, float]:
    """Share of (run, organ) whose interval of 1.96 sd holds the long run's value, and its own sd."""
    phantom = _phantom()
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    long = dose.simulate(phantom, protocol, histories=reference, seed=1, **OPTIONS)["organ_dose"].values
    inside = []
    for seed in range(2, runs + 2):
        short = dose.simulate(phantom, protocol, histories=histories, seed=seed, **OPTIONS)
        inside.append(np.abs(short["organ_dose"].values - long) < 1.96 * short["organ_dose_sd"].values)
    share = np.mean(inside, axis=1)  # by run: organs of one run share histories
    return float(share.mean()), float(share.std(ddof=1) / np.sqrt(runs))


def test_intervals_hold_quick():
    """The long run's band, with three sd of 40 runs added."""
    share, sd = _covered(40, 10_000, 400_000)
    assert 0.93 - 3 * sd < share < 0.97 + 3 * sd


@pytest.mark.slow
def test_intervals_hold():
    share, sd = _covered(200, 20_000, 2_000_000)
    print(f"coverage of 95 % intervals: {100 * share:.1f} +- {100 * sd:.1f} %")
    assert 0.93 < share < 0.97
