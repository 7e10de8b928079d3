"""K edges, lines and yields against published tables."""

import numpy as np
import pytest

from twinlab.physics.fluorescence import k_edge_kev, k_lines, k_share
from twinlab.schema import InputError


@pytest.mark.parametrize(
    ("z", "edge", "alpha", "beta", "krause"),
    [
        # edges and lines: X-Ray Data Booklet (LBNL), keV, groups weighted with its relative intensities; yields:
        # Krause (1979), who gives 1 to 2 % for these elements
        (48, 26.711, (23.174 * 100 + 22.984 * 53) / 153, 26.14, 0.843),
        (52, 31.814, (27.472 * 100 + 27.202 * 53) / 153, 31.05, 0.877),
        (53, 33.169, (28.612 * 100 + 28.317 * 53) / 153, 32.36, 0.884),
    ],
)
def test_edges_lines_and_yields_are_the_published_ones(z, edge, alpha, beta, krause):
    first, second = k_lines(z)
    assert k_edge_kev(z) == pytest.approx(edge, abs=0.002)
    assert first.energy_kev == pytest.approx(alpha, abs=0.02)
    assert second.energy_kev == pytest.approx(beta, abs=0.5)  # the group's mean depends on its weak lines
    assert first.photons_per_vacancy + second.photons_per_vacancy == pytest.approx(krause, rel=0.02)
    assert 0.15 < second.photons_per_vacancy / first.photons_per_vacancy < 0.25


def test_k_shell_takes_most_of_the_absorption_above_its_edge():
    share = k_share(48, np.array([20.0, 26.0, 27.0, 60.0, 120.0]))
    assert share[:2].tolist() == [0.0, 0.0]
    # jump ratio r of the edge: share 1 - 1/r, 0.84 with r = 6.3 (Cd)
    assert share[2] == pytest.approx(0.84, abs=0.02)
    assert np.all(np.diff(share[2:]) > 0)


def test_refuses():
    with pytest.raises(InputError, match="atomic number"):
        k_lines(0)
    with pytest.raises(InputError, match="energies"):
        k_share(48, np.array([0.5]))
