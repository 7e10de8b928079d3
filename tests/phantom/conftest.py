from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from twinlab import sample


@pytest.fixture(scope="session")
def lidc_small():
    try:
        return sample.small_patient()
    except sample.SampleError as error:
        pytest.skip(f"no sample patient: {error}")


@pytest.fixture(scope="session")
def lidc_full():
    try:
        return sample.patient("lidc", forms=("nifti", "dicom"))
    except sample.SampleError as error:
        pytest.skip(f"no sample patient: {error}")


class Series:
    """Writes a made-up CT series: a bright ball and a wedge in air, as a scanner would store it."""

    def __init__(self, folder: Path, *, n=12, rows=24, columns=32, step=2.5, pixel=(1.5, 1.25)):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.n, self.rows, self.columns, self.step, self.pixel = n, rows, columns, step, pixel
        self.row, self.column = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
        self.first = np.array([-20.0, -18.0, 100.0])
        self.advance = np.array([0.0, 0.0, step])
        self.uid, self.frame = generate_uid(), generate_uid()
        self.tags: dict = {"KVP": 120.0, "RescaleSlope": 1.0, "RescaleIntercept": -1024.0}

    def hu_at(self, points: np.ndarray) -> np.ndarray:
        """CT numbers of the object at patient points (..., 3): smooth, and different along all axes."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        return np.rint(100 + 3 * x - 2 * (y + 5) + 4 * (z - 110))

    def points(self, k: int) -> np.ndarray:
        j, i = np.mgrid[0 : self.rows, 0 : self.columns]
        origin = self.first + k * self.advance
        return origin + j[..., None] * self.pixel[0] * self.column + i[..., None] * self.pixel[1] * self.row

    def slice(self, k: int, *, name: str | None = None, hu: np.ndarray | None = None, **tags) -> Path:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        d.Modality, d.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.SeriesInstanceUID, d.FrameOfReferenceUID = self.uid, self.frame
        d.InstanceNumber = k + 1
        d.Rows, d.Columns = self.rows, self.columns
        d.PixelSpacing = list(self.pixel)
        d.ImageOrientationPatient = [float(v) for v in (*self.row, *self.column)]
        d.ImagePositionPatient = [float(v) for v in self.first + k * self.advance]
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation, d.SamplesPerPixel = 15, 1, 1
        d.PhotometricInterpretation = "MONOCHROME2"
        tags = {**self.tags, **tags}
        for tag, value in tags.items():
            if value is None:
                if tag in d:
                    delattr(d, tag)
            else:
                setattr(d, tag, value)
        values = self.hu_at(self.points(k)) if hu is None else hu
        slope = float(tags.get("RescaleSlope") or 1)
        raw = np.rint((values - float(tags.get("RescaleIntercept") or 0)) / slope).astype(np.int16)
        d.PixelData = raw.tobytes()
        path = self.folder / (name or f"{k:03d}.dcm")
        pydicom.dcmwrite(path, d, enforce_file_format=True)
        return path

    def write(self, *, skip=(), shuffle=False) -> Series:
        names = list(range(self.n))
        if shuffle:
            np.random.default_rng(3).shuffle(names)
        for k in range(self.n):
            if k not in skip:
                self.slice(k, name=f"im{names[k]:03d}")
        return self


@pytest.fixture
def series(tmp_path):
    return Series(tmp_path / "series")
