"""A study from nothing to its results: complete, repeatable, unharmed by being killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.study import tiny
from twinlab.schema import InputError
from twinlab.study import dose_map, load, plan, recommend, run, status, tables
from twinlab.study.stages import spot_check


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    file = tiny.write(folder)
    before = os.environ.get("TWINLAB_PROTOCOLS")
    os.environ["TWINLAB_PROTOCOLS"] = str(folder / "protocols")
    yield file
    if before is None:
        del os.environ["TWINLAB_PROTOCOLS"]
    else:
        os.environ["TWINLAB_PROTOCOLS"] = before


@pytest.fixture(scope="module")
def done(place):
    study = load(place)
    return study, run(study, outputs=place.parent / "whole", progress=False)


def test_results_are_complete_and_labelled(done):
    study, results = done
    assert results["dprime"].dims == ("kv", "mas", "pitch", "kernel")
    assert np.isfinite(results["dprime"]).all()
    assert list(results["kernel"].values) == ["smooth", "standard"]
    assert (results["dose_sd_metric"] > 0).all()
    assert all(results[name].attrs.get("units") for name in results.data_vars)
    assert recommend(results, target=study.dprime_target).text


def test_dose_is_linear_in_mas_and_dprime_grows_with_it(done):
    _, results = done
    dose = results["dose_metric"]
    np.testing.assert_allclose(dose.sel(mas=100), 2 * dose.sel(mas=50), rtol=1e-12)  # one run serves both
    growth = (results["dprime"].sel(mas=100) / results["dprime"].sel(mas=50)).values
    # quantum noise alone gives sqrt(2); electronic noise of 100 keV adds at most a few per cent here
    assert (growth >= np.sqrt(2) * 0.999).all()
    assert (growth < np.sqrt(2) * 1.1).all()


def test_noise_of_the_images_is_the_noise_propagated(done):
    _, results = done
    # one region of 30 x 30 pixels an image: about 150 independent samples, sd 6 % each, 3 % for the mean of four
    assert tables.noise_ratio(results) == pytest.approx(1.0, abs=0.1)


def test_a_second_run_reads_the_first(place, done):
    study, results = done
    began = time.perf_counter()
    xr.testing.assert_identical(run(study, outputs=place.parent / "whole", progress=False), results)
    assert plan(study, outputs=place.parent / "whole").seconds == 0
    assert time.perf_counter() - began < 30  # nothing is computed; the bound only tells that from minutes
    assert status(place.parent / "whole")[0]["finished"]


def test_changed_settings_are_never_met_by_old_results(place, done):
    study, _ = done
    root = place.parent / "whole"
    assert plan(study.model_copy(update={"histories": 50000}), outputs=root).seconds > 0
    assert plan(study.model_copy(update={"lesion_diameter_mm": 13.0}), outputs=root).seconds > 0
    target_only = plan(study.model_copy(update={"dprime_target": 7.0}), outputs=root)
    assert all(stage.done for stage in target_only.stages if not stage.name.startswith("case "))


def sweep(place: Path, root: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "twinlab.cli", "sweep", str(place)]
    environment = {**os.environ, "TWINLAB_OUTPUTS": str(root)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_three_times_the_results_are_bit_identical(place, done):
    _, results = done
    root = place.parent / "killed"
    rng = random.Random(5)
    for _ in range(3):
        process = sweep(place, root)
        time.sleep(rng.uniform(5, 12))  # start-up takes about 4 s, the work that is left some 10 s
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert sweep(place, root).wait() == 0
    (again,) = (root / "studies").glob("*/results.nc")
    (first,) = (place.parent / "whole" / "studies").glob("*/results.nc")
    with xr.open_dataset(again, engine="h5netcdf") as data:
        xr.testing.assert_identical(data.load(), results)
    assert again.read_bytes() == first.read_bytes()
    assert not list(root.rglob(".*.part-*"))


def test_lesion_organ_must_exist(place):
    study = load({**tiny.STUDY, "lesion_organ": "liver"})
    with pytest.raises(InputError, match=r"lesion_organ: expected one of .*water.*; got 'liver'"):
        run(study, outputs=place.parent / "refused", progress=False)


def test_unknown_patient_is_refused_before_work(place):
    study = load({**tiny.STUDY, "patient": "nobody"})
    with pytest.raises(InputError, match="nobody"):
        plan(study, outputs=place.parent / "refused")


def test_a_dask_scheduler_gives_the_same_results(place, done):
    from distributed import LocalCluster

    _, results = done
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        again = run(
            load(place), outputs=place.parent / "cluster", scheduler=cluster.scheduler_address, progress=False
        )
    xr.testing.assert_identical(again, results)


def test_no_scheduler_there_is_one_clear_error(place):
    with pytest.raises(InputError, match="scheduler: expected the address"):
        run(load(place), outputs=place.parent / "lost", scheduler="tcp://127.0.0.1:1", progress=False)


def test_doses_of_the_response_are_checked_by_a_full_run(place, done):
    study, results = done
    answer = recommend(results, target=study.dprime_target)
    maps = dose_map(study, answer, outputs=place.parent / "whole")
    assert set(maps.data_vars) == {"dose", "dose_sd"}
    assert abs(maps.attrs["check_percent"]) < 4 * maps.attrs["check_percent_sd"]
    assert maps.attrs["check_pull"] < 5
    full = xr.Dataset(
        {
            "organ_dose": ("organ_id", [1.0, 2.0]),
            "organ_dose_sd": ("organ_id", [0.001, 0.002]),
            "organ_mass": ("organ_id", [10.0, 10.0]),
        },
        coords={"organ_name": ("organ_id", ["liver", "lung"])},
    )
    with pytest.raises(InputError, match="lung"):
        spot_check(full, full.assign(organ_dose=("organ_id", [1.0, 2.2])))
