"""The notebook series under test: executed once, and shown to notice when something is wrong.

    python ci/check_notebooks.py [--only series spoiled strict] [--jobs 2]

series   every notebook with nbval-lax, in order, in one empty run folder
spoiled  a copy of each whose contract output was altered must turn red at that cell, on that run's artefacts
strict   02 to 04 executed by papermill and again by strict nbval with one thread: the same text
Ends with a line "N passed, N failed".
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import clean  # noqa: E402

from slugkit.runs.memory import peak_of_children  # noqa: E402

ROOT = clean.ROOT
CODE = HERE.parent
STRICT = ("02", "03", "04")
CELL_TIMEOUT = 300
SPOILED = "SPOILED"


def environment(runs, threads=None):
    """Environment for a child process whose runs lie in `runs`; threads: of numerical libraries, None for their choice."""
    values = dict(os.environ, SLUGKIT_RUNS=str(runs), SLUGKIT_HEADLESS="1", SLUGKIT_ROOT=str(ROOT))
    values["PYTHONPATH"] = os.pathsep.join([str(CODE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    if threads:
        values.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    return values


def call(command, runs, threads=None):
    """Run a command; returns (exit status, its output, seconds, peak memory of its kernel in MB)."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=CODE, env=environment(runs, threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with peak_of_children(process.pid) as peak:
        output, _ = process.communicate()
    return process.returncode, output, time.monotonic() - started, peak[0]


def nbval(path, mode, *more):
    """The pytest command that checks one notebook; mode: --nbval or --nbval-lax."""
    return [
        *(sys.executable, "-m", "pytest", "-c", str(CODE / "pyproject.toml"), "--rootdir", str(CODE)),
        *(mode, "--nbval-current-env", "--nbval-cell-timeout", str(CELL_TIMEOUT)),
        *("--nbval-sanitize-with", str(HERE / "sanitize.cfg"), *more, str(path)),
    ]


def shortened(output, lines=60):
    """The last lines of a command's output."""
    kept = output.rstrip().splitlines()
    return "\n".join(["        ..."] * (len(kept) > lines) + ["        " + line for line in kept[-lines:]])


class Tally:
    """Counts and prints what passed and failed."""

    def __init__(self):
        self.passed = self.failed = 0

    def add(self, good, what, note="", output=""):
        """Note one check; its output is shown when it failed."""
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"{'passed' if good else 'FAILED'}  {what}  {note}".rstrip(), flush=True)
        if not good and output:
            print(shortened(output), flush=True)


def check_series(tally, runs):
    """Run every notebook once, in order, in `runs`. Stops at the first that fails, since the others need it."""
    for path in clean.notebooks():
        status, output, seconds, peak = call(nbval(path, "--nbval-lax"), runs)
        tally.add(status == 0, f"series   {path.stem}", f"{seconds:.0f} s, {peak} MB", output)
        if status != 0:
            print("        The notebooks after it need what it leaves, so they were not run.")
            return False
    return True


def spoil(notebook):
    """A copy of the cells up to the first contract cell, whose stored output says something else. None without one."""
    for index, cell in enumerate(notebook.cells):
        if clean.CONTRACT in clean.tags(cell) and cell.get("outputs"):
            break
    else:
        return None
    copy = nbformat.from_dict(notebook)
    copy.cells = copy.cells[: index + 1]
    output = copy.cells[index].outputs[0]
    if output.output_type == "stream":
        output.text = f"{SPOILED} {output.text}"
    else:
        output.data["text/plain"] = f"{SPOILED} {output.data.get('text/plain', '')}"
    return copy


def own_artefacts(runs, folder):
    """A copy of the series' run folders for one check, so that checks do not disturb each other."""
    return shutil.copytree(runs, folder / "runs")


def check_spoiled(path, runs, scratch):
    """(good, what, note, output): the spoiled copy of the notebook at `path` turns red, and at its contract cell."""
    what = f"spoiled  {path.stem}"
    copy = spoil(nbformat.read(path, as_version=4))
    if copy is None:
        return False, what, "it has no contract cell with a stored output", ""
    folder = scratch / f"spoiled-{path.stem}"
    folder.mkdir()
    nbformat.write(copy, folder / path.name)
    artefacts = own_artefacts(runs, folder)
    status, output, seconds, _ = call(nbval(folder / path.name, "--nbval-lax", "-x"), artefacts, threads=1)
    red = status == 1 and SPOILED in output and re.search(r"\b1 failed\b", output) is not None
    return red, what, f"turned red, {seconds:.0f} s" if red else "did NOT turn red at its contract cell", output


def check_strict(path, runs, scratch):
    """(good, what, note, output): one thread, the same machine: papermill's outputs and nbval's are the same text."""
    what = f"strict   {path.stem}"
    folder = scratch / f"strict-{path.stem}"
    folder.mkdir()
    artefacts = own_artefacts(runs, folder)
    command = [sys.executable, "-m", "papermill", str(path), str(folder / path.name), "--cwd", str(path.parent)]
    command += ["-k", "python3", "--execution-timeout", str(CELL_TIMEOUT), "--no-progress-bar"]
    status, output, seconds, _ = call(command, artefacts, threads=1)
    if status != 0:
        return False, what, "papermill stopped", output
    status, output, more, _ = call(nbval(folder / path.name, "--nbval"), artefacts, threads=1)
    return status == 0, what, f"{seconds + more:.0f} s", output


def check_copies(tally, kinds, runs, scratch, jobs):
    """The spoiled copies and the strict reruns, a few at a time, each on its own copy of the artefacts."""
    tasks = []
    for path in clean.notebooks():
        if "spoiled" in kinds:
            tasks.append((check_spoiled, path))
        if "strict" in kinds and path.name[:2] in STRICT:
            tasks.append((check_strict, path))
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda task: task[0](task[1], runs, scratch), tasks):
            tally.add(*result)


def main():
    """Read the command line, check, print the count; the exit status is 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("series", "spoiled", "strict"), default=["series", "spoiled", "strict"])
    parser.add_argument("--jobs", type=int, default=2, help="copies checked at the same time")
    asked = parser.parse_args()
    tally = Tally()
    if not clean.notebooks():
        print("There are no notebooks yet, so nothing was run.")
    else:
        # inside the repository, so that pytest finds its settings; git ignores runs/
        (ROOT / "runs").mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".check-", dir=ROOT / "runs"))
        try:
            runs = scratch / "runs"
            runs.mkdir()
            os.environ["SLUGKIT_CACHE"] = str(scratch / "cache")
            # the copies need the artefacts of the series, so it is executed whatever was asked for
            if check_series(tally, runs):
                check_copies(tally, asked.only, runs, scratch, asked.jobs)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
