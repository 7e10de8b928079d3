"""What a study will do, said before it starts: cases, stages left, time, memory, disk."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from twinlab.scanner.geometry import n_rotations
from twinlab.study.layout import Layout
from twinlab.study.models import Study

# Seconds on two cores of a 2020s server processor, measured by benchmarks/main_job.py; a guess elsewhere, which is
# why the progress bar corrects itself as stages finish.
SECONDS_PHANTOM = 17.0
SECONDS_PER_RAY_PATH = 8.0e-7
SECONDS_PER_RAY_SIGNAL = 2.0e-7
SECONDS_PER_RAY_OBSERVER = 1.1e-7
SECONDS_PER_RAY_IMAGE = 4.2e-8
SECONDS_PER_HISTORY = 0.72e-6
SECONDS_PER_MAP_HISTORY = 1.3e-6  # half the histories, by track length
SECONDS_PER_CTDI_HISTORY = 0.55e-6
SECONDS_PER_CASE = 0.4
ROWS_SEEN = 0.25  # share of the detector rows that the region of interest needs
BASIS = 4


@dataclass(frozen=True)
class Stage:
    """One piece of work with a result of its own on disk."""

    name: str
    seconds: float
    done: bool


@dataclass(frozen=True)
class Plan:
    """The work of a study. ``str(plan)`` says it in words."""

    name: str
    folder: Path
    cases: int
    cases_done: int
    stages: tuple[Stage, ...]
    memory_gib: float
    disk_gib: float
    unreachable: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Estimated seconds left."""
        return sum(stage.seconds for stage in self.stages if not stage.done)

    def __str__(self) -> str:
        stages = [stage for stage in self.stages if not stage.name.startswith("case ")]
        left = [stage for stage in stages if not stage.done]
        lines = [
            f"study {self.name}: {self.cases} cases, {self.cases_done} done; "
            f"{len(left)} of {len(stages)} stages left, about {_duration(self.seconds)}, "
            f"{self.memory_gib:.1f} GiB of memory, {self.disk_gib:.1f} GiB of disk",
        ]
        if self.unreachable:
            values = ", ".join(f"{mas:g}" for mas in self.unreachable)
            lines.append(f"beyond the tube's current and left empty: {values} mAs")
        lines.append(f"results in {self.folder}")
        return "\n".join(lines)


def plan(study: Study, *, outputs: str | Path | None = None) -> Plan:
    """Work that a study needs and what of it is done.

    Parameters
    ----------
    study : Study
    outputs : path, optional
        Root of all outputs; see :func:`twinlab.study.store.outputs_root`.

    Raises
    ------
    InputError
        The grid has a protocol that the scanner cannot do, or the patient's files are not there.
    """
    study.validate_grid()
    layout = Layout(study, outputs)
    stages = [Stage("phantom", SECONDS_PHANTOM, layout.phantom().is_dir())]
    for kv in study.kv:
        seconds = study.ctdi_histories * SECONDS_PER_CTDI_HISTORY
        stages.append(Stage(f"CTDI {kv:g} kV", seconds, layout.ctdi(kv).is_file()))
    transport = study.histories * SECONDS_PER_HISTORY
    for kv, seed in itertools.product(study.kv, study.seed):
        ready = all(layout.dose(kv, pitch, seed).is_file() for pitch in study.pitch)
        stages.append(Stage(response_name(kv, seed), transport, ready or layout.response(kv, seed).is_file()))
    checked = layout.dose_map(study.kv[0], study.pitch[0]).is_file()
    seconds = study.histories * SECONDS_PER_MAP_HISTORY
    stages.append(Stage(check_name(study.kv[0], study.pitch[0]), seconds, checked))
    rays = 0.0
    for pitch in study.pitch:
        rays = _rays(study, pitch)
        stages += _stages_of_pitch(layout, pitch, rays)
    cases = list(layout.cases())
    stages += [
        Stage(case_name(layout.case(**case)), SECONDS_PER_CASE, layout.case(**case).is_file())
        for case in cases
    ]
    per_ray = 4 * (BASIS + 2 * len(study.kv))
    return Plan(
        name=study.name,
        folder=layout.folder,
        cases=len(cases),
        cases_done=sum(layout.case(**case).is_file() for case in cases),
        stages=tuple(stages),
        memory_gib=2.0 + rays * (per_ray + 4 * 6 / ROWS_SEEN) / 2**30,
        disk_gib=0.3 + rays * per_ray / 2**30 * len(study.pitch),
        unreachable=tuple(mas for mas in study.mas if not study.reachable(mas)),
    )


def case_name(file: Path) -> str:
    """Name of the stage that puts one case together."""
    return f"case {file.stem}"


def rays_name(pitch: float) -> str:
    """Name of the stage that projects the patient at one pitch."""
    return f"projections, pitch {pitch:g}"


def quality_name(pitch: float, seed: int, position: int) -> str:
    """Name of the stage that finds d' at one place of the lesion."""
    return f"detectability, pitch {pitch:g}, place {position + 1}, seed {seed}"


def images_name(kv: float, pitch: float, seed: int) -> str:
    """Name of the stage that makes the noisy images of one beam."""
    return f"images, {kv:g} kV, pitch {pitch:g}, seed {seed}"


def response_name(kv: float, seed: int) -> str:
    """Name of the stage that transports one kV."""
    return f"photons, {kv:g} kV, seed {seed}"


def check_name(kv: float, pitch: float) -> str:
    """Name of the stage that checks one beam by a full run."""
    return f"full run, {kv:g} kV, pitch {pitch:g}"


def dose_name(kv: float, pitch: float, seed: int) -> str:
    """Name of the stage that sums the doses of one beam."""
    return f"dose, {kv:g} kV, pitch {pitch:g}, seed {seed}"


def _rays(study: Study, pitch: float) -> float:
    """Rays that the region of interest needs at one pitch."""
    protocol = study.protocol_at(kv=study.kv[0], pitch=pitch)
    rotations = n_rotations(protocol, z_range_mm=(0.0, protocol.slice_thickness_mm))
    rows = protocol.row_positions_mm().size * ROWS_SEEN
    return rotations * protocol.scanner.views_per_rotation * rows * protocol.scanner.detector.n_channels


def _stages_of_pitch(layout: Layout, pitch: float, rays: float) -> list[Stage]:
    study = layout.study
    kernels = len(study.kernel)
    found = []
    for seed in study.seed:
        for i in range(study.n_positions):
            seconds = rays * kernels * SECONDS_PER_RAY_OBSERVER
            found.append(
                Stage(quality_name(pitch, seed, i), seconds, layout.quality(pitch, seed, i).is_file())
            )
        for kv in study.kv:
            seconds = rays * len(study.mas) * (1 + kernels) * SECONDS_PER_RAY_IMAGE
            found.append(
                Stage(images_name(kv, pitch, seed), seconds, layout.images(kv, pitch, seed).is_file())
            )
    ready = all(stage.done for stage in found) or layout.rays(pitch).is_dir()
    seconds = rays * (SECONDS_PER_RAY_PATH + len(study.kv) * SECONDS_PER_RAY_SIGNAL)
    found.insert(0, Stage(rays_name(pitch), seconds, ready))
    for seed in study.seed:
        for kv in study.kv:
            found.append(
                Stage(dose_name(kv, pitch, seed), SECONDS_PER_CASE, layout.dose(kv, pitch, seed).is_file())
            )
    return found


def _duration(seconds: float) -> str:
    seconds *= 2 / min(os.cpu_count() or 2, 2)  # the figures above are for two cores
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
