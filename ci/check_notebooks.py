"""The notebook series under test: executed once, and shown to notice when something is wrong.

    python ci/check_notebooks.py [--only series strict]

series   every notebook with nbval-lax, in one empty run folder, each when what it needs is there
spoiled  in the same execution: a copy of the contract cell, put behind it with its stored output
         altered, must turn red, and nothing else
strict   02 to 04 executed by papermill and again by strict nbval, on that run's artefacts: the
         same text

Two lanes of one thread each: two processes of
one thread do more than one of two. Ends with a line "N passed, N failed".
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import clean  # noqa: E402

from slugkit.base import ONE_THREAD, peak_memory  # noqa: E402
from slugkit.workbook.run import stages  # noqa: E402

ROOT = clean.ROOT
CODE = HERE.parent
STRICT = ("02", "03", "04")
READ_BY_STRICT = ("sets", "gradients.safetensors", "layers.parquet", "manifest.json")
CELL_TIMEOUT = 600
SPOILED = "SPOILED"


def environment(runs):
    """Environment for a child process of one thread whose runs lie in `runs`."""
    values = dict(os.environ, SLUGKIT_RUNS=str(runs), SLUGKIT_HEADLESS="1", SLUGKIT_ROOT=str(ROOT))
    values["PYTHONPATH"] = os.pathsep.join([str(CODE), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    return values | ONE_THREAD | {"MKL_NUM_THREADS": "1"}


def call(command, runs):
    """Run a command; returns (exit status, its output, seconds, peak memory of its
    kernel in MB).
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=CODE,
        env=environment(runs),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with peak_memory(True, process.pid) as peak:
        output, _ = process.communicate()
    return process.returncode, output, time.monotonic() - started, peak[0]


def nbval(path, mode, *more):
    """The pytest command that checks one notebook; mode: --nbval or --nbval-lax."""
    return [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-c",
            str(CODE / "pyproject.toml"),
            "--rootdir",
            str(CODE),
        ),
        *(mode, "--nbval-current-env", "--nbval-cell-timeout", str(CELL_TIMEOUT)),
        *("--nbval-sanitize-with", str(HERE / "sanitize.cfg"), *more, str(path)),
    ]


def shortened(output, lines=60):
    """The last lines of a command's output."""
    kept = output.rstrip().splitlines()
    return "\n".join(
        ["        ..."] * (len(kept) > lines) + ["        " + line for line in kept[-lines:]]
    )


class Tally:
    """Counts and prints what passed and failed; from two lanes, one line at a time."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def add(self, good, what, note="", output=""):
        """Note one check; its output is shown when it failed."""
        with self.lock:
            self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
            print(f"{'passed' if good else 'FAILED'}  {what}  {note}".rstrip(), flush=True)
            if not good and output:
                print(shortened(output), flush=True)


def spoil(notebook):
    """(the notebook with a second contract cell behind the first, whose stored output says
    something else; its index).

    None without one.
    """
    for index, cell in enumerate(notebook.cells):  # noqa: B007 read after the loop
        if clean.CONTRACT in clean.tags(cell) and cell.get("outputs"):
            break
    else:
        return None
    copy = nbformat.from_dict(notebook)
    copy.cells.insert(index + 1, nbformat.from_dict(copy.cells[index]))
    output = copy.cells[index + 1].outputs[0]
    if output.output_type == "stream":
        output.text = f"{SPOILED} {output.text}"
    else:
        output.data["text/plain"] = f"{SPOILED} {output.data.get('text/plain', '')}"
    copy.cells[index + 1]["id"] = "spoiled"
    return copy, index + 1


def cells_of(results):
    """{number of the cell: the message of its failure, "" where it passed} from the results that
    pytest wrote.
    """
    if not results.is_file():
        return {}
    cells = {}
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        faults = [fault for kind in ("failure", "error", "skipped") for fault in case.findall(kind)]
        cells[int(case.get("name").rpartition(" ")[2])] = "\n".join(
            f"{f.get('message') or ''} {f.text or ''}" for f in faults
        )
    return cells


def check_notebook(tally, path, runs, scratch):
    """Run the notebook at `path` once, with a spoiled contract cell in it.

    True if all but that cell passed.
    """
    made = spoil(nbformat.read(path, as_version=4))
    if made is None:
        tally.add(False, f"series   {path.stem}", "it has no contract cell with a stored output")
        return False
    copy, spoiled = made
    folder = scratch / f"series-{path.stem}"
    folder.mkdir()
    nbformat.write(copy, folder / path.name)
    results = folder / "results.xml"
    _, output, seconds, peak = call(
        nbval(folder / path.name, "--nbval-lax", f"--junitxml={results}"), runs
    )
    cells = cells_of(results)
    numbers = {
        number: k
        for k, number in enumerate(
            i for i, cell in enumerate(copy.cells) if cell.cell_type == "code"
        )
    }
    red = cells.pop(numbers[spoiled], "")
    good = len(cells) == len(numbers) - 1 and not any(cells.values())
    tally.add(good, f"series   {path.stem}", f"{seconds:.0f} s, {peak} MB", output)
    if good:
        noticed = SPOILED in red
        tally.add(
            noticed,
            f"spoiled  {path.stem}",
            "turned red" if noticed else "did NOT turn red at its contract cell",
            output,
        )
    return good


def check_all(tally, runs, scratch, only):
    """Check every notebook once what it waits for has passed, and 02 to 04 twice; two at once."""
    tasks = {path.stem: (check_notebook, tally, path, runs, scratch) for path in clean.notebooks()}
    needs = {name: stages.waits_for(name) & set(tasks) for name in tasks}
    if "strict" in only:
        for path in clean.notebooks(STRICT):
            tasks[f"strict {path.stem}"] = check_strict, tally, path, runs, scratch
            needs[f"strict {path.stem}"] = {path.stem}
    if left := clean.side_by_side(tasks, needs):
        print(f"        Not run, since what they need did not pass: {', '.join(left)}")


def check_strict(tally, path, runs, scratch):
    """The same machine, twice: papermill's outputs and nbval's are the same text."""
    tally.add(*run_twice(path, runs, scratch))
    return True


def run_twice(path, runs, scratch):
    """(good, what, note, output) of `check_strict`."""
    what = f"strict   {path.stem}"
    folder = scratch / f"strict-{path.stem}"
    artefacts = folder / "runs"
    for run in runs.iterdir():
        for name in READ_BY_STRICT:
            target, source = artefacts / run.name / name, run / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(path),
        str(folder / path.name),
        "--cwd",
        str(path.parent),
    ]
    command += ["-k", "python3", "--execution-timeout", str(CELL_TIMEOUT), "--no-progress-bar"]
    status, output, seconds, _ = call(command, artefacts)
    if status != 0:
        return False, what, "papermill stopped", output
    status, output, more, _ = call(nbval(folder / path.name, "--nbval"), artefacts)
    return status == 0, what, f"{seconds + more:.0f} s", output


def main():
    """Read the command line, check, print the count; the exit status is 1 where
    something failed.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=("series", "strict"), default=["series", "strict"]
    )
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
            check_all(tally, runs, scratch, asked.only)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
