"""Where each result of a study lies: names are keys of all content that determines the result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from twinlab.keys import content_key, source_key
from twinlab.study.models import Study
from twinlab.study.patient import patient_key
from twinlab.study.store import outputs_root

#: Fields that decide what the scan sees and where the lesion sits in it.
_LESION = ("lesion_organ", "lesion_centre_mm", "lesion_diameter_mm", "n_positions", "position_spread_mm")
_OBSERVER = (
    "roi_size_mm",
    "roi_pixel_mm",
    "eye_filter",
    "viewing_distance_mm",
    "display_magnification",
    "kernel",
)
_CONTRAST = ("lesion_contrast_hu", "lesion_iodine_mg_ml")


class Layout:
    """Paths of one study's results under the root of all outputs.

    ``cache/`` holds what studies can share (phantoms, CTDI, dose per beam, image quality per beam);
    ``studies/<name>-<key>/`` holds the study's own cases and collected results.
    """

    def __init__(self, study: Study, outputs: str | Path | None = None) -> None:
        self.study = study
        self.root = outputs_root(outputs)
        self.cache = self.root / "cache"

    @cached_property
    def _patient(self) -> list[Any]:
        return [source_key(), patient_key(self.study), self.study.dose_voxel_mm, self.study.ct_voxel_mm]

    def _protocol(self, kv: float, pitch: float) -> dict[str, Any]:
        protocol = self.study.protocol_at(kv=kv, pitch=pitch).model_dump(mode="json")
        # mAs and kernel are applied afterwards, so they are no part of a beam's identity
        return {
            k: v
            for k, v in protocol.items()
            if k not in ("tube_current_ma", "quality_reference_mas", "kernel")
        }

    def _some(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.study, name) for name in names}

    @cached_property
    def key(self) -> str:
        """Key of the whole study."""
        study = self.study.model_dump(mode="json")
        protocols = [
            self._protocol(kv, pitch) for kv, pitch in itertools.product(self.study.kv, self.study.pitch)
        ]
        return content_key(study, protocols, self._patient)

    @property
    def folder(self) -> Path:
        """Folder of the study's cases and results."""
        return self.root / "studies" / f"{self.study.name}-{self.key[:12]}"

    @property
    def results(self) -> Path:
        """File of the collected results."""
        return self.folder / "results.nc"

    def phantom(self) -> Path:
        """Folder with the phantom on the grids of the scan and of the dose."""
        return self.cache / f"phantom-{content_key('phantom', self._patient)}"

    def ctdi(self, kv: float) -> Path:
        """CTDI of the scanner at one kV."""
        base = self._protocol(kv, self.study.pitch[0])
        beam = {k: v for k, v in base.items() if k not in ("pitch", "key", "title", "notes", "task")}
        key = content_key("ctdi", source_key(), beam, self.study.ctdi_histories, self.study.seed[0])
        return self.cache / f"ctdi-{key}.nc"

    def response(self, kv: float, seed: int) -> Path:
        """Organ doses by part of the tube's path at one kV: for all pitches and mAs."""
        beam = {k: v for k, v in self._protocol(kv, self.study.pitch[0]).items() if k != "pitch"}
        key = content_key(
            "response",
            self._patient,
            beam,
            self.ctdi(kv).name,
            self.study.scan_range_mm,
            self.study.histories,
            seed,
        )
        return self.cache / f"response-{key}.nc"

    def dose(self, kv: float, pitch: float, seed: int) -> Path:
        """Organ doses of one beam, from the response."""
        key = content_key("dose", self.response(kv, seed).name, self._protocol(kv, pitch))
        return self.cache / f"dose-{key}.nc"

    def dose_map(self, kv: float, pitch: float) -> Path:
        """Dose map of one beam: a full run, against which the response is checked."""
        key = content_key("dose map", self.response(kv, self.study.seed[0]).name, self._protocol(kv, pitch))
        return self.cache / f"map-{key}.nc"

    def rays(self, pitch: float) -> Path:
        """Scratch folder: line integrals and ray variances of one pitch; removed when the study ends."""
        beams = [self._protocol(kv, pitch) for kv in self.study.kv]
        key = content_key(
            "rays",
            self._patient,
            beams,
            self._some(*_LESION, *_CONTRAST, *_OBSERVER, "seed", "ctdi_histories"),
        )
        return self.cache / f"rays-{key}"

    def quality(self, pitch: float, seed: int, position: int) -> Path:
        """Detectability and noise at one place of the lesion, for all kV, mAs and kernels of a pitch."""
        key = content_key("quality", self.rays(pitch).name, self.study.mas, seed, position)
        return self.cache / f"quality-{key}.nc"

    def images(self, kv: float, pitch: float, seed: int) -> Path:
        """Noisy images of the lesion, for all mAs and kernels of a beam."""
        key = content_key("images", self.rays(pitch).name, self.study.mas, kv, seed)
        return self.cache / f"images-{key}.nc"

    def cases(self) -> Iterator[dict[str, Any]]:
        """The grid, case by case."""
        study = self.study
        for kv, mas, pitch, kernel, seed in itertools.product(
            study.kv, study.mas, study.pitch, study.kernel, study.seed
        ):
            yield {"kv": kv, "mas": mas, "pitch": pitch, "kernel": kernel, "seed": seed}

    def case(self, *, kv: float, mas: float, pitch: float, kernel: str, seed: int) -> Path:
        """Result of one case."""
        key = content_key(
            "case",
            [self.quality(pitch, seed, position).name for position in range(self.study.n_positions)],
            self.images(kv, pitch, seed).name,
            self.dose(kv, pitch, seed).name,
            self.ctdi(kv).name,
            kv,
            mas,
            kernel,
            self.study.dose_metric,
        )
        return self.folder / "cases" / f"{key}.nc"
