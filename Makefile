# make study   the main job: sample patient, protocol study, report        (about 10 minutes on 2 cores)
# make test    every test that needs no GPU and is not marked slow
# make lint    ruff, mypy, floors of the house, notebook rules
# make lab     JupyterLab on the notebooks
# make clean-outputs   remove outputs/
#
# PYTHON=/path/to/python3.12 chooses the interpreter that .venv is made of.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help study test lint lab clean-outputs

VENV := .venv
BIN := $(VENV)/bin
NAME := 04_protocol_study
export TWINLAB_OUTPUTS ?= $(CURDIR)/outputs

help:
	@sed -n 's/^# //p' Makefile

# One stamp for each set of packages; a change of what is asked for installs again.
$(VENV)/.ready-%: pyproject.toml constraints.txt tools/venv.sh
	@tools/venv.sh $*

study: $(VENV)/.ready-core
	@$(BIN)/python -m twinlab.cli sample
	@$(BIN)/python -m twinlab.cli run notebooks/$(NAME).ipynb --params params/$(NAME)/standard.yaml

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -m "not slow and not gpu" $(ARGS)

lint: $(VENV)/.ready-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --exclude "*.ipynb" .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m twinlab.report.thin notebooks/*.ipynb

lab: $(VENV)/.ready-lab
	@$(BIN)/python -m jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

clean-outputs:
	@rm -rf "$(TWINLAB_OUTPUTS)"
	@echo "removed $(TWINLAB_OUTPUTS)"
