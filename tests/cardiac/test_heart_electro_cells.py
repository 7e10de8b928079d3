"""Cells: tables and time steps are fine enough, durations and restitution as published."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.cardiac import electro
from twinlab.kernels import heart_bueno, heart_tp06
from twinlab.schema import InputError

APD = electro.action_potential_duration


def _duration(cell: str, **settings) -> float:
    return float(APD(electro.single_cell(cell, **settings))[-1])


def test_table_step_moves_the_potential_by_less_than_a_microvolt():
    """0.05 mV against 0.005 mV over an action potential: the interpolation error falls with the step's square."""
    fine = electro.single_cell(table_step_mv=0.005, cycle_ms=500.0)
    used = electro.single_cell(cycle_ms=500.0)
    coarse = electro.single_cell(table_step_mv=0.2, cycle_ms=500.0)
    error = float(abs(used - fine).max())
    assert error < 1e-3  # mV; the upstroke makes 370 mV/ms of it, so 3 ns
    assert 6.0 < float(abs(coarse - fine).max()) / error < 40.0  # second order: 16


def test_time_step_of_first_order():
    """Duration against dt: halving the step halves the difference (Euler and Rush-Larsen are of first order)."""
    d = [_duration("tp06_epi", dt_ms=dt, cycle_ms=500.0) for dt in (0.04, 0.02, 0.01)]
    assert abs(d[2] - d[1]) < 0.15  # ms of 290
    assert 1.4 < (d[1] - d[0]) / (d[2] - d[1]) < 2.8


def test_tp06_kinds_as_published():
    """Rest near -85 mV, upstroke of 200 to 400 V/s, middle cells longest (paper: figure 1 and its 2004 parent).

    The 2004 model's paper gives 276, 282 and 336 ms at 1 Hz; that of 2006 lengthens the plateau: about 300 ms and
    390 ms in its figures, read within 10 %.
    """
    length = {}
    for kind in ("epi", "endo", "mid"):
        v = electro.single_cell(f"tp06_{kind}", beats=3, dt_ms=0.02)
        length[kind] = APD(v)[-1]
        assert -87.0 < float(v[-1]) < -84.0
        assert 30.0 < float(v.max()) < 45.0
    assert length["epi"] == pytest.approx(300.0, rel=0.1)
    assert length["endo"] == pytest.approx(length["epi"], rel=0.02)
    assert length["mid"] == pytest.approx(390.0, rel=0.1)


def test_tp06_restitution_slope_of_the_paper():
    """Dynamic restitution with the default parameters has a steepest slope of 1.1 (paper: table 2).

    Taken just above where alternans begins, from means of two beats; thirty beats a cycle instead of fifty and
    steps of 10 ms of the cycle leave 0.2.
    """
    cycles = [c for c in (420.0, 370.0, 330.0, 300.0) for _ in range(10)]
    cycles += [c for c in (290.0, 280.0, 270.0, 260.0) for _ in range(30)]
    apd = APD(electro.single_cell(intervals_ms=tuple(cycles), dt_ms=0.05, sample_ms=0.1))
    duration = np.array([apd[n - 1 : n + 1].mean() for n in range(69, len(cycles), 30)])
    rest = np.array(cycles)[69::30] - duration
    assert (np.diff(duration) / np.diff(rest)).max() == pytest.approx(1.1, abs=0.2)


def test_bueno_durations_of_the_paper():
    """APD90 at 1 Hz: 269.8 (epi), 286.2 (endo), 410.0 ms (mid): the paper fits data of that size; within 10 %."""
    for kind, wanted in (("epi", 270.0), ("endo", 280.0)):
        got = _duration(f"bueno_{kind}", beats=2, stimulus_mv_per_ms=30.0, stimulus_ms=2.0, dt_ms=0.02)
        assert got == pytest.approx(wanted, rel=0.1), kind
    mid = _duration("bueno_mid", beats=2, stimulus_mv_per_ms=30.0, stimulus_ms=2.0, dt_ms=0.02)
    assert mid > 1.3 * got


@pytest.mark.parametrize("module", [heart_tp06, heart_bueno])
def test_tables_are_finite_everywhere(module):
    for table in module.tables(0.01, 0.1):
        assert np.isfinite(table).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cell": "luo_rudy"}, "one of tp06_epi"),
        ({"cell": "tp06_layers"}, "one kind"),
        ({"dt_ms": 0.5}, "unstable"),
        ({"dt_ms": float("nan")}, "time step"),
        ({"sample_ms": 0.015}, "multiple"),
    ],
)
def test_unusable_settings_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        electro.single_cell(**settings)
