"""A small notebook, run once for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from twinlab.report import execution

PARAMETERS = """kv = 120.0  # tube voltage [kV]
histories = 1000  # photon histories
task_seed = 3  # random seed
sizes_mm = [1.0, 2.5]  # lesion sizes [mm]
label: str | None = None  # a name, or none
data_file = ""  # input file
fail = False  # whether to stop with an error"""


def toy_notebook() -> nbformat.NotebookNode:
    """Question, formula, parameters, figure, checks, headline."""
    new = nbformat.v4
    return new.new_notebook(
        cells=[
            new.new_markdown_cell(
                "# Toy study\n\nHow thick is $\\frac{1}{\\mu}$? For **5 $ or 6 $** see\n\n$$I = e^{-\\mu t}$$"
            ),
            new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            new.new_markdown_cell("## Work"),
            new.new_code_cell(
                "import sys\nimport numpy as np\nimport xarray as xr\nfrom twinlab import report\n"
                "from twinlab.report import figures\nfrom twinlab.schema import InputError, label\n"
                "print('\\rcases:  50%|#####     | 1/2 [00:00<00:00, 1.00it/s]', file=sys.stderr)"
            ),
            new.new_code_cell(
                "nps = label('nps_radial', np.array([0.0, 2.0, 1.0]), {'frequency': [0.1, 0.3, 0.5]})\n"
                "display(figures.noise_power(nps))\nreport.finding(f'Peak at {0.3} per mm & <done>.')"
            ),
            new.new_markdown_cell("## Checks"),
            new.new_code_cell("if fail:\n    raise InputError('toy: expected no failure;\\ngot one')"),
            new.new_code_cell(
                "report.checks(report.check('tube', kv, expected=100, within=30, unit='kV', why='toy'))"
            ),
            new.new_code_cell("report.headline(f'At {kv:.0f} kV the <toy> answers.')"),
            new.new_code_cell("report.provenance(nps, credits=['A toy, CC0'])"),
        ]
    )


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the small notebook."""
    path = tmp_path_factory.mktemp("toy") / "00_toy.ipynb"
    nbformat.write(toy_notebook(), path)
    return path


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of the session."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def toy_run(toy: Path, outputs: Path) -> execution.Run:
    """The small notebook, executed."""
    return execution.execute(toy, overrides={"kv": 110.0}, out_dir=outputs, progress=False)
