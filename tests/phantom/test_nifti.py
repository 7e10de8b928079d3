from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from twinlab.phantom.nifti import read_image, read_labels, read_legend
from twinlab.schema import InputError


def write(path, values, *, spacing=(1.0, 1.5, 2.0), origin=(-3.0, 4.0, 5.0), direction=None):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).ravel())
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def values():
    rng = np.random.default_rng(5)
    return rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("flip", [(1, 1, 1), (1, -1, 1), (-1, -1, 1), (1, 1, -1), (-1, 1, -1)])
@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_any_stored_order_is_the_same_patient(tmp_path, values, flip, turn):
    """Each voxel is where ITK says that it is, whatever axes the file is stored along."""
    direction = np.eye(3)[:, turn] * np.array(flip)
    path = write(tmp_path / "a.nii.gz", values, direction=direction)
    hu = read_image(path)
    for axis in "zyx":
        assert (np.diff(hu[axis]) > 0).all()
    image = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (5, 0, 3), (2, 4, 1)]:
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        assert float(hu.sel(x=x, y=y, z=z, method="nearest")) == image[index]


def test_labels_meet_the_image_although_stored_otherwise(tmp_path, values):
    image = read_image(write(tmp_path / "ct.nii.gz", values, origin=(0, 0, 0)))
    mask = (np.abs(values) % 7).astype(np.uint8)[:, ::-1]
    stored = write(tmp_path / "m.nii.gz", mask, origin=(0, 1.5 * 4, 0), direction=np.diag([1.0, -1.0, 1.0]))
    np.testing.assert_array_equal(read_labels(stored, like=image), np.abs(values) % 7)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spacing": (1.0, 1.5, 2.1)}, "2.1 mm"),
        ({"origin": (-3.0, 4.0, 6.0)}, "from 6"),
        ({"direction": np.diag([1.0, -1.0, 1.0])}, "from -2"),
    ],
)
def test_labels_of_another_grid_are_refused_with_both_grids(tmp_path, values, change, word):
    image = read_image(write(tmp_path / "ct.nii.gz", values))
    path = write(tmp_path / "m.nii.gz", np.abs(values).astype(np.uint8) % 3, **change)
    with pytest.raises(InputError, match=word) as caught:
        read_labels(path, like=image)
    assert "z 4 x 2 mm from 5, y 5 x 1.5 mm from 4, x 6 x 1 mm from -3" in str(caught.value)


def test_labels_of_another_size_are_refused(tmp_path, values):
    image = read_image(write(tmp_path / "ct.nii.gz", values))
    with pytest.raises(InputError, match="x 3 x"):
        read_labels(write(tmp_path / "m.nii.gz", np.zeros((4, 5, 3), np.uint8)), like=image)


@pytest.mark.parametrize(
    ("data", "word"),
    [(np.full((4, 5, 6), 0.5, np.float32), "fractions"), (np.full((4, 5, 6), 2000, np.int16), "0 to 999")],
)
def test_label_values_must_be_labels(tmp_path, values, data, word):
    image = read_image(write(tmp_path / "ct.nii.gz", values))
    with pytest.raises(InputError, match=word):
        read_labels(write(tmp_path / "m.nii.gz", data), like=image)


def test_oblique_images_are_refused(tmp_path, values):
    c, s = np.cos(0.1), np.sin(0.1)
    path = write(tmp_path / "a.nii.gz", values, direction=[[c, -s, 0], [s, c, 0], [0, 0, 1]])
    with pytest.raises(InputError, match="oblique"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (np.full((4, 5, 6), 30, np.int16), "CT numbers in HU"),
        (np.full((4, 5, 6), np.nan, np.float32), "NaN"),
    ],
)
def test_images_not_in_hu_are_refused(tmp_path, data, word):
    with pytest.raises(InputError, match=word):  # .mha: NIfTI readers turn NaN into 0
        read_image(write(tmp_path / "a.mha", data))


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*gone\.nii"):
        read_image(tmp_path / "gone.nii")
    (tmp_path / "bad.nii").write_bytes(b"not an image at all")
    with pytest.raises(InputError, match=r"bad\.nii") as caught:
        read_image(tmp_path / "bad.nii")
    assert "\n" not in str(caught.value)


def test_legends(tmp_path):
    table = tmp_path / "legend.csv"
    table.write_text("group,original_idx,structure,id\norgans,1,spleen,1\norgans,2,liver,5\n")
    assert read_legend(table, np.array([0, 1, 5])) == {1: "spleen", 5: "liver"}
    assert read_legend(None, np.array([0, 7])) == {7: "label_7"}
    with pytest.raises(InputError, match=r"\[6\]"):
        read_legend(table, np.array([0, 1, 6]))
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns id and structure"):
        read_legend(table, np.array([1]))
    with pytest.raises(InputError, match="no file"):
        read_legend(tmp_path / "none.csv", np.array([1]))
