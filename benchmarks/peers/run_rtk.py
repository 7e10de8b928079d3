"""Worker that runs inside an environment with itk-rtk: one forward projection or FDK described by a JSON file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import itk
import numpy as np
from itk import RTK as rtk

Image = itk.Image[itk.F, 3]


def geometry(job: dict[str, Any]) -> Any:
    """Circular geometry; the gantry angle grows as ours does."""
    made = rtk.ThreeDCircularProjectionGeometry.New()
    for angle in np.linspace(0.0, 360.0, job["views"], endpoint=False):
        made.AddProjection(job["sid"], job["sdd"], float(job["direction"] * angle + job["start"]))
    return made


def image_of(values: np.ndarray, spacing: Any) -> Any:
    """ITK image of an array (z, y, x), centred."""
    image = itk.image_from_array(np.ascontiguousarray(values, np.float32))
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([-0.5 * (n - 1) * s for n, s in zip(values.shape[::-1], spacing, strict=True)])
    return image


def empty(size: Any, spacing: Any) -> Any:
    """Source of a centred image of zeros; size and spacing x, y, z."""
    source = rtk.ConstantImageSource[Image].New()
    source.SetSize([int(n) for n in size])
    source.SetSpacing([float(s) for s in spacing])
    source.SetOrigin([-0.5 * (n - 1) * s for n, s in zip(size, spacing, strict=True)])
    source.SetConstant(0.0)
    return source


def project(job: dict[str, Any]) -> dict[str, Any]:
    """Joseph's projection (view, row, column) of a volume whose axes are (y, z, x) as RTK wants them."""
    volume = image_of(np.load(job["volume"]), job["spacing"])
    columns, rows = job["columns"], job["rows"]
    blank = empty((columns, rows, job["views"]), (job["column_mm"], job["row_mm"], 1.0))
    task = rtk.JosephForwardProjectionImageFilter[Image, Image].New()
    task.SetInput(0, blank.GetOutput())
    task.SetInput(1, volume)
    task.SetGeometry(geometry(job))
    start = time.perf_counter()
    task.Update()
    return {"projection": itk.array_from_image(task.GetOutput()), "seconds": time.perf_counter() - start}


def fdk(job: dict[str, Any]) -> dict[str, Any]:
    """FDK of projections (view, row, column) on a grid with axes (y, z, x)."""
    values = np.load(job["projection"])
    stack = image_of(values, (job["column_mm"], job["row_mm"], 1.0))
    task = rtk.FDKConeBeamReconstructionFilter[Image].New()
    blank = empty(job["size"], job["spacing"])  # kept: the filter does not own its source
    task.SetInput(0, blank.GetOutput())
    task.SetInput(1, stack)
    task.SetGeometry(geometry(job))
    task.GetRampFilter().SetTruncationCorrection(0.0)
    task.GetRampFilter().SetHannCutFrequency(0.0)
    start = time.perf_counter()
    task.Update()
    return {"image": itk.array_from_image(task.GetOutput()), "seconds": time.perf_counter() - start}


def main() -> None:
    """Carry out the job and leave ``result.npz`` beside it."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    np.savez(path.with_name("result.npz"), **{"project": project, "fdk": fdk}[job["what"]](job))


if __name__ == "__main__":
    main()
