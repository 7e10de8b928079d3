"""Pictures, figures and words of the heart's twin."""

import numpy as np
import pytest
import xarray as xr

from twinlab.report import heart_beats, heart_figures, heart_scene, heart_tables
from twinlab.schema import InputError

pytest.importorskip("pyvista", reason="needs pyvista (extra heart)")


@pytest.fixture(scope="module")
def block():
    """Two layers of cubes as tetrahedra, 20 mm wide: red above, blue below once coloured."""
    n = 3
    grid = np.stack(np.meshgrid(*(np.linspace(0.0, 20.0, n),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cells = []
    for i in range(n - 1):
        for j in range(n - 1):
            for k in range(n - 1):
                corner = [((i + a) * n + j + b) * n + k + c for a in (0, 1) for b in (0, 1) for c in (0, 1)]
                # six tetrahedra around the diagonal from corner 0 to corner 7
                ring = [1, 3, 2, 6, 4, 5, 1]
                cells += [[corner[0], corner[ring[m]], corner[ring[m + 1]], corner[7]] for m in range(6)]
    return xr.Dataset({"point": (("node", "axis"), grid), "tet": (("tet", "corner"), np.array(cells))})


def pixels(plot):
    import io

    from matplotlib.image import imread

    return imread(io.BytesIO(plot.png()))[..., :3]


def test_a_field_is_seen_where_it_is(block):
    """Upper half of the block red, lower half blue: the picture says which is up."""
    plot = heart_scene.hearts(
        {"block": (block, block["point"].values[:, 2])},
        label="Height [mm]",
        cmap="bwr",
        view="front",
        opened=False,
    )
    picture = pixels(plot)[:, : int(0.7 * pixels(plot).shape[1])]
    red = np.argwhere(picture[..., 0] > picture[..., 2] + 0.3)
    blue = np.argwhere(picture[..., 2] > picture[..., 0] + 0.3)
    assert len(red) > 1000
    assert len(blue) > 1000
    assert red[:, 0].mean() < blue[:, 0].mean() - 20
    assert "Height" in plot.alt


def test_a_heart_stands_upright_whatever_its_pose(block):
    """Turned with the frame that its attributes tell, the picture is the same."""
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    told = {"base_normal": [0.0, 0.0, 1.0], "septum_direction": [-1.0, 0.0, 0.0]}
    upright = block.assign_attrs(told)
    turned = block.assign(point=block["point"].copy(data=block["point"].values @ turn.T)).assign_attrs(
        {name: (turn @ np.array(v)).tolist() for name, v in told.items()}
    )
    field = block["point"].values[:, 2]
    one, two = (
        pixels(heart_scene.hearts({"a": (heart, field)}, label="x", view="front"))
        for heart in (upright, turned)
    )
    # the rasteriser's edges may move by a pixel
    assert (np.abs(one - two).max(axis=-1) > 0.1).mean() < 0.005


def test_helix_angle_on_a_cylinder():
    """Right-handed helix at 60 degrees: positive; along the axis 90; around 0; sign of the vector does not matter."""
    theta = np.linspace(0.0, 6.0, 7)
    outward = np.stack([np.cos(theta), np.sin(theta), 0 * theta], axis=1)
    around = np.stack([-np.sin(theta), np.cos(theta), 0 * theta], axis=1)
    up = np.array([0.0, 0.0, 1.0])
    for angle in (-60.0, 0.0, 30.0, 60.0):
        along = np.cos(np.radians(angle)) * around + np.sin(np.radians(angle)) * up
        for sign in (1.0, -1.0):
            np.testing.assert_allclose(heart_scene.helix_angle(sign * along, outward), angle, atol=1e-9)


def test_fields_and_views_that_do_not_fit_are_refused(block):
    with pytest.raises(InputError, match=r"a field by node \(27\) or by tet \(48\)"):
        heart_scene.hearts({"block": (block, np.zeros(5))}, label="x")
    with pytest.raises(InputError, match="one of front, left, back, oblique"):
        heart_scene.hearts({"block": (block, np.zeros(27))}, label="x", view="above")
    with pytest.raises(InputError, match="17 values"):
        heart_figures.bulls_eye({"a": np.zeros(16)}, label="x")


def test_the_bulls_eye_puts_segments_where_the_standard_has_them():
    """Cerqueira 2002, figure 4: 1 on top, 2 and 3 on the left, 4 below, 17 in the middle."""
    values = np.arange(1.0, 18.0)
    plot = heart_figures.bulls_eye({"a": values}, label="x")
    at = {t.get_text(): np.array(t.get_position()) for t in plot.axes[0].texts}
    assert at["1"][1] > 3
    assert at["4"][1] < -3
    assert at["2"][0] < -2
    assert at["3"][0] < -2
    assert at["5"][0] > 2
    assert at["6"][0] > 2
    assert at["14"][0] < -1
    assert np.abs(at["17"]).max() < 0.1


def answers(changes):
    """A what-if table of stroke volumes: mean, low and high change of each lead."""
    names = ["as is", *(f"lead: {n}" for n in changes)]
    rows = np.array([[0.0, 0.0, 0.0], *changes.values()])
    data = {
        k: (("scenario", "output"), rows[:, [i]])
        for i, k in enumerate(("change", "change_low", "change_high"))
    }
    return xr.Dataset(data, coords={"scenario": names, "output": ["stroke_volume"]})


def test_the_best_lead_is_named_with_its_doubt():
    alone = heart_beats.best_lead_words(answers({"left lateral": (2.0, 1.0, 3.0)}))
    assert alone == "The lead left lateral changes stroke volume: +2.0 ml (+1.0 to +3.0)."
    near = heart_beats.best_lead_words(answers({"a": (2.0, 1.0, 3.0), "b": (2.5, 1.5, 3.5)}))
    assert near.startswith("Of 2 left leads, b changes stroke volume most: +2.5 ml")
    assert near.endswith("its interval overlaps that of the next.")
    apart = heart_beats.best_lead_words(answers({"a": (2.0, 1.9, 2.1), "b": (5.0, 4.0, 6.0)}))
    assert apart.endswith("its interval lies above that of the next.")


def test_what_if_rows_carry_interval_and_percentile():
    columns = {"value": 55.0, "low": 50.0, "high": 60.0, "percentile": 42.0}
    table = xr.Dataset(
        {k: (("scenario", "output"), [[v]]) for k, v in columns.items()},
        coords={"scenario": ["as is"], "output": ["lv_ef"]},
    )
    rows = heart_tables.what_if_rows(table, {"lv_ef": "EF [%]"})
    assert rows["EF [%]"][0] == "55 (50 to 60), P42"
