# make workbook   environment, then the whole series on the studio, then an HTML page
# make evidence   environment, then notebooks 10 and 11: every method at equal budgets, and what brings the forgotten back
# make test       environment, then every test
# make quick      environment, then what takes a minute at most: style, arrows between rooms, ci/tests/unit without the slow ones
# make lab        JupyterLab on the series
# make digits     forget "seven" on real handwritten digits: own data, own CLIP, notebooks 01 to 05
# make notebooks  execute the committed notebooks again and clean them (NOTEBOOKS="03 04": write back only these)
# make site       the series, the names of the package and the evidence as web pages in build/site
# make wheels     builds slugkit and slugkit-studio (the data folder) into dist/
# make bench      the benchmarks, by hand
# make clean      take away the environment and everything a run can make again (runs/ stays)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
RUN    ?= workbook
NOTEBOOKS ?=
# Several processes of many threads spin against each other; one thread each costs a busy machine its share and no more.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: env workbook evidence digits style quick test slurm lab notebooks site wheels bench clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

env: $(STAMP)

# Made again when the lock or the package's own description changes.
$(STAMP): ci/requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON); Python 3.11 or newer was expected. Install it, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V); Python 3.11 or newer was expected. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; it was expected. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 1e9; sys.exit(f"There are {free:.1f} GB free here; 8 GB were expected. Make room, or move the folder to another disk." if free < 8 else 0)'
	@echo "Setting up the environment in $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r ci/requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(STAMP)

workbook: env
	$(BIN)/slugkit run --run $(RUN) --notebooks 00-09

evidence: env
	$(BIN)/slugkit run --run $(RUN) --notebooks 10-11

DIGITS := $(abspath runs/digits)
digits: env
	$(BIN)/python ci/digits.py $(DIGITS)-data
	$(BIN)/slugkit train clip --data $(DIGITS)-data --out $(DIGITS)-clip
	$(BIN)/slugkit run --run digits --notebooks 01-05 -p data $(DIGITS)-data -p model $(DIGITS)-clip -p concept seven -p batch_size 10

style: env
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache

quick: style
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile ci/tests/unit -m "not slow"

test: style
	$(BIN)/mypy --cache-dir=/dev/null
	$(BIN)/python ci/clean.py --check
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile ci/tests
	$(BIN)/python ci/check_notebooks.py

# Sweeps on a real Slurm of this machine, as root of a Debian; its packages are installed if they are missing.
slurm: env
	@command -v slurmctld >/dev/null || apt-get install -y --no-install-recommends slurm-wlm munge
	SLUGKIT_SLURM=1 $(ONE_THREAD) $(BIN)/python -m pytest -m slurm ci/tests

# Lab reads its site-wide defaults from the environment's own folder.
lab: env
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@cp ci/lab-overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json
	$(BIN)/jupyter lab --notebook-dir=. notebooks

notebooks: env
	$(BIN)/python ci/clean.py --execute $(NOTEBOOKS)
	$(BIN)/python ci/readme_figures.py

# Building and reading fetch nothing.
site: env
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -b html . build/site
	@echo "The site: build/site/docs/index.html"

wheels: env
	rm -rf dist
	$(BIN)/uv build --quiet --wheel --out-dir dist .
	$(BIN)/uv build --quiet --wheel --out-dir dist data
	@rm -rf build *.egg-info data/build data/*.egg-info
	@ls -l dist

bench: env
	@for script in ci/bench/*.py; do test -e "$$script" || { echo "There are no benchmarks in ci/bench yet."; break; }; echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache runs/.cache runs/.check-*
	find slugkit ci notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
