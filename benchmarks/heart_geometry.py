"""Heart meshes: time, quality, volumes and fibres of idealised hearts; with images, the volumes measured in them.

python benchmarks/heart_geometry.py [folder with ct.nii.gz, heart.nii.gz, pulmonary_artery.nii.gz] [--tetwild]
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np

from twinlab.cardiac.geometry import coordinates, fibres, heart_from_ct, idealised_biventricular, idealised_lv
from twinlab.cardiac.geometry.tets import aspect_ratios, dihedral_angles
from twinlab.phantom.nifti import read_image, read_labels


def row(name, make):
    start = time.process_time()
    heart = make()
    seconds = time.process_time() - start
    a = heart.attrs
    print(
        f"| {name} | {a['elements']:,} | {seconds:.1f} | {a['dihedral_min_deg']:.1f} | {a['dihedral_p01_deg']:.1f} "
        f"| {a['aspect_p99']:.1f} | {100 * a['volume_error']:.1e} | {a['layers_lv']}, {a.get('layers_rv', '-')} |"
    )
    return heart


def helix_error(heart):
    """Error of the helix angle against 60 - 120 depth near the equator, degrees rms (long axis along z)."""
    centres = heart["point"].values[heart["tet"].values].mean(axis=1)
    depth = coordinates(heart)["transmural"].values[heart["tet"].values].mean(axis=1)
    short, long = (heart.attrs[f"lv_{n}_mm"] + heart.attrs["lv_wall_mm"] / 2 for n in ("short", "long"))
    outward = centres / np.array([short, short, long]) ** 2
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    up = np.array([0, 0, 1.0]) - outward * outward[:, 2:]
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    fibre = heart["fibre"].values
    angle = np.degrees(np.arctan2((fibre * up).sum(1), (fibre * np.cross(up, outward)).sum(1)))
    error = (angle - (60 - 120 * depth) + 90) % 180 - 90
    return float(np.sqrt((error[np.abs(centres[:, 2]) < 20] ** 2).mean()))


def tetwild(heart):
    """The same surface by another program: elements, seconds, angles."""
    import pytetwild

    start = time.process_time()
    facets = heart["facet"].values
    points, tets = pytetwild.tetrahedralize(heart["point"].values, facets, edge_length_fac=0.03)
    angles = dihedral_angles(points, tets).min(axis=1)
    print(
        f"pytetwild on the surface of {heart.attrs['elements']:,} elements: {len(tets):,} elements, "
        f"{time.process_time() - start:.0f} s, 1 % of angles below {np.quantile(angles, 0.01):.1f} degrees, "
        f"99 % of aspect ratios below {np.quantile(aspect_ratios(points, tets), 0.99):.1f}"
    )


def main():
    warnings.simplefilter("ignore")
    idealised_lv()  # imports and caches
    print("| heart | elements | s | smallest angle | its 1 % | aspect 99 % | volume off, % | layers |")
    print("|---|---|---|---|---|---|---|---|")
    heart = row("left, 120 + 130 ml, h 3.3 mm", lambda: idealised_lv(cavity_ml=120, wall_ml=130, h_mm=3.3))
    row("left, h 5.5 mm", lambda: idealised_lv(cavity_ml=120, wall_ml=130, h_mm=5.5, layers=1))
    row("both, 120 + 140 + 150 ml, h 2 mm", idealised_biventricular)
    folders = [a for a in sys.argv[1:] if not a.startswith("-")]
    if folders:
        folder = Path(folders[0])
        image = read_image(folder / "ct.nii.gz")
        mask, artery = (
            image.copy(data=read_labels(folder / f"{n}.nii.gz", like=image, cropped=True))
            for n in ("heart", "pulmonary_artery")
        )
        found = row("contrast CT, h 2 mm", lambda: heart_from_ct(image, mask, vessels=artery))
        told = ("path", "measured_lv_ml", "measured_rv_ml", "measured_lv_wall_ml", "lv_ml_spread")
        print({k: found.attrs[k] for k in told})
    print(f"helix angle against the rule near the equator: {helix_error(fibres(heart)):.3f} degrees rms")
    if "--tetwild" in sys.argv:
        tetwild(idealised_lv(cavity_ml=120, wall_ml=130, h_mm=5.5, layers=1))


if __name__ == "__main__":
    main()
