"""Committed notebooks: executed by one command, without anything of the machine that ran them, and
checked.

python ci/clean.py --execute [03 04]   execute the series in an empty run folder, clean, write back
python ci/clean.py [03 04]             clean what is there, without executing
python ci/clean.py --check             refuse what must not be committed; changes nothing

Numbers choose some of the notebooks; without them it is all.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import nbformat

ROOT = Path(os.environ.get("SLUGKIT_ROOT") or Path(__file__).resolve().parents[1]).resolve()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slugkit.base import thread_environment  # noqa: E402
from slugkit.workbook.run import stages  # noqa: E402

MAX_BYTES = 1_500_000
MAX_PICTURE = 300_000
CELL_TIMEOUT = 1800
LANES = 2
"""Notebooks at once, with one thread each: that does more than one notebook with two."""
CONTRACT = "nbval-check-output"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
ABSOLUTE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|Users|private|var|opt|mnt|work|srv|usr|content)/[\w.-]+|\b[A-Z]:\\\\?\w"
)
EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+")


def notebooks(numbers=()):
    """Paths of the series in order; `numbers` such as ["03", "04"] keeps only those."""
    found = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [path for path in found if not numbers or path.name[:2] in numbers]


def tags(cell):
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def strings_in(value):
    """Every text in an output's data: a mime bundle's values, nested lists and dictionaries
    included.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from strings_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings_in(entry)


def texts(output):
    """The readable texts of an output, without pictures."""
    if output.output_type == "stream":
        yield output.text
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            for text in strings_in(value):
                yield EMBEDDED.sub("", text)


def without_paths(value, runs):
    """`value` (text, list or dictionary of texts) with this machine's folders taken out: run folder
    -> runs, repository -> .
    """
    if isinstance(value, str):
        for folder, short in ((runs, "runs"), (str(ROOT), "")):
            if folder:
                value = value.replace(folder + "/", short + "/" if short else "").replace(
                    folder, short or "."
                )
        return value
    if isinstance(value, dict):
        return type(value)(
            {
                name: entry if name.startswith("image/") else without_paths(entry, runs)
                for name, entry in value.items()
            }
        )
    if isinstance(value, list):
        return [without_paths(entry, runs) for entry in value]
    return value


def clean_outputs(outputs, runs):
    """Outputs without progress bars and warnings (stderr), widgets, and paths; neighbouring texts
    are joined.
    """
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            output.text = without_paths(output.text, runs)
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif "data" in output:
            if WIDGET in output.data:
                continue
            output.data = without_paths(output.data, runs)
        kept.append(output)
    return kept


def clean(notebook, runs=""):
    """`notebook` without editors' and papermill's marks; outputs and counts stay.

    runs: run folder to take out of texts.
    """
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in tags(cell)]
    for cell in notebook.cells:
        keep = {
            name: cell.metadata[name]
            for name in ("tags", "jupyter", "student")
            if cell.metadata.get(name)
        }
        cell.metadata = nbformat.from_dict(keep)
        if cell.cell_type == "code":
            cell.outputs = clean_outputs(cell.outputs, runs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
    return notebook


def execute(path):
    """The notebook at `path`, executed from its first cell in a fresh kernel, in the folder it lies
    in.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=where).execute()
    return notebook


def save(notebook, path):
    """Write a notebook to `path` in one step; says whether the file changed."""
    text = nbformat.writes(notebook) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return True


def execute_series(numbers):
    """Execute the chosen notebooks and those that they need in one empty run folder; write back
    the chosen ones, cleaned.
    """
    chosen = notebooks(numbers)
    # the longer name first, so that a path is taken out whole; resolved, since macOS shows
    # /private/var for /var
    runs = str(Path(tempfile.mkdtemp(prefix="slugkit-notebooks-")).resolve())
    os.environ.update(thread_environment(), SLUGKIT_RUNS=runs, SLUGKIT_HEADLESS="1")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    )

    def remake(path):
        started = time.monotonic()
        notebook = clean(execute(path), runs)
        changed = path in chosen and save(notebook, path)
        said = f"{time.monotonic() - started:.0f} s, {'written' if changed else 'not changed'}"
        print(f"{path.stem}: {said}", flush=True)
        return True

    names = {path.stem for path in chosen}
    needed = names.union(*(stages.waits_for(name) for name in names))
    paths = {path.stem: path for path in notebooks() if path.stem in needed}
    try:
        side_by_side(
            {name: (remake, path) for name, path in paths.items()},
            {name: stages.waits_for(name) & set(paths) for name in paths},
        )
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def side_by_side(tasks, needs):
    """Call every task when those that it needs have returned True, LANES at once.

    tasks: name -> (function, *arguments). needs: name -> names. Returns the names of those that
    were not called; raises what a task raises.
    """
    waiting, running, passed = dict(tasks), {}, set()
    with ThreadPoolExecutor(LANES) as lanes:
        while True:
            for name in [n for n in waiting if needs[n] <= passed][: LANES - len(running)]:
                running[lanes.submit(*waiting.pop(name))] = name
            if not running:
                return list(waiting)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            ended = {running.pop(lane): lane.result() for lane in done}
            passed |= {name for name, good in ended.items() if good}


def faults_of_outputs(number, cell):
    """What is wrong with the outputs of the code cell with this number."""
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"cell {number} holds the error {output.ename}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"cell {number} holds stderr output"
        for text in texts(output):
            found = ABSOLUTE.search(text)
            if found or str(ROOT) in text:
                yield f"cell {number} shows the path {found[0] if found else str(ROOT)}"
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/") and len("".join(data)) > MAX_PICTURE * 4 / 3:
                yield f"cell {number} holds a picture over {MAX_PICTURE // 1000} kB"


def faults(path):
    """Everything that forbids committing the notebook at `path`, as a list of texts; empty when it
    is fine.
    """
    found = []
    size = path.stat().st_size
    if size > MAX_BYTES:
        found.append(f"it weighs {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6} MB are allowed")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as broken:
        return [f"it cannot be read ({broken})"]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(
            f"its counts are not 1 to {len(cells)}; no single fresh run left these outputs"
        )
    for number, cell in enumerate(cells, 1):
        found += faults_of_outputs(number, cell)
    if sum("parameters" in tags(cell) for cell in cells) != 1:
        found.append("it has no settings cell (tag parameters), or several")
    contracts = [cell for cell in cells if CONTRACT in tags(cell)]
    if not contracts:
        found.append(f"it has no contract cell (tag {CONTRACT})")
    elif not all(cell.outputs for cell in contracts):
        found.append("its contract cell has no stored output, so it checks nothing")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    return found


def check(numbers):
    """Print the faults of every notebook; returns how many notebooks have some."""
    bad = 0
    for path in notebooks(numbers):
        found = faults(path)
        bad += bool(found)
        for fault in found:
            print(f"{path.name}: {fault}")
    if bad:
        print(
            f"{bad} of {len(notebooks(numbers))} notebooks must not be committed like this; `make"
            " notebooks` mends most of it."
        )
    else:
        print(f"{len(notebooks(numbers))} notebooks checked, all fit to be committed.")
    return bad


def main():
    """Read the command line and do what it says; the exit status is 1 where a check found
    something.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "numbers", nargs="*", help="two-digit numbers of notebooks, such as 03 04; all without"
    )
    parser.add_argument(
        "--execute", action="store_true", help="execute in an empty run folder first"
    )
    parser.add_argument("--check", action="store_true", help="only check")
    asked = parser.parse_args()
    unknown = [number for number in asked.numbers if not notebooks([number])]
    if unknown:
        parser.error(
            f"there is no notebook {unknown[0]}; two-digit numbers such as 03 were expected"
        )
    if asked.check:
        sys.exit(1 if check(asked.numbers) else 0)
    if not notebooks():
        print("There are no notebooks yet.")
    elif asked.execute:
        execute_series(asked.numbers)
    else:
        for path in notebooks(asked.numbers):
            changed = save(clean(nbformat.read(path, as_version=4)), path)
            print(f"{path.stem}: {'cleaned' if changed else 'not changed'}")


if __name__ == "__main__":
    main()
