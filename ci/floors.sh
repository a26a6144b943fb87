#!/usr/bin/env bash
# By hand: installs exactly the lowest versions that pyproject.toml declares, and runs a quick set of tests with them.
#   ci/floors.sh [FOLDER]   FOLDER for the environment, a new one or one from before; about 3 GB are fetched for a new one
set -euo pipefail
cd "$(dirname "$0")/.."
place="$(realpath -m "${1:-runs/floors}")"
python="$place/bin/python"
test -x "$python" || "${PYTHON:-python3}" -m venv "$place"
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
"$python" -m pip install --quiet --disable-pip-version-check uv
"$python" -m uv pip compile --quiet --python "$python" --resolution lowest-direct pyproject.toml --all-extras --output-file "$place/floors.txt"
"$python" -m uv pip install --quiet --python "$python" -r "$place/floors.txt"
"$python" -m uv pip install --quiet --python "$python" --no-deps .
"$python" - <<'PY'
import sys, tomllib
from importlib.metadata import version
from packaging.requirements import Requirement

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
needs = [Requirement(text) for text in sum(project["optional-dependencies"].values(), project["dependencies"])]
wrong = [f"{need.name} {version(need.name)}, declared {need.specifier}" for need in needs if str(need.specifier) != f">={version(need.name)}"]
sys.exit("These are not at the version that is declared: " + "; ".join(wrong) if wrong else 0)
PY
tests="base data_sources gradients model_folders models names patch_copies patch_files patch_models search versions vlm wrapped"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PYTHONPATH="$PWD"
exec "$python" -m pytest -q $(for test in $tests; do find ci/tests/unit -name "test_$test.py"; done)
