"""Input that cannot be is refused in one line that names it, before any long work."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac import circulation, electro, geometry, mechanics, twin
from twinlab.schema import InputError

NAN = float("nan")
SLAB = electro.slab((4.0, 2.0, 2.0), 0.5)
CORNER = [electro.sphere_stimulus((0.0, 0.0, 0.0), 1.0)]
SOURCE = [electro.Source((0.0, 0.0, 0.0))]


def run(voxels=SLAB, **settings):
    return electro.monodomain(voxels, stimuli=CORNER, end_ms=1.0, **settings)


def without_depth():
    return SLAB.assign(transmural=(("z", "y", "x"), np.full(SLAB["wall"].shape, NAN)))


@pytest.mark.parametrize(
    ("says", "asked"),
    [
        ("a voxel side above 0", lambda: electro.slab((1.0, 1.0, 1.0), 0.0)),
        ("finite sizes", lambda: electro.slab((1.0, 1.0, NAN), 0.5)),
        ("conductivity_s_per_m: expected a positive", lambda: electro.planar_velocity(-1.0, 0.2)),
        ("h_mm: expected a positive", lambda: electro.conductivity_for(0.6, 0.0)),
        ("dt_ms: expected a time step", lambda: run(dt_ms=NAN)),
        ("chi_per_mm and cm_uf_per_mm2 above 0", lambda: run(chi_per_mm=0.0)),
        ("a depth in every voxel", lambda: run(without_depth(), cell="bueno_layers")),
        ("border and core 0 or more", lambda: run(SLAB.assign(scar=SLAB["scar"] + 1), border=NAN)),
        (r"2 core; got \[7\]", lambda: run(SLAB.assign(scar=SLAB["scar"] + 7))),
        ("a depth in every voxel", lambda: electro.eikonal(without_depth(), sources=SOURCE, endocardial_factor=2.0)),
        ("some muscle that conducts", lambda: electro.eikonal(SLAB.assign(scar=SLAB["scar"] + 2), sources=SOURCE)),
        ("border and core 0 or more", lambda: electro.eikonal(SLAB, sources=SOURCE, core=NAN)),
        ("one beat or more", lambda: electro.single_cell(beats=0)),
        ("cycle_ms above 0", lambda: electro.single_cell(cycle_ms=NAN)),
    ],
)  # fmt: skip
def test_excitation(says, asked):
    with pytest.raises(InputError, match=says):
        asked()


def test_meshes_with_inverted_or_flat_elements():
    heart = geometry.idealised_lv(cavity_ml=120, wall_ml=130, h_mm=7, layers=1)
    for order in ([1, 0, 2, 3], [0, 0, 2, 3]):
        bad = heart.copy(deep=True)
        bad["tet"].values[5] = bad["tet"].values[5][order]
        for use in (geometry.fibres, geometry.coordinates):
            with pytest.raises(InputError, match=r"1 of \d+ flat or turned inside out"):
                use(bad)


def test_muscle():
    heart, frame = twin.fitted_left_ventricle(cavity_ml=100.0, wall_ml=90.0, cells=(1, 3, 6))
    law = mechanics.guccione()
    bad = heart.copy(deep=True)
    bad["point"][3, 0] = NAN
    with pytest.raises(InputError, match="1 points that are not"):
        mechanics.body(bad, law=law, frame=frame)
    with pytest.raises(InputError, match="a finite frame of shape"):
        mechanics.body(heart, law=law, frame=frame * NAN)
    with pytest.raises(InputError, match="ActiveLaw"):
        mechanics.ActiveLaw(across=NAN)
    made = mechanics.body(heart, law=law, frame=frame)
    for wrong in (np.zeros(3), np.full(heart.sizes["tet"], NAN)):
        with pytest.raises(InputError, match="a finite tension for each of 90"):
            mechanics.Ventricle(made, lambda _, wrong=wrong: wrong).volume(5.0, 0.0)
    with pytest.raises(InputError, match="a finite displacement"):
        mechanics.strain(made, np.full(made.point.shape, NAN))
    with pytest.raises(InputError, match="muscle that is activated"):
        twin.beat_3d(heart, np.full(heart.sizes["tet"], NAN), frame=frame)


@pytest.mark.parametrize(
    ("says", "settings"),
    [
        ("50 steps_per_beat", {"steps_per_beat": 0}),
        ("and a beat", {"beats": 0}),
        ("heart_rate_bpm", {"heart_rate_bpm": 0.0}),
        ("start_volume_ml", {"start_volume_ml": NAN}),
        ("finite filling_mmhg", {"filling_mmhg": NAN}),
    ],
)
def test_open_loop(says, settings):
    with pytest.raises(InputError, match=says):
        circulation.ventricle_and_windkessel(
            circulation.parameter_set().left_ventricle, load=circulation.Windkessel(), **settings
        )


def test_loops_and_twins():
    with pytest.raises(InputError, match="12 finite numbers"):
        circulation.closed_loop(start=np.full(12, NAN))
    with pytest.raises(InputError, match="what segment_times gives"):
        twin.beats(twin.VirtualHeart(xr.Dataset()), xr.Dataset())
