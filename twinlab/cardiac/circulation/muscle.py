"""Patches of muscle: the table that describes them, named hearts, and the AHA segments."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.kernels.heart_patches import N_PATCH
from twinlab.schema import label, refuse

WALLS = ("left", "septum", "right")
SEPTAL = (2, 3, 8, 9, 14)  # AHA segments (Cerqueira 2002)
LATERAL = (5, 6, 11, 12, 16)

# Column of the kernels' table, least and greatest value that makes sense.
COLUMNS: tuple[tuple[str, float, float], ...] = (
    ("patch_wall_volume", 1e-3, 1e3),
    ("patch_reference_area", 1e-3, 1e4),
    ("patch_activation", -1e4, 1e4),
    ("patch_contractility", 0.0, 1e3),
    ("patch_stiffness", 0.1, 1e3),
    ("patch_rise", 5.0, 200.0),
    ("patch_decay", 5.0, 200.0),
    ("patch_duration", 100.0, 1000.0),
)

# Wall volume ml, reference area cm2, contractility kPa and stiffness kPa, so that the healthy closed loop keeps its
# volumes and pressures. Lumens et al. 2009 have 120 kPa for the contractility of all walls.
_SPHERE = {"left": (118.0, 106.8, 52.6, 4.17)}
_THREE = {
    "left": (80.0, 120.2 * 2 / 3, 70.4, 14.7),
    "septum": (38.0, 120.2 / 3, 70.4, 14.7),
    "right": (28.0, 98.2, 38.5, 14.7),
}
HEALTHY_AREA = {
    "sphere": _SPHERE["left"][1],
    "left": _THREE["left"][1] + _THREE["septum"][1],
    "right": _THREE["right"][1],
}
"""Reference areas, cm2: of the sphere, of left free wall with septum, of the right wall."""


def muscle_patches(
    kind: str = "left_ventricle",
    *,
    segments: bool = True,
    right: int = 1,
    activation_ms: float = 160.0,
) -> xr.Dataset:
    """Healthy patches of a heart: equal shares of their walls, activated at once.

    Change what differs, as ``patches.patch_activation.loc[{"patch": "5"}] += 60.0``.

    Parameters
    ----------
    kind : {"left_ventricle", "three_walls"}
        One closed sphere, or left free wall, septum and right free wall (TriSeg).
    segments : bool
        The 17 AHA segments of the left ventricle (patches ``"1"`` to ``"17"``); else one patch a wall.
    right : int
        Patches of the right free wall (``"R1"``, ...), for three walls.
    activation_ms : float
        When the patches are activated in the beat; the healthy loop's atria contract at 30 ms.

    Returns
    -------
    Dataset
        dims (patch): ``patch_wall`` (0 left, 1 septum, 2 right), ``patch_wall_volume`` ml, ``patch_reference_area``
        cm2 (midwall, without stress), ``patch_activation`` ms, ``patch_contractility`` kPa (0: scar),
        ``patch_stiffness`` kPa, ``patch_rise``, ``patch_decay``, ``patch_duration`` ms.

    Raises
    ------
    InputError
        Unknown kind, or no right patch.

    References
    ----------
    Lumens J et al. 2009, Ann Biomed Eng 37:2234 (times 48, 32, 425 ms); Walmsley J et al. 2015, PLoS Comput Biol
    11:e1004284 (patches); Cerqueira M D et al. 2002, Circulation 105:539 (segments). Areas, contractility and
    stiffness are fitted to the healthy closed loop.
    """
    if kind not in ("left_ventricle", "three_walls"):
        refuse("muscle_patches: kind", "'left_ventricle' or 'three_walls'", repr(kind))
    if right < 1:
        refuse("muscle_patches: right", "a patch or more", right)
    three = kind == "three_walls"
    numbers = list(range(1, 18))
    if not segments:
        members = {"left": ["left"], "septum": ["septum"]} if three else {"left": ["left"]}
    elif three:
        members = {
            "left": [str(n) for n in numbers if n not in SEPTAL],
            "septum": [str(n) for n in numbers if n in SEPTAL],
        }
    else:
        members = {"left": [str(n) for n in numbers]}
    if three:
        members["right"] = [f"R{n}" for n in range(1, right + 1)]
    rows, names, walls = [], [], []
    for wall, inside in members.items():
        volume, area, contractility, stiffness = (_THREE if three else _SPHERE)[wall]
        for name in inside:
            rows.append(
                (
                    volume / len(inside),
                    area / len(inside),
                    activation_ms,
                    contractility,
                    stiffness,
                    48.0,
                    32.0,
                    425.0,
                )
            )
            names.append(name)
            walls.append(WALLS.index(wall))
    return patches_dataset(names, walls, np.array(rows))


def patches_dataset(names: list[str], walls: list[int], table: np.ndarray) -> xr.Dataset:
    """Patches from a table (patch, 8) in the order of :data:`COLUMNS`."""
    coords = {"patch": names}
    data = {"patch_wall": label("patch_wall", np.array(walls, np.int64), coords)}
    for k, (name, _, _) in enumerate(COLUMNS):
        data[name] = label(name, table[:, k].astype(float), coords)
    return xr.Dataset(data)


def with_scar(patches: xr.Dataset, names: list[str], *, stiffening: float = 5.0) -> xr.Dataset:
    """A copy in which some patches make no active stress and are stiffer.

    Parameters
    ----------
    patches : Dataset
        See :func:`muscle_patches`.
    names : list of str
    stiffening : float
        Factor of the stiffness. 5 is an assumption (healed scars: several times, Holmes et al. 2005, Annu Rev Biomed
        Eng 7:223).

    Raises
    ------
    InputError
        A patch that is not there.
    """
    unknown = sorted(set(names) - set(map(str, patches.patch.values)))
    if unknown:
        refuse("with_scar", f"patches of {list(map(str, patches.patch.values))}", unknown)
    result = patches.copy(deep=True)
    where = {"patch": names}
    result.patch_contractility.loc[where] = 0.0
    result.patch_stiffness.loc[where] = result.patch_stiffness.loc[where] * stiffening
    return result


def checked_table(patches: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Table (patch, 8) and borders (4,) for the kernels, sorted by wall, and the order that sorts.

    Raises
    ------
    InputError
        A missing variable, a value out of its range, or walls that are neither one nor three.
    """
    missing = [name for name in ("patch_wall", *(c[0] for c in COLUMNS)) if name not in patches]
    if missing:
        refuse("patches", "the variables of muscle_patches", f"no {', '.join(missing)}")
    table = np.empty((patches.sizes["patch"], N_PATCH))
    for k, (name, least, most) in enumerate(COLUMNS):
        values = np.asarray(patches[name].values, float)
        if not ((values >= least) & (values <= most)).all():
            bad = patches.patch.values[~((values >= least) & (values <= most))][0]
            refuse(
                f"patches: {name}",
                f"values from {least:g} to {most:g}",
                f"{values.tolist()} (patch {bad})"[:300],
            )
        table[:, k] = values
    walls = np.asarray(patches.patch_wall.values)
    there = sorted(set(walls.tolist()))
    if there not in ([0], [0, 1, 2]):
        refuse("patches: patch_wall", "0 only (left ventricle) or 0, 1 and 2 (three walls)", there)
    order = np.argsort(walls, kind="stable")
    counts = [int((walls == w).sum()) for w in range(3)]
    return table[order], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), order
