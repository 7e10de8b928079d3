"""Run a study by dask: only what is missing, each result written as it is made, all collected at the end."""

from __future__ import annotations

import itertools
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from dask.callbacks import Callback
from dask.delayed import Delayed

import twinlab
from twinlab.keys import source_key
from twinlab.schema import refuse
from twinlab.study import planning, stages, store
from twinlab.study.collect import collect
from twinlab.study.layout import Layout
from twinlab.study.models import Study
from twinlab.study.progress import Progress


def run(
    study: Study,
    *,
    outputs: str | Path | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Compute what is missing of a study and collect its results.

    Parameters
    ----------
    study : Study
    outputs : path, optional
        Root of all outputs; ``$TWINLAB_OUTPUTS`` or ``outputs`` by default.
    scheduler : str, optional
        Address of a ``dask.distributed`` scheduler whose workers see ``outputs``; one thread here by default,
        because the engines' kernels use all cores themselves.
    progress : bool
        Show a progress bar; :func:`twinlab.study.plan` says beforehand what it will cost.

    Returns
    -------
    Dataset, dims (kv, mas, pitch, kernel, seed, position, organ_id, y, x)
        See :func:`twinlab.study.collect.collect`. Interrupting and resuming gives the same bits.

    Raises
    ------
    InputError
        Before any work: a setting that cannot be; later: an engine's refusal. What was computed stays.
    """
    layout = Layout(study, outputs)
    if layout.results.is_file():
        return store.read(layout.results)
    work = planning.plan(study, outputs=outputs)
    for folder in (layout.cache, layout.folder, layout.folder / "cases"):
        folder.mkdir(parents=True, exist_ok=True)
        store.sweep(folder)
    store.save_json(study.model_dump(mode="json"), layout.folder / "study.json")
    began = time.time()
    tasks, costs = graph(layout, work)
    with Progress(study.name, {name: costs[name] for name in tasks if name in costs}, show=progress) as bar:
        if scheduler is None:
            _run_here(tasks, bar)
        else:
            _run_there(tasks, bar, scheduler)
        collected = collect(layout)
    store.save_json(_provenance(layout, time.time() - began), layout.folder / "provenance.json")
    store.save(collected, layout.results)
    for pitch in study.pitch:
        shutil.rmtree(layout.rays(pitch), ignore_errors=True)
    return store.read(layout.results)


def graph(layout: Layout, work: planning.Plan) -> tuple[dict[str, Delayed], dict[str, float]]:
    """Delayed stages that are not done, each waiting for those it needs, with their cost in seconds."""
    study, root = layout.study, str(layout.root)
    costs = {stage.name: stage.seconds for stage in work.stages}
    tasks: dict[str, Delayed] = {}

    def add(
        name: str, done: bool, function: Callable[..., str], *args: Any, after: tuple[str, ...] = ()
    ) -> None:
        if not done:
            needs = [tasks[key] for key in after if key in tasks]
            tasks[name] = dask.delayed(function, pure=False)(study, root, *args, needs, dask_key_name=name)

    add("phantom", layout.phantom().is_dir(), stages.make_phantom)
    for kv in study.kv:
        add(f"CTDI {kv:g} kV", layout.ctdi(kv).is_file(), stages.make_ctdi, kv)
    ctdi = tuple(f"CTDI {kv:g} kV" for kv in study.kv)
    _add_dose_stages(layout, add)
    for pitch in study.pitch:
        _add_image_stages(layout, pitch, ctdi, add)
    for case in layout.cases():
        if not layout.case(**case).is_file():
            after = [planning.dose_name(case["kv"], case["pitch"], case["seed"]), *ctdi]
            after += [planning.images_name(case["kv"], case["pitch"], case["seed"])]
            after += [planning.quality_name(case["pitch"], case["seed"], i) for i in range(study.n_positions)]
            add(planning.case_name(layout.case(**case)), False, stages.make_case, case, after=tuple(after))
    return tasks, costs


def _add_dose_stages(layout: Layout, add: Callable[..., None]) -> None:
    """One transport for each kV and seed, sums for each pitch, and a full run that checks one of them."""
    study = layout.study
    for kv, seed in itertools.product(study.kv, study.seed):
        name = planning.response_name(kv, seed)
        sums = [(pitch, layout.dose(kv, pitch, seed).is_file()) for pitch in study.pitch]
        done = layout.response(kv, seed).is_file() or all(there for _, there in sums)
        add(name, done, stages.make_response, kv, seed, after=("phantom", f"CTDI {kv:g} kV"))
        for pitch, there in sums:
            add(planning.dose_name(kv, pitch, seed), there, stages.make_dose, kv, pitch, seed, after=(name,))
    kv, pitch = study.kv[0], study.pitch[0]
    checked = layout.dose_map(kv, pitch).is_file()
    after = (planning.dose_name(kv, pitch, study.seed[0]),)
    add(planning.check_name(kv, pitch), checked, stages.make_dose_map, kv, pitch, after=after)


def _add_image_stages(layout: Layout, pitch: float, ctdi: tuple[str, ...], add: Callable[..., None]) -> None:
    study = layout.study
    quality = [
        (
            planning.quality_name(pitch, seed, i),
            layout.quality(pitch, seed, i).is_file(),
            stages.make_quality,
            pitch,
            seed,
            i,
        )
        for seed in study.seed
        for i in range(study.n_positions)
    ]
    images = [
        (
            planning.images_name(kv, pitch, seed),
            layout.images(kv, pitch, seed).is_file(),
            stages.make_images,
            kv,
            pitch,
            seed,
        )
        for seed in study.seed
        for kv in study.kv
    ]
    ready = all(item[1] for item in (*quality, *images)) or layout.rays(pitch).is_dir()
    add(planning.rays_name(pitch), ready, stages.make_rays, pitch, after=("phantom", *ctdi))
    for item in (*quality, *images):
        add(*item, after=(planning.rays_name(pitch),))


def _run_here(tasks: dict[str, Delayed], bar: Progress) -> None:
    def start(key: Any, *_: Any) -> None:
        bar.start(str(key))

    def end(key: Any, *_: Any) -> None:
        bar.finish(str(key))

    with Callback(pretask=start, posttask=end):
        dask.compute(*tasks.values(), scheduler="threads", num_workers=1, optimize_graph=False)


def _run_there(tasks: dict[str, Delayed], bar: Progress, address: str) -> None:
    from distributed import Client, as_completed

    try:
        client = Client(address, timeout="5s")
    except (OSError, ValueError, TimeoutError) as error:
        refuse(
            "scheduler",
            "the address of a running dask scheduler, like tcp://host:8786",
            f"{address} ({error})",
        )
    with client:
        futures = dict(zip(tasks, client.compute(list(tasks.values()), optimize_graph=False), strict=True))
        names = {future.key: name for name, future in futures.items()}
        for future in as_completed(futures.values()):
            future.result()
            bar.finish(names[future.key])
        futures.clear()  # release before the client closes


def _provenance(layout: Layout, seconds: float) -> dict[str, Any]:
    packages = ("numpy", "scipy", "xarray", "dask", "numba", "pydicom", "SimpleITK", "spekpy", "xraylib")
    return {
        "key": layout.key,
        "source_key": source_key(),
        "seconds": round(seconds, 1),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"twinlab": twinlab.__version__, **{name: version(name) for name in packages}},
        "seeds": list(layout.study.seed),
        "study": layout.study.model_dump(mode="json"),
    }


def status(outputs: str | Path | None = None) -> list[dict[str, Any]]:
    """Studies under the root of all outputs and how far they are.

    Returns
    -------
    list of dict
        ``name``, ``folder``, ``cases`` (all), ``done``, ``finished``; newest first.
    """
    found = []
    root = store.outputs_root(outputs) / "studies"
    for file in sorted(root.glob("*/study.json"), key=lambda p: -p.stat().st_mtime):
        study = Study.read(file)
        total = len(study.kv) * len(study.mas) * len(study.pitch) * len(study.kernel) * len(study.seed)
        done = len(list((file.parent / "cases").glob("*.nc")))
        finished = (file.parent / "results.nc").is_file()
        found.append(
            {"name": study.name, "folder": file.parent, "cases": total, "done": done, "finished": finished}
        )
    return found
