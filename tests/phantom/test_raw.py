"""Raw volumes of labels: geometry, table, errors, and the dose in one of twenty materials."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab import dose
from twinlab.phantom import check_phantom, from_raw, organ_names
from twinlab.physics import materials
from twinlab.scanner import load_protocol
from twinlab.schema import InputError

TABLE = {0: ("air", 0.001205), 1: ("water", 1.0, "tank"), 2: ("bone_cortical", 1.9, "rod")}


@pytest.fixture
def labels() -> np.ndarray:
    volume = np.zeros((4, 6, 8), np.uint8)
    volume[:, 1:5, 2:7] = 1
    volume[3, 1, 2] = 2  # high z, low y, low x
    return volume


def test_material_density_organ_and_place(labels):
    phantom = from_raw(labels, spacing_mm=(4.0, 2.0, 1.0), table=TABLE, origin_mm=(10.0, -5.0, 0.0), name="t")
    assert check_phantom(phantom, where="test") == (4.0, 2.0, 1.0)
    assert phantom["z"].values[0] == 10.0
    assert phantom["x"].values[-1] == 7.0
    spot = phantom.sel(z=22.0, y=-3.0, x=2.0)
    names = [str(n) for n in phantom["material_name"].values]
    assert names[int(spot["material"])] == "bone_cortical"
    assert float(spot["density"]) == pytest.approx(1.9)
    assert organ_names(phantom)[int(spot["organ"])] == "rod"
    assert int((phantom["organ"] == 0).sum()) == int((labels == 0).sum())
    assert organ_names(phantom)[0] == "outside"


def test_file_order_and_reversed_axes(labels, tmp_path):
    """The same volume written with other axes reads the same."""
    want = from_raw(labels, spacing_mm=2.0, table=TABLE, name="t", source="s")
    path = tmp_path / "t.raw"
    labels.transpose(2, 1, 0)[:, ::-1].tofile(path)
    got = from_raw(path, shape=(8, 6, 4), order="x-yz", spacing_mm=2.0, table=TABLE, name="t", source="s")
    assert got.attrs["key"] == want.attrs["key"]
    assert from_raw(path, shape=(8, 6, 4), order="xyz", spacing_mm=2.0, table=TABLE).attrs["name"] == "t"


def test_organs_of_several_labels_and_a_body_at_label_0():
    volume = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    table = {k: ("water", 1.0, "even" if k % 2 == 0 else "odd") for k in range(8)}
    phantom = from_raw(volume, spacing_mm=1.0, table=table)
    names = organ_names(phantom)
    assert sorted(names.values()) == ["even", "odd", "outside"]
    assert int((phantom["organ"] == 0).sum()) == 0  # label 0 is no air here
    assert names[1] == "odd"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"table": {0: TABLE[0], 1: TABLE[1]}}, r"none for 2 \(1 voxels\)"),
        ({"table": {**TABLE, 2: ("bone_cortical", 0.0)}}, "label 2: expected a density above 0"),
        ({"table": {**TABLE, 2: ("bone_cortical", -1.0)}}, "density above 0"),
        ({"table": {**TABLE, 2: ("bone_cortical", float("nan"))}}, "density above 0"),
        ({"table": {**TABLE, 2: ("bone_cortical", "1.9")}}, "density above 0"),
        ({"table": {**TABLE, 2: ("bone", 1.9)}}, "label 2: .*near.*bone_cortical"),
        ({"table": {**TABLE, 2: ("bone_cortical",)}}, r"\(material, density\)"),
        ({"table": {**TABLE, 300: ("water", 1.0)}}, "0 to 255"),
        ({"table": {**TABLE, "a": ("water", 1.0)}}, "0 to 255"),
        ({"order": "zyz"}, "x, y and z once"),
        ({"order": "z y x"}, "x, y and z once"),
        ({"spacing_mm": 0.0}, "positive"),
        ({"spacing_mm": (1.0, 2.0)}, "positive"),
        ({"shape": (4, 6, 9)}, "that of the array"),
        ({"origin_mm": (0.0, float("inf"), 0.0)}, "finite"),
    ],
)
def test_wrong_tables_and_axes(labels, change, match):
    with pytest.raises(InputError, match=match):
        from_raw(labels, **{"spacing_mm": 1.0, "table": TABLE, **change})


def test_wrong_files(labels, tmp_path):
    path = tmp_path / "t.raw"
    labels.tofile(path)
    with pytest.raises(InputError, match=r"216 bytes .*192 bytes"):
        from_raw(path, shape=(4, 6, 9), spacing_mm=1.0, table=TABLE)
    with pytest.raises(InputError, match="shape"):
        from_raw(path, spacing_mm=1.0, table=TABLE)
    with pytest.raises(InputError, match="shape"):
        from_raw(path, shape=(4, 6, 0), spacing_mm=1.0, table=TABLE)
    with pytest.raises(InputError, match="no file"):
        from_raw(tmp_path / "none.raw", shape=(4, 6, 8), spacing_mm=1.0, table=TABLE)
    with pytest.raises(InputError, match="uint8"):
        from_raw(labels.astype(np.int16), spacing_mm=1.0, table=TABLE)


TISSUES = (
    "adipose",
    "blood",
    "bone_cortical",
    "brain",
    "breast",
    "cartilage",
    "eye_lens",
    "heart",
    "kidney",
    "liver",
    "lung",
    "muscle",
    "ovary",
    "pancreas",
    "skin",
    "spleen",
    "stomach",
    "thyroid",
    "water",
    "pmma",
)


def _anatomy() -> tuple[np.ndarray, dict[int, tuple[str, float, str]]]:
    """A cylinder of sectors and shells, each of its own tissue, 20 in all."""
    c = (np.arange(40) - 19.5) * 7.0
    y, x = np.meshgrid(c, c, indexing="ij")
    sector = np.floor((np.arctan2(y, x) / (2 * np.pi) % 1.0) * 10).astype(int)
    r = np.hypot(x, y)
    plane = np.where(r < 130, 1 + sector + 10 * (r < 75), 0).astype(np.uint8)
    table = {0: ("air", 0.001205, "outside")}
    table |= {k + 1: (key, materials.get(key).density_g_cm3, key) for k, key in enumerate(TISSUES)}
    return np.broadcast_to(plane, (20, 40, 40)).copy(), table


def test_dose_in_twenty_materials(tmp_path):
    volume, table = _anatomy()
    path = tmp_path / "anatomy.raw"
    volume.tofile(path)
    phantom = from_raw(path, shape=volume.shape, spacing_mm=(10.0, 7.0, 7.0), table=table)
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    result = dose.simulate(
        phantom, protocol, z_range_mm=(-40.0, 40.0), histories=150_000, voxel_map=False, seed=4
    )
    assert sorted(result["organ_name"].values) == sorted(TISSUES)
    a = result.attrs
    assert a["emitted_kev"] == a["deposited_kev"] + a["deposited_air_kev"] + a["escaped_kev"]
    by_name = dict(zip(result["organ_name"].values, result["organ_dose"].values, strict=True))
    assert all(value > 0 for value in by_name.values())
    # at 60 keV mu_en/rho of cortical bone is 2.7 times, of fat 0.6 times that of soft tissue (NIST)
    assert by_name["bone_cortical"] > 1.5 * by_name["blood"]
    assert by_name["adipose"] < by_name["blood"]
    mass = dict(zip(result["organ_name"].values, result["organ_mass"].values, strict=True))
    want = (volume == 1).sum() * 0.49 * table[1][1]
    assert mass["adipose"] == pytest.approx(want, rel=1e-6)


def test_errors_before_a_run():
    volume, table = _anatomy()
    phantom = from_raw(volume, spacing_mm=(10.0, 7.0, 7.0), table=table)
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    with pytest.raises(InputError, match="histories"):
        dose.simulate(phantom, protocol, z_range_mm=(-40.0, 40.0), histories=0)
    with pytest.raises(InputError, match="meets the phantom"):
        dose.simulate(phantom, protocol, z_range_mm=(400.0, 500.0), histories=2000)
    with pytest.raises(InputError, match="kv"):
        protocol.replace(kv=160.0)
