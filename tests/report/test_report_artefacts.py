"""The gallery of artefacts: every cause shows, and every correction helps."""

from __future__ import annotations

import pytest

from twinlab import report
from twinlab.report import artefacts
from twinlab.scanner import load_protocol


@pytest.fixture(scope="module")
def images():
    return artefacts.gallery()


def test_every_correction_lowers_the_error_in_water(images):
    assert images.dims == ("cause", "state", "z", "y", "x")
    table = {row["cause"]: row for row in artefacts.errors(images)}
    assert tuple(table) == artefacts.CAUSES
    for cause, row in table.items():
        # Half of what hardening leaves is the streaks of few views, which no correction of spectra touches.
        factor = {"beam hardening": 1.2, "drifting cells": 1.5}.get(cause, 2.5)
        assert row["corrected [HU]"] * factor < row["with the artefact [HU]"], row
    assert "truncation" in artefacts.worst(list(table.values()))


def test_the_figure_says_what_it_shows(images):
    plot = artefacts.draw(images)
    assert "Artefacts by cause" in plot.alt


def test_contrast_is_put_into_words(images):
    image = images.isel(cause=0, state=0)
    words = report.contrast_in({"one": image, "two": image + 100.0}, [-20.0, 20.0, -20.0, 20.0])
    first, second = (float(part.split()[-2]) for part in words.removesuffix(".").split(";"))
    assert second - first == pytest.approx(100.0, abs=1.0)


def test_water_reads_zero_under_a_clinical_protocol():
    centre, edge = report.water_reads(load_protocol("qc_axial"))
    # 1 mm voxels and rebinning: 0.1 HU was seen; the notebook's own bar is 2 HU.
    assert abs(centre) < 1.0
    assert abs(edge) < 1.0
