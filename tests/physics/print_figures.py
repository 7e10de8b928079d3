"""Print the evidence table of twinlab.physics: ``python tests/physics/print_figures.py`` (Markdown).

Needs the reference data (TWINLAB_REFERENCE, or ../shared/reference beside the repository).
"""

from __future__ import annotations

import csv

import numpy as np
import spekpy
import xraylib
from scipy.optimize import brentq
from test_attenuation import NIST, nist, reference
from test_spectra import mono, published_spectrum, tube

from twinlab.physics import attenuation, spectra


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |")


def deviation(ours: np.ndarray, published: np.ndarray, where: np.ndarray) -> str:
    relative = 100 * (ours / published - 1)
    worst = int(np.abs(relative).argmax())
    return (
        f"largest {relative[worst]:+.2f} % at {where[worst]:g} keV, rms {np.sqrt(np.mean(relative**2)):.2f} %"
    )


def nist_rows() -> None:
    for key in NIST:
        energy, mu, mu_en = nist(key)
        row(
            f"mu/rho {key}, 10 to 150 keV",
            deviation(attenuation.mass_attenuation(key, energy)[0], mu, energy),
        )
        ours = attenuation.mass_energy_absorption(key, energy)[0]
        row(f"mu_en/rho {key}, 10 to 150 keV", deviation(ours, mu_en, energy))


def element_rows() -> None:
    table = np.genfromtxt(reference("nist126_muen_elements.csv"), delimiter=",", skip_header=1)
    for first, last in ((1, 18), (19, 41), (42, 74), (76, 83)):
        ours, theirs, where = [], [], []
        for z in range(first, last + 1):
            rows = table[(table[:, 0] == z) & (table[:, 1] >= 5) & (table[:, 1] <= 150)]
            edges = [attenuation._or_zero(xraylib.EdgeEnergy, z, shell) for shell in range(4)]
            rows = rows[[all(abs(e / edge - 1) > 1e-3 for edge in edges if edge) for e in rows[:, 1]]]
            ours.append(attenuation._element_mu_en(z, rows[:, 1].tobytes()))
            theirs.append(rows[:, 2])
            where.append(rows[:, 1])
        figures = deviation(np.concatenate(ours), np.concatenate(theirs), np.concatenate(where))
        row(f"mu_en/rho elements Z {first} to {last}, 5 to 150 keV", figures)


def tg195_rows() -> None:
    with reference("tg195/case1.csv").open() as stream:
        codes = {(r["volume"], r["spectrum"]): r for r in csv.DictReader(stream)}
    cases = {
        "30 keV": (mono(30), 2.273, 4.546),
        "100 keV": (mono(100), 15.11, 30.22),
        "30 kVp": (published_spectrum("Mo_Mo_30kVp_RQRM3"), 0.3431, 0.7663),
        "100 kVp": (published_spectrum("W_Al_100kVp_RQR8"), 3.950, 9.840),
    }
    for name, (bare, *layers) in cases.items():
        beam = spectra.filtered(bare, {"air": 1000.0})
        mu_en = attenuation.mass_energy_absorption("air", beam.energy)[0]
        for layer, al_mm, part in zip(("HVL", "QVL"), layers, (0.5, 0.25), strict=True):
            ours = spectra.hvl_mm(beam, transmission=part)
            row(
                f"TG-195 case 1, {name}, {layer}",
                f"{ours:.4f} mm against {al_mm} ({100 * (ours / al_mm - 1):+.2f} %)",
            )
            behind = spectra.filtered(beam, {"aluminum": al_mm})
            ratio = float((behind * beam.energy * mu_en).sum() / (beam * beam.energy * mu_en).sum())
            mean, spread = float(codes[layer, name]["mean_of_codes"]), codes[layer, name]["spread_pct"]
            off = f"{100 * (ratio / mean - 1):+.2f} %; codes spread {float(spread):.2f} %"
            row(
                f"TG-195 case 1, {name}, kerma behind {al_mm} mm Al",
                f"{ratio:.5f} against {mean:.5f} ({off})",
            )


def tube_rows() -> None:
    for name, kv in (("W_Al_100kVp_RQR8", 100), ("W_Al_120kVp_RQR9", 120)):
        published = published_spectrum(name)
        wanted = spectra.hvl_mm(published)

        def beam(al_mm: float, kv: float = kv):
            return tube(kv, filters={"aluminum": al_mm}, bin_width_kev=0.5)

        al_mm = brentq(lambda t, beam=beam, wanted=wanted: spectra.hvl_mm(beam(t)) - wanted, 0.5, 6.0)
        mine = beam(al_mm)
        qvl = [spectra.hvl_mm(s, transmission=0.25) for s in (mine, published)]
        mean = [spectra.mean_energy_kev(s) for s in (mine, published)]
        text = f"QVL {qvl[0]:.3f} against {qvl[1]:.3f} mm, mean {mean[0]:.2f} against {mean[1]:.2f} keV"
        row(f"tube {kv} kV, 12 degrees, filtered to the HVL of {name} ({al_mm:.2f} mm Al)", text)
    for kv in (60, 80, 100, 120, 140):
        other = spekpy.Spek(kvp=kv, th=12, dk=0.25, physics="casim", z=100, mas=1)
        other.filter("Al", 2.5)
        kerma, hvl = 1e3 * spectra.air_kerma_mgy_per_mas(tube(kv)), spectra.hvl_mm(tube(kv))
        text = f"kerma {kerma:.2f} against {other.get_kerma():.2f} uGy/mAs, "
        text += f"HVL {hvl:.3f} against {other.get_hvl1():.3f} mm"
        row(f"tube {kv} kV, 2.5 mm Al, against SpekPy's own figures", text)


if __name__ == "__main__":
    row("case", "ours against the reference")
    row("---", "---")
    nist_rows()
    element_rows()
    tg195_rows()
    tube_rows()
