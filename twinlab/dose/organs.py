"""Dose map and organ doses of a CT scan of a Phantom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from twinlab.dose.beam import check_isocentre, check_range, scan_runs, scan_source
from twinlab.dose.body import SCATTER_MM
from twinlab.dose.engine import Engine
from twinlab.dose.scoring import check_histories, check_seed, scored_dose
from twinlab.kernels.device import Device
from twinlab.kernels.transport_data import Source
from twinlab.phantom import body_centre, check_phantom
from twinlab.scanner import Protocol


def simulate(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    histories: int,
    seed: int = 1,
    output_factor: float = 1.0,
    isocentre_mm: tuple[float, float] | None = None,
    voxel_map: bool = True,
    extend_mm: float = SCATTER_MM,
    start_angle_deg: float = 0.0,
    end_angle_deg: float | None = None,
    relative_mas: np.ndarray | None = None,
    trajectory: xr.Dataset | None = None,
    dynamic_collimation: bool | None = None,
    block: int | None = None,
    until: Mapping[str, float] | None = None,
    estimator: str = "collision",
    fluorescence: bool = True,
    doppler: bool = False,
    device: Device = "auto",
    splitting: bool = False,
    forcing: bool = False,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Absorbed dose of a CT scan, by photon Monte Carlo in the phantom's voxels.

    Everything that the protocol says radiates: the second source, or the second voltage of a tube that
    switches, where ``second_kv`` is set; in a gantry that leans by ``gantry_tilt_deg``; with heel, oblique
    bowtie, penumbra and dynamic collimation where the scanner has them (docs/methods/dose_sources.md).

    Parameters
    ----------
    phantom : Dataset
        A Phantom; coarser voxels (2 to 4 mm) give the same organ doses in less memory.
    protocol : Protocol
        With a tube current.
    z_range_mm : (float, float)
        Imaged range; the tube's path adds over-ranging, the beam over-beaming.
    histories : int
        Photons followed; the sd falls as 1/sqrt(histories).
    seed : int
        The result is the same for any number of threads.
    output_factor : float
        Scales the modelled tube to a measured one: published over simulated CTDIw (:func:`ctdi`).
    isocentre_mm : (x, y), optional
        Axis of rotation; by default that of the trajectory where one is given, else the middle of the body's
        bounding box.
    voxel_map : bool
        Also give ``dose`` and ``dose_sd`` per voxel (16 bytes a voxel).
    extend_mm : float
        Body repeated beyond both ends, so that scatter from outside the images is there.
    start_angle_deg, end_angle_deg : float
        Gantry angle of the first view, or of the last.
    relative_mas : (view,) array, optional
        Tube current modulation over the views of ``trajectory``; the mean mAs is the protocol's.
    trajectory : Dataset, optional
        Path of the tube, as for the image, instead of that of the protocol over the range. Its
        ``tube_current`` (mA, see :func:`twinlab.scanner.modulated`) gives the mAs, its ``tube_kv`` the voltage.
    dynamic_collimation : bool, optional
        Blades that close outside the imaged range at the ends of a helical scan; by default as the scanner.
    block : int, optional
        Voxels along a block of the majorant; by default about 20 mm, the fastest in bodies.
    until : mapping of organ name to relative standard uncertainty, optional
        The run ends as soon as each of these organs is that sure, ``{"liver": 0.005}``, or after ``histories``; a
        bar shows the time that remains.
    estimator : str
        ``"collision"``: energy left where photons collide. ``"track_length"``: what they are expected to leave along
        their flights, surer in skin, lung and dose maps, slower (docs/methods/transport.md).
    fluorescence : bool
        Follow K photons of heavy elements; otherwise they stay where they arise.
    doppler : bool
        Photons scatter at bound, moving electrons (impulse approximation: cross section, angles, energies).
    device : "auto", "cpu" or "cuda"
        Where the photons are followed.
    splitting : bool
        Split photons that leave the range along z, end some of those that come back: organs well outside the
        scan get sure in half the time, those inside take a tenth longer.
    forcing : bool
        Let every photon that meets the grid of voxels collide there, by the weight of doing so: for small or thin
        objects in a wide field; in bodies it costs more than it gains (docs/methods/transport.md).
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    Dataset
        ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_coverage``, ``organ_cut`` by organ_id
        (with coordinate ``organ_name``), ``dose`` and ``dose_sd`` (z, y, x) in mGy, for the mAs of the
        protocol. ``dose`` is NaN outside the body. attrs: histories, seed, mas (whole scan, first tube),
        effective_mas (its mean per rotation over pitch), second_mas (of a second source), photons, output_factor,
        isocentre, start and end angle, emitted_kev = deposited_kev + deposited_air_kev + escaped_kev, seconds.

    Raises
    ------
    InputError
        Not a Phantom, a range that misses it, too few histories, a protocol without a tube current, a
        trajectory and angles, or two modulations.

    Notes
    -----
    Electrons deposit where they are set free (range below 0.3 mm at 150 keV in tissue). The table counts where the
    phantom has one (:func:`twinlab.dose.with_table`). See docs/methods/dose.md and transport.md.
    """
    started = time.perf_counter()
    spacing = check_phantom(phantom, where="dose.simulate")
    check_histories(histories, "dose.simulate")
    check_seed(seed, "dose.simulate")
    check_range(phantom, z_range_mm, spacing[0], "dose.simulate")
    scan = scan_runs(
        protocol,
        z_range_mm=z_range_mm,
        start_angle_deg=start_angle_deg,
        end_angle_deg=end_angle_deg,
        relative_mas=relative_mas,
        trajectory=trajectory,
    )
    told: dict[Any, Any] = {} if trajectory is None else trajectory.attrs
    if isocentre_mm is not None:
        isocentre = isocentre_mm
    elif trajectory is not None:
        isocentre = float(told.get("isocentre_x_mm", 0.0)), float(told.get("isocentre_y_mm", 0.0))
    else:
        isocentre = body_centre(phantom)
    check_isocentre(phantom, protocol, isocentre, "dose.simulate")
    radius = protocol.scanner.source_to_isocentre_mm

    def source_in(corner: np.ndarray, size: np.ndarray) -> tuple[Source, float, float]:
        source, photons = scan_source(
            scan.runs,
            corner_mm=corner,
            isocentre_mm=isocentre,
            z_range_mm=z_range_mm,
            tilt_deg=float(told.get("gantry_tilt_deg", protocol.gantry_tilt_deg)),
            dynamic_collimation=dynamic_collimation,
        )
        z = scan.view[:, 1] - corner[0]
        return source, photons, radius + max(0.0, -z.min(), z.max() - size[0]) + 100.0

    out = scored_dose(
        phantom,
        source_in,
        histories=histories,
        seed=seed,
        output_factor=output_factor,
        z_range_mm=z_range_mm,
        voxel_map=voxel_map,
        extend_mm=extend_mm,
        block=block,
        progress=progress,
        where="dose.simulate",
        until=until,
        engine=Engine(estimator, fluorescence, doppler, device, splitting, forcing),
    )
    second = {"second_mas": scan.mas} if scan.runs[-1].protocol.scanner.key != protocol.scanner.key else {}
    return out.assign_attrs(
        mas=float(scan.mas),
        effective_mas=scan.effective_mas(protocol),
        **second,
        isocentre_x_mm=float(isocentre[0]),
        isocentre_y_mm=float(isocentre[1]),
        z_low_mm=float(z_range_mm[0]),
        z_high_mm=float(z_range_mm[1]),
        start_angle_deg=math.degrees(float(scan.view[0, 0])),
        end_angle_deg=math.degrees(float(scan.view[-1, 0])),
        protocol=protocol.key,
        seconds=time.perf_counter() - started,
    )
