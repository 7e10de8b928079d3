"""Print the figures of detector, beam and modulation that docs/validation.md quotes.

PYTHONPATH=tests/ct:tests/scanner python tests/ct/print_detector_figures.py
"""

from __future__ import annotations

import numpy as np
import test_detector_chain as chain_cases
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct import acquire, detected, line_integrals, water_correction
from twinlab.ct.detector import detected_spectrum, dqe
from twinlab.ct.electronics import detector_chain
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner import beam_fluence, heel_factor, load_protocol


def all_effects(bowtie: str):
    return chain_cases.with_detector(
        small_protocol(bowtie=bowtie, noise_kev=300.0 if bowtie == "none" else 200.0),
        electronics={
            "swank_factor": chain_cases.SWANK,
            "crosstalk_channel": chain_cases.CHANNEL,
            "crosstalk_row": chain_cases.ROW,
            "lag": chain_cases.LAGS,
            "kev_per_count": chain_cases.STEP,
        },
    )


def against_single_quanta() -> None:
    glowing, n_view = all_effects("none"), 220
    air = detected(line_integrals(small_phantom(), glowing, small_trajectory(glowing)), glowing)
    chain = detector_chain(glowing, air, water_correction(glowing), seed=5, mas=1.0)
    energy, count = detected_spectrum(glowing, moment=0)
    weight = chain_cases.MEAN_QUANTA * count[0] / count[0].sum()
    reading = np.zeros((n_view, 4, 64), np.float32)
    signal = np.full(reading.shape, (weight * energy).sum(), np.float32)
    second = np.full(reading.shape, (weight * energy**2).sum() / chain_cases.SWANK, np.float32)
    window = np.zeros(n_view, np.int64), np.full(n_view, 4)
    mas = np.ones(n_view, np.float32)
    chain.readings(signal, second, mas=mas, first_view=0, window=window, reading=reading)
    found = chain_cases.moments(reading[40:].astype(float))
    expected = chain_cases.moments(
        chain_cases.monte_carlo(glowing, chain_cases.MEAN_QUANTA, n_view, 4, 64)[40:]
    )
    print("against single quanta: mean, variance off by", found[:2] / expected[:2] - 1)
    print("  correlation with next channel, row, view:", found[2:], "single quanta:", expected[2:])


def variance_of_many_scans() -> None:
    glowing = all_effects("body")
    paths = line_integrals(small_phantom(), glowing, small_trajectory(glowing))
    signals = detected(paths, glowing)
    quiet = acquire(paths, glowing, seed=5, noise=False, signals=signals)["variance"].to_numpy()[10:]
    runs = [acquire(paths, glowing, seed=5, realisation=i, signals=signals) for i in range(60)]
    spread = np.stack([run["projection"].to_numpy()[10:] for run in runs]).var(axis=0, ddof=1)
    print("variance of 60 scans over the propagated one:", (spread / quiet)[:, :, 20:44].mean())


def heel() -> None:
    protocol = load_protocol("realistic_chest").replace(bowtie="none")
    cone = np.deg2rad([-3.5, -2.0, -1.3, -0.6, 0.7, 1.5, 2.4])
    found = beam_fluence(protocol, fan_angle_rad=[0.0], cone_angle_rad=cone).to_numpy()[:, 0]
    worst, total = 0.0, 0.0
    for angle, values in zip(cone, found, strict=True):
        tube = protocol.scanner.tube
        own = tube_spectrum(kv=120, anode_angle_deg=7 + np.rad2deg(angle), filters=tube.filters).to_numpy()
        used = own > 1e-3 * own.max()
        worst = max(worst, float(np.abs(values[used] / own[used] - 1).max()))
        total = max(total, abs(float(values.sum() / own.sum() - 1)))
    print(f"heel: spectra between knots off by {worst:.1e} in a bin, {total:.1e} in all")
    print("  air kerma at -2 and +2 degrees:", heel_factor(protocol, cone_angle_rad=np.deg2rad([-2.0, 2.0])))


if __name__ == "__main__":
    against_single_quanta()
    variance_of_many_scans()
    heel()
    for length in (0.0, 300.0):
        middle = dqe(load_protocol("realistic_chest"), water_mm=length)[444]
        print(f"DQE(0) of generic_64_realistic behind {length:.0f} mm of water: {middle:.3f}")
