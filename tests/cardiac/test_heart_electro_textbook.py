"""Cells and planar waves against the published equations, integrated by other means (see textbook_tp06)."""

from __future__ import annotations

import numpy as np
import pytest
import textbook_tp06 as textbook

from twinlab.cardiac import electro
from twinlab.cardiac.electro import stepping
from twinlab.cardiac.electro.tissue import excitable
from twinlab.kernels import heart_tp06

CHI_CM = 140.0 * 0.01


def _states(n, seed):
    """Random states (unknown, cell) over all that a cell passes, and beyond."""
    rng = np.random.default_rng(seed)
    y = np.repeat(textbook.START[:, None], n, axis=1)
    y[0] = rng.uniform(-95.0, 60.0, n)
    y[1:13] = rng.uniform(0.01, 0.99, (12, n))
    y[13] *= rng.uniform(0.5, 8.0, n)
    y[14] *= rng.uniform(0.5, 1.2, n)
    y[15] = 10.0 ** rng.uniform(-3.7, 0.2, n)
    y[16] = rng.uniform(0.1, 0.99, n)
    y[17] *= rng.uniform(0.9, 1.2, n)
    y[18] *= rng.uniform(0.9, 1.1, n)
    return y


def _stepped(y, dt, table_mv=0.05):
    potential, rectifier = heart_tp06.tables(dt, table_mv)
    out = y.copy()
    for i in range(y.shape[1]):
        own = out[1:]
        out[0, i] = heart_tp06.step(
            i, y[0, i], own, dt, 0.0, potential[0], rectifier, 1.0 / table_mv, heart_tp06.PARAMETERS[0]
        )
    return out


def test_states_begin_as_in_the_benchmark():
    assert textbook.START[0] == heart_tp06.REST_MV
    assert (textbook.START[1:] == heart_tp06.REST).all()


def test_gates_step_as_published():
    """Exponential step of all gates over 0.01 ms: the table's interpolation leaves 3e-6 of m, 2e-7 of the others.

    Also in the table's one row across -40 mV, where the published rates of h and j jump by 1 %.
    """
    y, dt = _states(2000, 1), 0.01
    got = _stepped(y, dt)
    for k, (steady, tau) in enumerate(textbook.gates(y[0], y[15]), start=1):
        wanted = steady + (y[k] - steady) * np.exp(-dt / tau)
        assert np.abs(got[k] - wanted).max() < (5e-6 if k <= 3 else 5e-7), k


@pytest.mark.parametrize("sodium", [True, False])
def test_currents_and_concentrations_step_as_published(sodium):
    """Rates of the potential and of six other unknowns, with and without the great inward currents.

    Without them the sum is of the size of the small currents. Interpolation leaves 5e-4 pA/pF at worst (the
    inward rectifier), 5e-5 in the mean square: a hundredth of the smallest current.
    """
    y, dt = _states(1000, 2), 0.01
    if not sodium:
        y[1] = y[9] = 0.0
    got, wanted = (_stepped(y, dt) - y) / dt, textbook.rates(y)
    for k in (0, 13, 14, 15, 16, 17, 18):
        scale = np.abs(wanted[k]) + 1e-3 * np.abs(wanted[k]).max()
        assert (np.abs(got[k] - wanted[k]) / scale).max() < 3e-4, k
    assert np.abs(got[0] - wanted[0]).max() < 1e-3
    assert np.sqrt(((got[0] - wanted[0]) ** 2).mean()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("direction", list(textbook.CABLES))
def test_planar_waves_are_those_of_the_textbook_cable(direction):
    """Same differences in space: the velocity for a vanishing time step is the cable's; 0.1 % (measured 0.05 %).

    Then both for a vanishing voxel: consistent and lumped mass err by opposite terms of second order, and
    the cable's extrapolated velocity lies between them, 1 % from their mean (measured 0.2 and 0.1 %).
    """
    d, h, length = textbook.CABLES[direction]
    cable = [textbook.cable_velocity(d, s, length) for s in (h, 0.5 * h)]

    def ours(step, mass):
        v = [
            electro.planar_velocity(d * CHI_CM, step, dt_ms=dt, mass=mass, length_mm=length)
            for dt in (0.01, 0.005)
        ]
        return electro.converged(*v, order=1.0)

    lumped = [ours(s, "lumped") for s in (h, 0.5 * h)]
    assert lumped == pytest.approx(cable, rel=1e-3)
    fine = ours(0.5 * h, "consistent")
    limit = textbook.limit_velocity(direction)
    assert lumped[1] < limit < fine
    assert 0.5 * (lumped[1] + fine) == pytest.approx(limit, rel=0.01)


def _far_corner(h, mass):
    """Time at the far corner of a sheet of 10 x 3.6 mm, stimulated as the N-version slab."""
    sheet = excitable(electro.slab((10.0, 3.6, h), h))
    corner = electro.box_stimulus((-h,) * 3, (1.5, 1.5, 2 * h), amplitude_mv_per_ms=50.0 / CHI_CM)
    state, facts = stepping.run(
        sheet, stimuli=[corner], cell="tp06_epi", dt_ms=0.02, end_ms=60.0, until_active=True, mass=mass
    )
    assert facts["solver"] == "lines"
    return float(state.marks.first_up.max())


@pytest.mark.slow
def test_consistent_mass_and_differences_tend_to_one_time():
    """An oblique, curved front: both have one limit (0.1 %; measured 0.01 %), consistent mass from below at last.

    At 0.1 mm it is earlier than at 0.2 and 0.05 mm: its error changes sign, so no order may be assumed from there.
    """
    t = {h: _far_corner(h, "consistent") for h in (0.2, 0.1, 0.05, 0.025)}
    d = {h: _far_corner(h, "lumped") for h in (0.1, 0.05, 0.025)}
    limit = electro.converged(d[0.05], d[0.025])
    assert electro.converged(t[0.05], t[0.025]) == pytest.approx(limit, rel=1e-3)
    assert t[0.2] > t[0.1] < t[0.05] < t[0.025] < limit < d[0.025] < d[0.05] < d[0.1]
    # the mean of both masses cancels most of it: at 0.1 mm nearer than either
    half = _far_corner(0.1, "half")
    assert limit < half
    assert half - limit < min(limit - t[0.1], d[0.1] - limit)
