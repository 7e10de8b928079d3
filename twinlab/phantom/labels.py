"""What organ labels say about matter: contrast-filled blood is not bone, and a kidney stays a kidney.

Classes (see data/organs.yaml for the organs of each):

bone, segmented, and what has no label
    Schneider's segments; in the gut, what is as bright as bone is contrast medium.
blood, heart, lung vessels
    Blood; above its own CT number by 1 mg iodine per ml or more: blood with iodine, in steps.
lung
    Lung tissue up to -50 HU at any density, blood above.
cartilage
    Cartilage until it is 150 HU brighter than it should be, then bone.
plain tissues (liver, kidney, muscle ...)
    That tissue from -50 HU; where the organ's median says that it is enhanced, blood with iodine above.

In each, the density is the one at which the material has the CT number measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from twinlab.phantom.build import BODY, OUTSIDE
from twinlab.phantom.hu import (
    LUT_START,
    LUT_STOP,
    METAL,
    SEGMENTS,
    CtScale,
    TissueTable,
    density_rules,
    segment_names,
    segment_row,
)

IODINE_MG_ML = (2, 5, 10, 15, 22, 32, 45, 65, 90, 120)
"""Concentrations in use; neighbours differ by less than 25 % in attenuation, density errs by 12 % at most."""

SOFT_FROM_HU = -50
"""Below this a voxel of a soft organ holds fat or gas, and Schneider's segments decide."""

CALCIFIED_HU = 150.0
"""Brighter than its tissue by this much, without contrast medium, is calcium."""

VEIN_HU = 800
"""Hardly diluted contrast medium: brighter than all but cortical bone."""

BLOOM_HU = 2000
"""No bone but enamel is as bright as this."""

REACH_MM = 60.0
"""Bright voxels without label belong to contrast-filled vessels up to this distance from a labelled one."""

ROW_OUTSIDE, ROW_BODY, ROW_CONTRAST, FIRST_ORGAN_ROW = 0, 1, 2, 3


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[list[str], str]]:
    with resources.as_file(resources.files("twinlab.phantom") / "data" / "organs.yaml") as path:
        return [
            (row["match"], row["class"]) for row in yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        ]


def tissue_class(organ_name: str) -> str:
    """Class of an organ by its name; ``segmented`` for names unknown.

    Examples
    --------
    >>> tissue_class("vertebrae_L1"), tissue_class("portal_vein_and_splenic_vein"), tissue_class("left ear")
    ('bone', 'blood', 'segmented')
    """
    name = organ_name.strip().lower().replace(" ", "_")
    for patterns, kind in _patterns():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return kind
    return "segmented"


class Conversion:
    """Table of tissues for one image with labels.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x), units HU
    organ : ndarray of uint16, shape (z, y, x)
        Labels; 0 outside, 1000 body.
    names : mapping of int to str
        Organ names by label.
    spacing_mm : (z, y, x)
    scale : CtScale
    metal_hu : float or None

    Attributes
    ----------
    table : TissueTable
    row : ndarray of uint16, shape (z, y, x)
        Row of the table for each voxel.
    enhanced : list of str
        Organs found to hold contrast medium.
    """

    def __init__(
        self,
        hu: np.ndarray,
        organ: np.ndarray,
        names: Mapping[int, str],
        *,
        spacing_mm: Sequence[float],
        scale: CtScale,
        metal_hu: float | None,
    ) -> None:
        ids = [int(i) for i in np.flatnonzero(np.bincount(organ.ravel())) if int(i) not in (OUTSIDE, BODY)]
        rows = np.zeros(max([BODY, *ids]) + 1, np.uint16)
        rows[BODY] = ROW_BODY
        rows[ids] = np.arange(FIRST_ORGAN_ROW, FIRST_ORGAN_ROW + len(ids))
        self.row = rows[organ]
        self._kinds = ["outside", "body", "contrast", *(tissue_class(names[i]) for i in ids)]
        self._ids = ids
        self._rows = _Rows(scale, metal_hu, sorted({k for k in self._kinds if k not in _SPECIAL}))
        medians = _medians(hu, self.row, len(self._kinds))
        flags = [
            self._rows.is_enhanced(kind, median) for kind, median in zip(self._kinds, medians, strict=True)
        ]
        filled = any(
            flag for flag, kind in zip(flags, self._kinds, strict=True) if kind in ("blood", "heart")
        )
        self.enhanced = [names[i] for i, flag in zip(ids, flags[FIRST_ORGAN_ROW:], strict=True) if flag]
        if filled:
            kinds = np.array(self._kinds)
            _find_contrast(hu, self.row, kinds == "blood", kinds == "bone", spacing_mm, self._rows.bone_from)
        table = np.stack([self._rows.row(k, f, filled) for k, f in zip(self._kinds, flags, strict=True)])
        self.table = TissueTable(self._rows.names, table, *density_rules(self._rows.names, scale))


_SPECIAL = {"outside", "body", "contrast", "bone", "segmented", "blood", "lung"}


class _Rows:
    """Rows of materials by CT number, one for each class of tissue."""

    def __init__(self, scale: CtScale, metal_hu: float | None, tissues: Sequence[str]) -> None:
        from twinlab.physics.materials import get

        plain = ["lung", "blood", *(t for t in tissues if t not in ("lung", "blood"))]
        iodine = [f"blood+iodine_{c}mg_ml" for c in IODINE_MG_ML]
        self.names = [*segment_names(), METAL, *plain, *iodine]
        self.numbers = np.arange(LUT_START, LUT_STOP + 1)
        self.segments = segment_row(scale, SEGMENTS, metal_hu)
        first_bone = 1 + SEGMENTS.index(10)
        self.bone_from = int(self.numbers[np.flatnonzero(self.segments == first_bone)[0]])
        self.base = {t: float(scale.hu([t], get(t).density_g_cm3)[0]) for t in plain}
        ten = "blood+iodine_10mg_ml"
        self.per_mg = float(scale.hu([ten], get(ten).density_g_cm3)[0] - self.base["blood"]) / 10.0

    def is_enhanced(self, kind: str, median: float) -> bool:
        """Whether an organ's median CT number says that it holds 1 mg iodine per ml or more."""
        if kind in (
            "outside",
            "body",
            "contrast",
            "bone",
            "segmented",
            "lung",
            "cartilage",
            "muscle",
            "brain",
        ):
            return False
        return bool(median > self.base[kind] + self.per_mg)

    def row(self, kind: str, enhanced: bool, filled: bool) -> np.ndarray:
        """Material for each CT number."""
        row = self.segments.copy()
        if kind == "outside":
            row[:] = 0
        elif kind == "contrast":
            self._iodine(row, "blood")
        elif kind == "segmented":
            bright = row.copy()
            self._iodine(bright, "blood")
            row[self.numbers >= self.bone_from] = bright[self.numbers >= self.bone_from]
        elif kind not in ("body", "bone"):
            tissue = "blood" if kind == "lung" else kind
            row[self.numbers >= SOFT_FROM_HU] = self.names.index(tissue)
            if enhanced or (filled and kind in ("lung", "heart", "blood")):
                self._iodine(row, tissue)
            else:
                calcified = self.numbers >= self.base[tissue] + CALCIFIED_HU
                row[calcified] = self.segments[calcified]
            if kind == "lung":
                row[self.numbers < SOFT_FROM_HU] = self.names.index("lung")
        return row

    def _iodine(self, row: np.ndarray, tissue: str) -> None:
        concentration = (self.numbers - self.base[tissue]) / self.per_mg
        steps = np.array([0.0, *IODINE_MG_ML])
        step = np.digitize(concentration, (steps[:-1] + steps[1:]) / 2)
        first = self.names.index(f"blood+iodine_{IODINE_MG_ML[0]}mg_ml")
        row[step > 0] = first + step[step > 0] - 1


def _medians(hu: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
    width = LUT_STOP - LUT_START + 1
    table = np.zeros(count * width, np.int64)
    for values, rows in zip(hu, row, strict=True):
        pick = rows >= FIRST_ORGAN_ROW
        number = np.clip(np.rint(values[pick]), LUT_START, LUT_STOP).astype(np.int64) - LUT_START
        flat = rows[pick].astype(np.int64) * width + number
        table += np.bincount(flat, minlength=table.size)
    sums = table.reshape(count, width).cumsum(axis=1)
    half = (sums >= (sums[:, -1:] + 1) // 2).argmax(axis=1)
    return np.where(sums[:, -1] > 0, half + LUT_START, -np.inf)


def _find_contrast(
    hu: np.ndarray,
    row: np.ndarray,
    blood: np.ndarray,
    bone: np.ndarray,
    spacing_mm: Sequence[float],
    bright_from: int,
) -> None:
    """Give the contrast row, in place, to bright voxels that belong to filled vessels.

    Undiluted medium that hangs together with a labelled vessel is contrast wherever it runs, also where it
    blooms into a rib's label (from BLOOM_HU); other bright voxels without label are so when the nearest
    labelled voxel among vessels and bones is a vessel's.
    """
    vivid = (hu >= VEIN_HU) & ~(bone[row] & (hu < BLOOM_HU))
    parts, count = ndimage.label(vivid, structure=np.ones((3, 3, 3)))
    if count:
        from_vessel = np.bincount(parts[vivid & blood[row]], minlength=count + 1) >= 5
        from_vessel[0] = False
        joined = from_vessel[parts]
        row[joined & ~blood[row] & (row != ROW_OUTSIDE)] = ROW_CONTRAST
    del vivid, parts
    vessel_at = blood.copy()
    vessel_at[ROW_CONTRAST] = True
    block = tuple(max(1, round(3.0 / step)) for step in spacing_mm)
    coarse_mm = [b * step for b, step in zip(block, spacing_mm, strict=True)]
    to_vessel = ndimage.distance_transform_edt(~_any(vessel_at[row], block), sampling=coarse_mm)
    to_bone = ndimage.distance_transform_edt(~_any(bone[row], block), sampling=coarse_mm)
    near = (to_vessel < to_bone) & (to_vessel <= REACH_MM)
    k, j, i = np.nonzero((row == ROW_BODY) & (hu >= bright_from) & (hu < BLOOM_HU))
    chosen = near[k // block[0], j // block[1], i // block[2]]
    row[k[chosen], j[chosen], i[chosen]] = ROW_CONTRAST


def _any(mask: np.ndarray, block: Sequence[int]) -> np.ndarray:
    """Blocks of voxels with any True among them."""
    pads = [(0, -n % b) for n, b in zip(mask.shape, block, strict=True)]
    mask = np.pad(mask, pads)
    for axis, size in enumerate(block):
        shape = (*mask.shape[:axis], mask.shape[axis] // size, size, *mask.shape[axis + 1 :])
        mask = np.any(mask.reshape(shape), axis=axis + 1)
    return mask
