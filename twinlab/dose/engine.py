"""How photons are followed and scored: physics switches, estimator, device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinlab.kernels import device as devices
from twinlab.kernels import transport
from twinlab.kernels.device import Device
from twinlab.kernels.transport_data import Grid, Source, Tables
from twinlab.kernels.transport_splitting import Splitting
from twinlab.schema import refuse


@dataclass(frozen=True)
class Engine:
    """Settings of a transport run; the defaults are those of the figures in docs/validation.md."""

    estimator: str = "collision"
    fluorescence: bool = True
    doppler: bool = False
    device: Device = "cpu"
    splitting: bool = False
    forcing: bool = False

    def check(self, where: str) -> None:
        """Refuse settings that do not exist or do not go together.

        Raises
        ------
        InputError
            An unknown estimator or device; track lengths, splitting or forcing on a GPU, or two of them together.
        """
        if self.estimator not in transport.ESTIMATORS:
            refuse(f"{where}: estimator", f"one of {', '.join(transport.ESTIMATORS)}", repr(self.estimator))
        plain = self.estimator == "collision"
        if self.splitting and not plain:
            refuse(f"{where}: splitting", "estimator 'collision'", repr(self.estimator))
        if self.forcing and (self.splitting or not plain):
            refuse(f"{where}: forcing", "estimator 'collision' without splitting", repr(self.estimator))
        special = self.splitting or self.forcing or not plain
        if devices.resolve(self.device, where=where) == "cuda" and special:
            refuse(f"{where}: device", "'cpu' for track lengths, splitting and forcing", "cuda")

    def run(
        self,
        grid: Grid,
        tables: Tables,
        source: Source,
        *,
        histories: int,
        seed: int,
        n_region: int,
        first_history: int,
        voxel_map: bool,
        progress: Callable[[int], object] | None,
        beam_mm: tuple[float, float],
    ) -> transport.Tally:
        """Follow photons; parameters as of :func:`twinlab.kernels.transport.run`.

        ``beam_mm`` is the range along z, in the grid's box, beyond which photons are split where asked for.
        """
        if devices.resolve(self.device, where="dose") == "cuda":
            # not at the top: it brings numba.cuda, a quarter of the start of a program that asks for no device
            from twinlab.kernels import transport_cuda

            tally = transport_cuda.run(
                grid,
                tables,
                source,
                histories=histories,
                seed=seed,
                n_region=n_region,
                first_history=first_history,
                voxel_map=voxel_map,
            )
            if progress is not None:
                progress(histories)
            return tally
        return transport.run(
            grid,
            tables,
            source,
            histories=histories,
            seed=seed,
            n_region=n_region,
            first_history=first_history,
            voxel_map=voxel_map,
            estimator=self.estimator,
            splitting=Splitting(*beam_mm) if self.splitting else None,
            forcing=self.forcing,
            progress=progress,
        )
