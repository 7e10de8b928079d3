"""Print the evidence of files, radiographs and meshes: ``python tests/ct/print_export_figures.py`` (Markdown).

Meshes need the extra ``gvxr``; dciodvfy the package dicom3tools.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import test_export_dicom as files
import test_radiography as shots

from twinlab.ct import acquire, line_integrals, reconstruct
from twinlab.ct.export import write_dicom, write_radiograph
from twinlab.ct.radiography import radiograph, radiograph_paths
from twinlab.phantom import from_recipe, load_recipe, read_series
from twinlab.scanner import load_protocol, load_scanner, trajectory
from twinlab.schema import InputError


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def complaints(path: Path) -> int:
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return sum(line.startswith(("Error", "Warning")) for line in done.stderr.splitlines())


def print_files(folder: Path) -> None:
    protocol = load_protocol("adult_chest", tube_current_ma=200)
    image = files.made()
    paths = write_dicom(image, folder / "ct", protocol=protocol, when=files.WHEN)
    back = read_series(folder / "ct")
    grid = max(float(np.abs(back[a] - image[a]).max()) for a in "zyx")
    row(
        "CT series read back by our importer",
        f"grid {grid:.1e} mm, values {float(np.abs(back - image).max()):g} HU",
        "same",
    )
    if shutil.which("dciodvfy"):
        shot = write_radiograph(
            radiograph(shots.body(), shots.stand(), seed=1),
            folder / "dx.dcm",
            setup=shots.stand(),
            when=files.WHEN,
        )
        found = f"CT {sum(map(complaints, paths))}, DX {complaints(shot)}"
        row("errors and warnings of dciodvfy", found, "0")


def print_radiographs() -> None:
    setup, recipe = shots.stand(), shots.body()
    exact = radiograph_paths(recipe, setup, n_basis=3)["path"].to_numpy()[0]
    for size in (2.0, 1.0):
        found = radiograph_paths(from_recipe(recipe, spacing_mm=size), setup, n_basis=3)["path"].to_numpy()[0]
        error = np.sqrt(((found - exact) ** 2).mean()) / exact.max()
        row(
            f"radiograph through {size:g} mm voxels against exact solids",
            f"RMS {100 * error:.2f} % of maximum",
            "-",
        )


def print_cone_beam() -> None:
    scanner = load_scanner("bench_flat_panel")
    protocol = load_protocol("bench_cbct", collimation_mm=16 * scanner.row_pitch_isocentre_mm)
    paths = line_integrals(
        load_recipe("water_cylinder_20cm"), protocol, trajectory(protocol, z_range_mm=(-1, 1))
    )
    x = np.arange(-92.0, 93.0, 2.0)
    grid = {"x": x, "y": x, "z": np.array([0.0])}
    image = reconstruct(acquire(paths, protocol, seed=1, noise=False), protocol, grid=grid)
    means = shots.rings(image, x, (0, 15, 40, 70, 92))[:, 0]
    row("bench cone-beam, 20 cm water, centre to edge", ", ".join(f"{m:.2f}" for m in means) + " HU", "1 HU")


def print_meshes() -> None:
    import test_mesh as meshes

    from twinlab.ct.mesh_rays import mesh_lengths_cm

    setup, centre = meshes.fine(), (20.0, 6.0, -12.0)
    for n in (60, 120, 240):
        ball = meshes.sphere(30.0, centre, n=n)
        start = time.perf_counter()
        found = mesh_lengths_cm([ball], setup)[0]
        seconds = time.perf_counter() - start
        error = np.sqrt(((found - meshes.ball_chords_cm(setup, 30.0, centre)) ** 2).mean()) / 6.0
        row(
            f"gVXR, ball of {len(ball.triangles)} triangles, {found.size} cells",
            f"RMS {100 * error:.3f} % of diameter, {seconds:.2f} s",
            "0.1 %",
        )
    found = mesh_lengths_cm([meshes.box((60.0, 40.0, 50.0))], setup)[0]
    d = setup.cell_centres_mm() - setup.source_mm.array
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    source = np.broadcast_to(setup.source_mm.array, d.shape).reshape(-1, 3)
    exact = shots.body().shapes[0].chord(source, d.reshape(-1, 3)).reshape(found.shape) / 10
    row(
        "gVXR, box of 12 triangles, halved as needed",
        f"largest {10 * np.abs(found - exact).max():.3f} mm",
        "0.04 mm",
    )


if __name__ == "__main__":
    row("case", "figure", "wanted")
    row("---", "---", "---")
    with tempfile.TemporaryDirectory() as scratch:
        print_files(Path(scratch))
    print_radiographs()
    print_cone_beam()
    try:
        print_meshes()
    except InputError as missing:
        row("gVXR", str(missing), "-")
