"""Results are whole or absent."""

import os

import pytest
import xarray as xr

from twinlab.schema import InputError
from twinlab.study import store


def test_a_failed_write_leaves_nothing(tmp_path):
    def stop_halfway():
        with store.atomic(tmp_path / "a.nc") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert list(tmp_path.iterdir()) == []


def test_round_trip_is_identical(tmp_path):
    data = xr.Dataset({"a": ("x", [1.0, 2.5])}, coords={"x": ["p", "q"]}, attrs={"n": 3})
    store.save(data, tmp_path / "d.nc")
    xr.testing.assert_identical(store.read(tmp_path / "d.nc"), data)


def test_damaged_file_is_named(tmp_path):
    (tmp_path / "d.nc").write_bytes(b"not netCDF")
    with pytest.raises(InputError, match=r"d\.nc"):
        store.read(tmp_path / "d.nc")


def test_sweep_spares_living_processes(tmp_path):
    dead, alive = tmp_path / ".x.nc.part-999999999", tmp_path / f".y.nc.part-{os.getpid()}"
    dead.touch()
    alive.touch()
    store.sweep(tmp_path)
    assert not dead.exists()
    assert alive.exists()


def test_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="full disk"), store.atomic(tmp_path / "a"):
        raise OSError(28, "No space left on device")


def test_a_folder_appears_whole(tmp_path):
    with store.atomic_folder(tmp_path / "f") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f" / "a").exists()
