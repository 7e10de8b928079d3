"""Monodomain model of a heart on voxels: activation, repolarisation, traces and electrodes in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.cells import check_step, find_cell
from twinlab.cardiac.electro.checkpoints import digest, load_state, save_state
from twinlab.cardiac.electro.lead_field import electrode_weights
from twinlab.cardiac.electro.loops import Mass, Solver, State
from twinlab.cardiac.electro.stepping import FALL_MV, RISE_MV, run
from twinlab.cardiac.electro.stimuli import Stimulus
from twinlab.cardiac.electro.tissue import NIEDERER, Conductivity, Tissue, excitable
from twinlab.kernels.device import Device
from twinlab.schema import label, refuse

Point = tuple[float, float, float]


def monodomain(
    voxels: xr.Dataset,
    *,
    stimuli: Sequence[Stimulus],
    end_ms: float,
    conductivity: Conductivity = NIEDERER,
    cell: str = "tp06_epi",
    dt_ms: float = 0.02,
    chi_per_mm: float = 140.0,
    cm_uf_per_mm2: float = 0.01,
    border: float = 0.25,
    core: float = 0.0,
    mass: Mass = "consistent",
    solver: Solver = "auto",
    sites_mm: Mapping[str, Point] | None = None,
    electrodes_mm: Mapping[str, Point] | None = None,
    sample_ms: float = 1.0,
    rise_mv: float = RISE_MV,
    fall_mv: float = FALL_MV,
    sleep_mv: float = 1e-3,
    tolerance_mv: float = 1e-3,
    until_active: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every_ms: float = 50.0,
    device: Device = "cpu",
    progress: bool = False,
) -> xr.Dataset:
    """Propagation of the action potential through a heart on voxels.

    ``chi (Cm dV/dt + I_ion) = div(sigma grad V) + I_stim`` without flux through the muscle's surface, by trilinear
    elements on the voxels.

    Parameters
    ----------
    voxels : Dataset
        ``wall``, ``fibre``, optionally ``scar``, ``sheet_normal``, ``transmural``, ``fraction`` (see
        :func:`twinlab.cardiac.electro.excitable`).
    stimuli : sequence of Stimulus
    end_ms : float
        Simulated time.
    conductivity, chi_per_mm, cm_uf_per_mm2, border, core
        See :func:`twinlab.cardiac.electro.excitable`.
    cell : str
        ``tp06_`` or ``bueno_`` with ``epi``, ``endo``, ``mid`` or ``layers`` (by ``transmural``).
    dt_ms : float
        Time step, at most 0.1 ms.
    mass : str
        Mass matrix: ``"consistent"`` is best where a voxel is thicker than a front (hearts), ``"half"`` below 0.1 mm;
        ``"lumped"`` is the differences of other programs.
    solver : str
        ``"cg"``, or ``"lines"`` for an even box along the axes; ``"auto"`` takes lines where it can.
    sites_mm : mapping of str to (x, y, z), optional
        Where to record the potential.
    electrodes_mm : mapping of str to (x, y, z), optional
        Electrodes of the pseudo-electrocardiogram (see :func:`twinlab.cardiac.electro.electrode_positions`).
    sample_ms : float
        Between samples of sites and electrodes.
    rise_mv, fall_mv : float
        Activation is the first rise above the one, repolarisation the first fall below the other after it.
    sleep_mv : float
        Cells follow a resting cell until they leave it by so much; 0 computes all.
    tolerance_mv : float
        Of the diffusion solve, per step.
    until_active : bool
        Stop when all muscle has been active once.
    checkpoint : path, optional
        File that keeps the state; a run with the same settings goes on from it, also to a later ``end_ms``.
    checkpoint_every_ms : float
        Simulated time between writes.
    device : str
        "cpu", "cuda" or "auto". On CUDA diffusion is always solved by conjugate gradients.
    progress : bool
        Say the expected time, then show a bar.

    Returns
    -------
    Dataset
        ``activation_time``, ``repolarisation_time``, ``action_potential_duration``, ``last_activation_time``
        (z, y, x) in ms, NaN where there is none; ``beat_count``; with sites ``membrane_potential`` (site,
        time), with electrodes ``pseudo_ecg`` (electrode, time).

    Raises
    ------
    InputError
        Unusable voxels or settings, an under-resolved front, an unstable time step, a checkpoint of another run.

    References
    ----------
    Keener J, Sneyd J 2009, Mathematical Physiology, 2nd ed., section 12.3 (bidomain and monodomain).
    Pathmanathan P et al. 2012, Int. J. Numer. Methods Biomed. Eng. 28, 890 (mass matrix and velocity).
    """
    muscle = excitable(
        voxels,
        conductivity=conductivity,
        chi_per_mm=chi_per_mm,
        cm_uf_per_mm2=cm_uf_per_mm2,
        border=border,
        core=core,
        where="monodomain",
    )
    if not stimuli:
        refuse("monodomain: stimuli", "one or more", "none")
    check_step(dt_ms, where="monodomain")
    if not sample_ms >= dt_ms:
        refuse("monodomain: sample_ms", f"at least the time step {dt_ms} ms", sample_ms)
    find_cell(cell, where="monodomain")
    sites = dict(sites_mm or {})
    watched = np.array([muscle.nearest_node(p) for p in sites.values()], dtype=int)
    weights = electrode_weights(muscle, dict(electrodes_mm or {}))

    def sample(v: np.ndarray) -> np.ndarray:
        return np.concatenate([v[watched], weights @ v])

    state, save = None, None
    if checkpoint is not None:
        mark = digest(
            *(
                cell,
                dt_ms,
                mass,
                solver,
                sample_ms,
                rise_mv,
                fall_mv,
                sleep_mv,
                tolerance_mv,
                sites,
                electrodes_mm,
            ),
            *(muscle.tensor, muscle.weight, muscle.nodes),
            *(
                p
                for s in stimuli
                for p in (s.start_ms, s.duration_ms, s.amplitude_mv_per_ms, *s.nodes(muscle))
            ),
        )
        state = load_state(Path(checkpoint), mark)

        def save(now: State) -> None:
            save_state(Path(checkpoint), now, mark)

    state, facts = run(
        muscle,
        stimuli=list(stimuli),
        cell=cell,
        dt_ms=dt_ms,
        end_ms=end_ms,
        mass=mass,
        solver=solver,
        device=device,
        sample=sample if len(watched) or len(weights) else None,
        sample_ms=sample_ms,
        rise_mv=rise_mv,
        fall_mv=fall_mv,
        sleep_mv=sleep_mv,
        tolerance_mv=tolerance_mv,
        until_active=until_active,
        state=state,
        save=save,
        save_every_ms=checkpoint_every_ms,
        progress=progress,
    )
    if save is not None:
        save(state)
    return _result(muscle, state, facts, sites, dict(electrodes_mm or {}), sample_ms)


def _result(
    muscle: Tissue,
    state: State,
    facts: dict,
    sites: Mapping[str, Point],
    electrodes: Mapping[str, Point],
    sample_ms: float,
) -> xr.Dataset:
    coords = {a: muscle.voxels[a].values for a in "zyx" if a in muscle.voxels.coords}
    m = state.marks
    up, down = muscle.to_voxels(m.first_up), muscle.to_voxels(m.first_down)
    beats = np.nan_to_num(muscle.to_voxels(m.beats.astype(float)))
    fields = {
        "activation_time": up,
        "repolarisation_time": down,
        "action_potential_duration": down - up,
        "last_activation_time": muscle.to_voxels(m.last_up),
        "beat_count": np.floor(beats).astype(np.int32),
    }
    out = {name: label(name, values, coords) for name, values in fields.items()}
    if state.samples:
        table = np.asarray(state.samples).T
        time = {"time": np.arange(table.shape[1]) * round(sample_ms / facts["dt_ms"]) * facts["dt_ms"]}
        if sites:
            out["membrane_potential"] = label(
                "membrane_potential",
                table[: len(sites)],
                {"site": list(sites), **time},
                dims=("site", "time"),
            )
        if electrodes:
            out["pseudo_ecg"] = label(
                "pseudo_ecg", table[len(sites) :], {"electrode": list(electrodes), **time}
            )
    return xr.Dataset(out, attrs=facts)
