"""Running the series headlessly: each notebook by papermill, if something it hangs on changed.

Notebooks that do not need each other run side by side, each in a kernel with one thread.
"""

import contextlib
import fcntl
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from slugkit.base import (
    RunFailedError,
    SettingError,
    advice_on,
    free_ram,
    notebooks_dir,
    peak_memory,
    run_folder,
    sha256_file,
    thread_environment,
    usable_cpus,
)
from slugkit.workbook.run import stages
from slugkit.workbook.run.folder import provenance, slugkit_hash
from slugkit.workbook.run.manifest import Manifest, changed_use, hash_of
from slugkit.workbook.run.partners import require_partners
from slugkit.workbook.settings import check_settings

CELL_TIMEOUT = 3600
MOST_JOBS = 4
"""Notebooks at once, at most: the longest chain of the series is not shorter with more."""
JOB_BYTES = 3 * 10**9
"""Memory for which a notebook on the studio's models is planned."""
LARGE = ("model", "pipeline", "vision_language_model")
"""Settings of models, of which only the studio's are small enough for two notebooks at once."""


def run_series(
    run: str,
    notebooks: str | list[str] | None = None,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    cell_timeout: int = CELL_TIMEOUT,
    jobs: int = 1,
    echo: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Execute notebooks in order into `runs/<run>`, but for those that nothing has changed for.

    Args:
        notebooks: "01-05", "02,04", a list of names, or None for all.
        parameters: settings for all notebooks that list them.
        force: run even what is unchanged.
        cell_timeout: seconds for one cell, 1 or more.
        jobs: notebooks at once, where they need nothing of each other; 0 asks the machine.
        echo: called with each line of the report.

    Returns: One row per notebook: notebook, state ("ran" or "unchanged"), seconds, peak_mb.

    Raises: SettingError before anything runs, RunFailedError where a notebook stops.
    """
    names = notebooks if isinstance(notebooks, list) else stages.select(notebooks)
    if cell_timeout < 1:
        raise SettingError(f"cell_timeout is {cell_timeout}; 1 second or more was expected.")
    plan = _plan(run, names, dict(parameters or {}))
    require_partners(plan)
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = jobs or jobs_for(plan)
    if jobs > 1:
        with contextlib.suppress(ImportError):
            importlib.import_module("black")  # papermill's; two threads at once see half of it
    kernels = {"SLUGKIT_HEADLESS": "1", **thread_environment()}
    with _alone(folder, echo), mock.patch.dict(os.environ, kernels):
        return _Series(folder, plan, force, cell_timeout, jobs, echo).run()


def jobs_for(plan: dict[str, dict[str, Any]]) -> int:
    """How many notebooks of `plan` (name -> settings) this machine can run at once: one where they
    share a GPU or hold models of full size, else as many as there are cores, and memory for.
    """
    every = list(plan.values())
    large = any(settings.get(name, "studio") != "studio" for settings in every for name in LARGE)
    on_cpu = all(settings.get("device") == "cpu" for settings in every if "device" in settings)
    has_gpu = sys.platform == "darwin" or Path("/dev/nvidiactl").exists()
    if large or has_gpu and not on_cpu:
        return 1
    return max(1, min(MOST_JOBS, usable_cpus(), free_ram() // JOB_BYTES))


@dataclass
class _Series:
    """One call of `run_series`: what waits, what runs, what is done."""

    folder: Path
    plan: dict[str, dict[str, Any]]
    force: bool
    cell_timeout: int
    jobs: int
    echo: Callable[[str], None]
    running: dict[Future, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source, self.started = slugkit_hash(), time.monotonic()
        self.waiting = list(self.plan)

    def run(self) -> list[dict[str, Any]]:
        """The rows of `run_series`. Where a notebook stops, those beside it still end first."""
        failed: BaseException | None = None
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while self.running or self.waiting and not failed:
                    if not failed:
                        self._start(pool)
                    done, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in done:
                        failed = self._ended(future) or failed
            except BaseException:
                # or the pool would wait for the kernels, also for one that is just starting
                while wait(self.running, timeout=0.2).not_done:
                    for process in psutil.Process().children(recursive=True):
                        with contextlib.suppress(psutil.Error):
                            process.terminate()
                raise
        if failed:
            raise failed
        return [self.rows[name] for name in self.plan]

    def _start(self, pool: Executor) -> None:
        """Start what waits for nothing that is not done, as far as there is room."""
        in_order = list(self.waiting)
        if self.jobs > 1:
            in_order.sort(key=lambda name: -stages.longest_chain(name, list(self.plan)))
        for name in in_order:
            ahead = {*self.waiting, *self.running.values()} & stages.waits_for(name)
            if len(self.running) >= self.jobs or ahead:
                continue
            self.waiting.remove(name)
            sources = {"slugkit_source": self.source, "notebook_source": stages.source_hash(name)}
            number = f"notebook {list(self.plan).index(name) + 1} of {len(self.plan)}, {name}"
            reason = self.force and "asked for"
            if not self.force:
                reason = reason_to_run(self.folder, name, self.plan[name], sources)
            if reason:
                self.echo(f"{number}: running ({reason})")
                self.running[pool.submit(self._execute, name, sources)] = name
            else:
                self.echo(f"{number}: unchanged, not run again")
                self._note(name, "unchanged", Manifest(self.folder).stage(name) or {})

    def _ended(self, future: Future) -> BaseException | None:
        """Note what a notebook took, and say it; or return why it stopped."""
        name = self.running.pop(future)
        if error := future.exception():
            if self.running:
                self.echo(f"{name}: stopped; waiting for {', '.join(self.running.values())}")
            return error
        row = future.result()
        self._note(name, "ran", row)
        ran = sum(one["state"] == "ran" for one in self.rows.values())
        left = len(self.plan) - len(self.rows)
        minutes = (time.monotonic() - self.started) / ran * left / 60
        still = f"; {left} left, about {max(1, round(minutes))} min" if left else ""
        self.echo(f"{name}: done in {row['seconds']:.0f} s, {row['peak_mb']} MB{still}")
        return None

    def _note(self, name: str, state: str, record: dict[str, Any]) -> None:
        cost = {key: record.get(key, 0) for key in ("seconds", "peak_mb")}
        self.rows[name] = {"notebook": name, "state": state, **cost}

    def _execute(self, name: str, sources: dict[str, str]) -> dict[str, Any]:
        """Run a notebook to its end; returns its record."""
        settings, copy = self.plan[name], self.folder / f"{name}.ipynb"
        manifest, started, alone = Manifest(self.folder), time.monotonic(), self.jobs == 1
        manifest.begin(name, settings)
        # alone, all processes that this one has started are the notebook's
        with peak_memory(children=True) if alone else contextlib.nullcontext([0]) as peak:
            self._papermill(name, copy)
        seconds = round(time.monotonic() - started, 1)
        cells = stages.read_notebook(copy).cells
        cells = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
        if not cells or cells[-1].execution_count is None:
            done = sum(cell.execution_count is not None for cell in cells)
            raise RunFailedError(
                f"Notebook {name} ended after {done} of {len(cells)} cells without an error, as"
                f" sys.exit() does. See {copy}."
            )
        record = manifest.stage(name)
        if record is None:
            opened = any("open_run(" in cell.source for cell in cells)
            if opened or name in stages.ARTEFACTS.values():
                raise RunFailedError(f"Notebook {name} never called run.finish(); add the call.")
            record = {"settings": settings, "inputs": {}, "outputs": {}, "uses": {}}
            record.update(provenance(settings.get("device", "auto")))
        peak_mb = max(peak[0], record.get("peak_mb", 0))
        record.update(sources, executed=sha256_file(copy), seconds=seconds, peak_mb=peak_mb)
        manifest.put(name, record)
        return record

    def _papermill(self, name: str, copy: Path) -> None:
        import papermill
        import zmq
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
        from papermill.exceptions import PapermillExecutionError
        from traitlets.config import Config

        alone, rest = self.jobs == 1, f"The cells up to there are in {copy}."
        # a kernel's TCP ports are open to everybody on a shared machine
        encryption = {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}
        try:
            papermill.execute_notebook(
                str(stages.notebook_path(name)),
                str(copy),
                parameters=self.plan[name],
                kernel_name="python3",
                cwd=str(notebooks_dir()),
                execution_timeout=self.cell_timeout,
                progress_bar=alone and sys.stderr.isatty() and {"desc": name, "leave": False},
                stderr_file=_Forward("    " if alone else f"    {name[:2]}  "),
                config=Config(KernelManager=encryption),
            )
        except PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}".strip().rstrip(".")
            said = " ".join(filter(None, (f"{what}.", advice_on(what), rest)))
            failed = f"Notebook {name} stopped at cell [{error.exec_count}]. {said}"
        except DeadKernelError:
            failed = (
                f"The kernel of notebook {name} died: out of memory? Try a smaller batch_size or"
                f" retain_size. {rest}"
            )
        except CellTimeoutError:
            failed = (
                f"A cell of notebook {name} took longer than {self.cell_timeout} s and was"
                f" stopped. Allow more with --cell-timeout. {rest}"
            )
        else:
            return
        raise RunFailedError(failed)


def _plan(run: str, names: list[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Notebook -> the settings that it will see."""
    if given.get("run", run) != run:
        raise SettingError(f"run was given twice, as {run!r} and {given['run']!r}.")
    check_settings({**given, "run": run})
    plan = {name: stages.settings_for(name, given, run) for name in names}
    for setting in given:
        if any(setting in settings for settings in plan.values()):
            continue
        every = stages.list_notebooks()
        elsewhere = [name[:2] for name in every if setting in stages.parameters_of(name)]
        where = f"notebook {', '.join(elsewhere)} has it" if elsewhere else "no notebook has it"
        raise SettingError(
            f"{setting} is no setting of notebook {', '.join(name[:2] for name in names)}, so it"
            f" would do nothing; {where}."
        )
    return plan


@contextlib.contextmanager
def _alone(folder: Path, echo: Callable[[str], None]) -> Iterator[None]:
    """Keep a second `slugkit run` out of the folder, where its file system locks files."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunFailedError(
                f"Another `slugkit run` is at work in {folder}; wait for it, or use another --run"
                " name."
            ) from None
        except OSError as unsupported:
            echo(
                f"The file system of {folder} locks no files ({unsupported.strerror}): start one at"
                " a time there, or let SLUGKIT_RUNS name a folder on a local disk."
            )
        yield


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of `run_series` as a table of text: notebook, state, seconds, peak memory in MB."""
    width = max([len(row["notebook"]) for row in rows], default=8)
    lines = [f"{'notebook':<{width}}  {'state':<9}  {'seconds':>7}  {'peak MB':>7}"]
    for row in rows:
        cost = f"{row['seconds']:>7.1f}  {row['peak_mb']:>7}"
        lines.append(f"{row['notebook']:<{width}}  {row['state']:<9}  {cost}")
    ran = sum(row["seconds"] for row in rows if row["state"] == "ran")
    return "\n".join([*lines, f"{'together':<{width}}  {'':<9}  {ran:>7.1f}"])


def reason_to_run(
    folder: Path, name: str, settings: dict[str, Any], sources: dict[str, str]
) -> str:
    """Why a notebook must run; "" where its record covers settings, sources, inputs and weights."""
    manifest = Manifest(folder)
    record, copy = manifest.stage(name), folder / f"{name}.ipynb"
    if record is None:
        return "not done yet"
    if not copy.exists() or sha256_file(copy) != record.get("executed"):
        return "no executed copy of it"
    for key, value in settings.items():
        if key not in record["settings"] or record["settings"][key] != value:
            return f"{key} is now {value!r}"
    if record["notebook_source"] != sources["notebook_source"]:
        return "the notebook was edited"
    if record["slugkit_source"] != sources["slugkit_source"]:
        return "slugkit was edited"
    if changed := changed_use(record):
        return f"{changed} has changed"
    for artefact, sha in record["inputs"].items():
        found = manifest.sha_of(artefact, settings)
        if found != sha:
            return f"{artefact} has changed" if found else f"{artefact} is missing or stale"
    for left, entry in record["outputs"].items():
        if hash_of(folder / left) != entry["sha256"]:
            return "something it left is missing or was changed"
    return ""


@dataclass
class _Forward:
    """Passes a kernel's stderr (progress, warnings) on to the terminal, above papermill's bar."""

    before: str

    def write(self, text: str) -> None:
        from tqdm import tqdm

        for line in text.rstrip().splitlines():
            if line.strip():
                tqdm.write(self.before + line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
