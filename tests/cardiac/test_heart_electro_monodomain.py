"""Monodomain: both solvers agree, nothing depends on threads, runs go on, what is unusable is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numba import set_num_threads

from twinlab.cardiac import electro
from twinlab.cardiac.electro.loops import aligned
from twinlab.cardiac.electro.tissue import excitable
from twinlab.kernels import heart_lines, heart_stencil
from twinlab.schema import InputError

CORNER = electro.box_stimulus((-1.0,) * 3, (1.5,) * 3)


def _slab(size=(6.0, 2.0, 1.0), h=0.25, fibre=(1.0, 0.0, 0.0)):
    return electro.slab(size, h, fibre=fibre)


def _times(voxels, **settings):
    settings = {"stimuli": [CORNER], "end_ms": 40.0, "dt_ms": 0.05, "until_active": True} | settings
    return electro.monodomain(voxels, **settings)


@pytest.mark.parametrize("mass", ["consistent", "half", "lumped"])
def test_line_solves_and_gradients_agree(mass):
    """Two algorithms for one discretisation: activation within 0.02 ms (tolerance of the iterative solve)."""
    a = _times(_slab(), solver="lines", mass=mass)
    b = _times(_slab(), solver="cg", mass=mass)
    assert a.attrs["solver"] == "lines"
    assert float(abs(a.activation_time - b.activation_time).max()) < 0.02


def test_sleeping_cells_do_not_change_the_result():
    a = _times(_slab())
    b = _times(_slab(), sleep_mv=0.0)
    assert float(abs(a.activation_time - b.activation_time).max()) < 1e-3  # ms; the bound is 1e-3 mV


def test_threads_do_not_change_a_bit():
    voxels = _slab(fibre=(1.0, 1.0, 0.0))
    from numba import config

    a = _times(voxels, end_ms=8.0, until_active=False)
    set_num_threads(1)
    b = _times(voxels, end_ms=8.0, until_active=False)
    set_num_threads(config.NUMBA_NUM_THREADS)
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


def test_turned_fibres_and_turned_slab_are_the_same():
    """Fibres along y of a slab turned by 90 degrees: the same times, turned."""
    a = _times(_slab((6.0, 2.0, 1.0)), solver="cg")
    b = _times(_slab((2.0, 6.0, 1.0), fibre=(0.0, 1.0, 0.0)), solver="cg")
    turned = b.activation_time.values.transpose(0, 2, 1)
    np.testing.assert_allclose(a.activation_time.values, turned, atol=0.02)


def test_skew_tensor_of_the_stencil_against_the_gradient():
    """Energy of a linear field, ``u' K u``, is its gradient's quadratic form times the volume, any tensor."""
    muscle = excitable(_slab((2.0, 1.5, 1.0), fibre=(1.0, 2.0, 3.0)))
    _, lead, mass, stiff = parts = heart_stencil.assemble(
        muscle.number, muscle.nodes, muscle.tensor / muscle.h_mm**2, muscle.weight, 1.0
    )
    margin = slice(heart_stencil.MARGIN, -heart_stencil.MARGIN)
    g = np.array([0.3, -1.0, 2.0])
    u = np.zeros(stiff.shape[1])
    u[margin] = muscle.position_mm() @ g
    energy = float(u @ heart_stencil.multiply(parts[0], lead, stiff, u)) * muscle.h_mm**3
    t = muscle.tensor[0, 0, 0].astype(float)
    tensor = np.array([[t[0], t[3], t[4]], [t[3], t[1], t[5]], [t[4], t[5], t[2]]])
    assert energy == pytest.approx(g @ tensor @ g * 3.0, rel=1e-5)  # single precision
    one = np.zeros(stiff.shape[1])
    one[margin] = 1.0
    volume = float(one @ heart_stencil.multiply(parts[0], lead, mass, one)) * muscle.h_mm**3
    assert volume == pytest.approx(3.0, rel=1e-5)


def test_line_solve_of_a_cosine_decays_as_it_should():
    """A cosine is an eigenvector of both matrices: one Crank-Nicolson factor, exactly."""
    n, number = 33, 0.4
    v = np.cos(np.pi * 3 * np.arange(n) / (n - 1))[None, None, :] * np.ones((2, 3, 1))
    wave = np.pi * 3 / (n - 1)
    mass, stiff = (2.0 + np.cos(wave)) / 3.0, 2.0 * (1.0 - np.cos(wave))
    factor = (mass - 0.5 * number * stiff) / (mass + 0.5 * number * stiff)
    got = v.copy()
    heart_lines.diffuse_box(got, tuple(heart_lines.line(k, number) for k in (2, 3, n)))
    np.testing.assert_allclose(got, factor * v, atol=1e-12)


def test_scar_core_does_not_conduct_and_border_is_slow():
    voxels = _slab((8.0, 2.0, 0.5))
    scar = np.zeros(voxels.wall.shape, np.uint8)
    scar[:, :, 14:18] = 2
    blocked = _times(voxels.assign(scar=(("z", "y", "x"), scar)), end_ms=30.0)
    beyond = blocked.activation_time.values[:, :, 18:]
    assert np.isnan(beyond).all()
    slow = _times(voxels.assign(scar=(("z", "y", "x"), np.where(scar == 2, 1, 0))), end_ms=40.0)
    free = _times(voxels, end_ms=30.0)
    assert (slow.activation_time - free.activation_time).values[:, :, 20:].min() > 0.5


def test_run_goes_on_from_its_checkpoint(tmp_path):
    """Stopped at 6 ms and resumed to 12 ms equals one run to the last bit; other settings are refused."""
    file = tmp_path / "run.npz"
    voxels = _slab((3.0, 1.0, 0.5))
    settings = {"until_active": False, "sites_mm": {"a": (2.0, 0.5, 0.25)}}
    _times(voxels, end_ms=6.0, checkpoint=file, **settings)
    resumed = _times(voxels, end_ms=12.0, checkpoint=file, **settings)
    whole = _times(voxels, end_ms=12.0, **settings)
    xr.testing.assert_identical(resumed.drop_attrs(), whole.drop_attrs())
    assert resumed.membrane_potential.sizes["time"] == 13
    with pytest.raises(InputError, match="same settings"):
        _times(voxels, end_ms=12.0, checkpoint=file, dt_ms=0.04, **{k: settings[k] for k in ("sites_mm",)})
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="earlier run"):
        _times(voxels, checkpoint=file, **settings)


def test_smooth_surface_by_volume_fractions():
    """A strip whose sides fill half of their voxels conducts as one without: no current leaves either way."""
    voxels = _slab((8.0, 1.0, 1.0))
    fraction = np.ones(voxels.wall.shape)
    fraction[:, 0] = 0.5
    voxels = voxels.assign(fraction=(("z", "y", "x"), fraction))
    wide = electro.box_stimulus((-1.0,) * 3, (1.0, 2.0, 2.0))
    a = _times(voxels, stimuli=[wide])
    b = _times(_slab((8.0, 1.0, 1.0)), stimuli=[wide], solver="cg")
    assert float(abs(a.activation_time - b.activation_time).max()) < 0.02


def _broken(change):
    voxels = _slab((2.0, 1.0, 1.0))
    return change(voxels)


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        (lambda v: v.drop_vars("wall"), {}, "variable 'wall'"),
        (lambda v: v.assign(wall=v.wall * 0), {}, "voxels of muscle; got none"),
        (lambda v: v.assign(wall=v.wall.where(abs(v.x - 1.0) > 0.2, 0)), {}, "one piece"),
        (lambda v: v.assign(fibre=v.fibre * np.nan), {}, "unit vectors"),
        (lambda v: v.drop_vars("fibre"), {}, "unit vectors 'fibre'"),
        (lambda v: v.assign_coords(x=v.x * 2.0), {}, "equal steps"),
        (lambda v: v, {"dt_ms": 0.2}, "unstable"),
        (lambda v: v, {"conductivity": electro.Conductivity(0.1, 1e-5)}, "a front would stop"),
        (lambda v: v, {"conductivity": electro.Conductivity(0.1, -1.0)}, "positive"),
        (lambda v: v, {"stimuli": [electro.sphere_stimulus((90.0, 0.0, 0.0), 1.0)]}, "no node"),
        (lambda v: v, {"stimuli": []}, "one or more"),
        (lambda v: v, {"cell": "tp06_layers"}, "transmural"),
        (lambda v: v, {"mass": "none"}, "consistent"),
        (lambda v: v, {"electrodes_mm": {"V1": (1.0, 0.5, 0.5)}}, "outside the muscle"),
        (
            lambda v: v,
            {"stimuli": [electro.box_stimulus((-1,) * 3, (9,) * 3, amplitude_mv_per_ms=1e5)]},
            "finite potentials",
        ),
    ],
)
def test_unusable_input_is_refused(change, settings, says):
    with pytest.raises(InputError, match=says):
        _times(_broken(change), **settings)


def test_aligned_box_is_found_only_where_it_is_one():
    assert aligned(excitable(_slab())) is not None
    assert aligned(excitable(_slab(fibre=(1.0, 1.0, 0.0)))) is None
