"""Figures draw what they are given, with units, and tell it in words."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from twinlab.report import figures
from twinlab.report.style import Plot, extent, pretty
from twinlab.schema import InputError, label


@pytest.fixture
def hu() -> xr.DataArray:
    z, y, x = np.arange(6) * 5.0, np.arange(40) * 4.0 - 80, np.arange(50) * 4.0 - 100
    radius = np.hypot(*np.meshgrid(y, x, indexing="ij"))
    return label("hu", np.where(radius < 60, 40.0, -1000.0) * np.ones((6, 1, 1)), {"z": z, "y": y, "x": x})


@pytest.fixture
def phantom(hu) -> xr.Dataset:
    organ = np.where(hu.values > 0, 5, 0).astype(np.uint16)
    names = label("organ_name", np.array(["outside", "liver"]), {"organ_id": np.array([0, 5], np.uint16)})
    return xr.Dataset({"organ": label("organ", organ, hu.coords), "organ_name": names})


def drawn(plot: Plot) -> np.ndarray:
    """Pixels of the picture."""
    bundle, meta = plot._repr_mimebundle_()
    assert meta["image/png"]["alt"] == bundle["text/plain"] != "figure"
    return np.asarray(Image.open(io.BytesIO(plot.png())).convert("RGB"))


def test_slices_show_the_window(hu):
    pixels = drawn(figures.slices(hu, z_mm=[0.0, 25.0]))
    # 40 HU in -160..240 is mid grey, air is black; both fill much of the picture.
    assert (np.abs(pixels.astype(int) - 127).max(-1) < 3).mean() > 0.05
    assert (pixels.max(-1) == 0).mean() > 0.05


def test_patient_left_is_on_the_right_and_front_on_top(hu):
    mark = hu.copy(deep=True)
    mark.values[:] = -1000.0
    mark.values[:, 2:12, 35:48] = 1000.0  # front (small y), left (large x)
    plot = figures.slices(mark, z_mm=[0.0])
    image = plot.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    assert left < right
    assert top < bottom  # y grows downwards, to the back
    assert np.asarray(image.get_array())[5, 40] == 1000.0


def test_sections_put_the_head_up(hu):
    plot = figures.planes(hu)
    coronal = plot.axes[1].images[0]
    _, _, bottom, top = coronal.get_extent()
    assert bottom < top
    drawn(plot)


def test_other_figures_draw(hu, phantom):
    dose = label("dose", np.full(hu.shape, 3.0), hu.coords)
    drawn(
        figures.compare({"a": hu, "b": hu + 10}, z_mm=0, difference=True, regions={"roi": (-10, 10, -10, 10)})
    )
    drawn(figures.organs(hu, phantom, names=["liver"]))
    drawn(figures.dose_wash(dose, hu))
    curve = label("nps_radial", np.array([0.0, 2.0, 1.0]), {"frequency": [0.1, 0.2, 0.3]})
    drawn(figures.noise_power({"a": curve}))
    drawn(figures.profile({"a": curve}, band={"a": curve * 0.1}, reference={"limit": 1.0}))


def test_dose_bars_are_sorted_and_carry_their_uncertainty():
    ids = {"organ_id": np.array([1, 2, 3], np.uint16)}
    result = xr.Dataset(
        {
            "organ_dose": label("organ_dose", np.array([2.0, 5.0, 1.0]), ids),
            "organ_dose_sd": label("organ_dose_sd", np.array([0.1, 0.2, 0.3]), ids),
            "organ_name": label("organ_name", np.array(["lung_left", "heart", "liver"]), ids),
        }
    )
    plot = figures.organ_bars(result)
    assert [t.get_text() for t in plot.axes[0].get_yticklabels()] == ["liver", "lung left", "heart"]
    assert "Highest: heart, 5 mGy" in plot.alt
    ends = plot.axes[0].collections[0].get_segments()[-1][:, 0]
    np.testing.assert_allclose(ends, [5 - 0.4, 5 + 0.4])
    drawn(plot)


def test_pareto_marks_the_recommended_protocol():
    cases = pd.DataFrame(
        {"kv": [80, 80, 120], "ctdi": [2.0, 4.0, 5.0], "d": [1.0, 1.5, 1.4], "sd": [0.1] * 3}
    )
    cases["front"] = [True, True, False]
    plot = figures.pareto(
        cases,
        dose="ctdi",
        quality="d",
        quality_sd="sd",
        colour="kv",
        front="front",
        recommended=1,
        required=1.2,
        labels={"ctdi": "CTDIvol [mGy]", "kv": "kV"},
    )
    assert "recommended at CTDIvol [mGy] 4" in plot.alt
    drawn(plot)
    with pytest.raises(InputError, match="columns kv, ctdi"):
        figures.pareto(cases, dose="dlp", quality="d")


def test_wrong_names_are_refused(hu, phantom):
    with pytest.raises(InputError, match="liver"):
        figures.organs(hu, phantom, names=["spleen"])
    with pytest.raises(InputError, match="lung"):
        figures.slices(hu, hu_window="soft")


def test_axes_and_units():
    image = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), coords={"y": [0.0, 2.0], "x": [10.0, 11.0, 12.0]})
    assert extent(image) == (9.5, 12.5, 3.0, -1.0)
    assert pretty("g cm-3") == "g cm⁻³"
