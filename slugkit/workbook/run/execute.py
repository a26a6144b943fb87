"""Running the series headlessly: papermill, one notebook after the other, each only if something it
depends on changed.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slugkit.base import (
    RunFailedError,
    SettingError,
    advice_on,
    notebooks_dir,
    run_folder,
    sha256_file,
    thread_environment,
)
from slugkit.base.memory import peak_memory
from slugkit.workbook.run.folder import commit, machine, slugkit_hash, versions
from slugkit.workbook.run.manifest import Manifest, use_changed
from slugkit.workbook.run.partners import require_partners
from slugkit.workbook.run.stages import (
    ARTEFACTS,
    list_notebooks,
    notebook_path,
    parameters_of,
    read_notebook,
    select,
    settings_for,
    source_hash,
)
from slugkit.workbook.settings import Settings, check_names, check_settings

CELL_TIMEOUT = 3600


def run_series(
    run: str,
    notebooks: str | list[str] | None = None,
    parameters: dict[str, Any] | None = None,
    force: bool = False,
    cell_timeout: int = CELL_TIMEOUT,
    echo: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Execute notebooks of the series in order into `runs/<run>`, skipping those that nothing has
    changed for.

    notebooks: "01-05", "02,04", a list of names, or None for all. parameters: settings for all
    notebooks that list them; the others keep their own defaults. force: run even what is unchanged.
    cell_timeout: seconds for one cell, 1 or more.
    echo: called with each line of the report. Returns one row per notebook: notebook, state ("ran"
    or "unchanged"), seconds, peak_mb. Raises SettingError before anything runs for a name or value
    that does not fit, or models that do not belong together, RunFailedError where a notebook stops.
    """
    names = notebooks if isinstance(notebooks, list) else select(notebooks)
    given = dict(parameters or {})
    if cell_timeout < 1:
        raise SettingError(f"cell_timeout is {cell_timeout}; 1 second or more was expected.")
    if given.pop("run", run) != run:
        raise SettingError(
            f"run was given twice, as {run!r} and {parameters['run']!r}; leave out the setting."
        )
    plan = _plan(run, names, given)
    require_partners(plan)
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with _alone(folder, echo):
        slugkit_source = slugkit_hash()
        for name in names:
            stage = _Stage(name, plan[name], folder, slugkit_source)
            reason = "asked for" if force else stage.reason_to_run()
            if reason:
                echo(f"{name}: running ({reason})")
                rows.append(stage.execute(cell_timeout))
            else:
                rows.append(stage.unchanged())
            echo(_line(rows[-1]))
    return rows


def _plan(run: str, names: list[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    check_settings({"run": run})
    listed = {name: list(parameters_of(name)) for name in names}
    reachable = {setting for settings in listed.values() for setting in settings}
    check_names(given, {*Settings.names(), *reachable})
    check_settings(given)
    for setting in given:
        if setting not in reachable:
            elsewhere = [name[:2] for name in list_notebooks() if setting in parameters_of(name)]
            where = f"notebook {', '.join(elsewhere)} has it" if elsewhere else "no notebook has it"
            raise SettingError(
                f"{setting} is no setting of notebook {', '.join(name[:2] for name in names)}, so"
                f" it would do nothing; {where}."
            )
    for name in names:
        if "run" not in listed[name]:
            raise SettingError(
                f"The settings cell of {name} has no `run`, so its results would land elsewhere;"
                " add it."
            )
    return {name: settings_for(name, given, run) for name in names}


@contextlib.contextmanager
def _alone(folder: Path, echo: Callable[[str], None]) -> Iterator[None]:
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunFailedError(
                f"Another `slugkit run` is at work in {folder}; wait for it to end, or use another"
                " --run name."
            ) from None
        except OSError as unsupported:
            echo(
                f"The file system of {folder} locks no files ({unsupported.strerror}), so nothing "
                "keeps a second `slugkit run` out: "
                "start one at a time there, or let SLUGKIT_RUNS name a folder on a local disk."
            )
        yield


def _line(row: dict[str, Any]) -> str:
    if row["state"] == "unchanged":
        return f"{row['notebook']}: unchanged, not run again"
    return f"{row['notebook']}: done in {row['seconds']:.0f} s, {row['peak_mb']} MB"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of `run_series` as a table of text: notebook, state, seconds, peak memory in MB."""
    width = max([len(row["notebook"]) for row in rows], default=8)
    lines = [f"{'notebook':<{width}}  {'state':<9}  {'seconds':>7}  {'peak MB':>7}"]
    for row in rows:
        lines.append(
            f"{row['notebook']:<{width}}  {row['state']:<9}  {row['seconds']:>7.1f} "
            f" {row['peak_mb']:>7}"
        )
    ran = sum(row["seconds"] for row in rows if row["state"] == "ran")
    return "\n".join([*lines, f"{'together':<{width}}  {'':<9}  {ran:>7.1f}"])


class _Stage:
    """One notebook of a series: whether it must run, and running it."""

    def __init__(self, name: str, settings: dict[str, Any], folder: Path, slugkit_source: str):
        self.name = name
        self.settings = settings
        self.folder = folder
        self.copy = folder / f"{name}.ipynb"
        self.manifest = Manifest(folder)
        self.sources = {"notebook_source": source_hash(name), "slugkit_source": slugkit_source}

    def reason_to_run(self) -> str:
        """Why the notebook must run; "" where its record covers the present settings, sources,
        inputs and weights.
        """
        record = self.manifest.stage(self.name)
        if record is None:
            return "not done yet"
        if (
            record.get("executed") is None
            or not self.copy.exists()
            or sha256_file(self.copy) != record["executed"]
        ):
            return "no executed copy of it"
        changed = [
            key
            for key, value in self.settings.items()
            if record["settings"].get(key, object) != value
        ]
        if changed:
            return f"{changed[0]} is now {self.settings[changed[0]]!r}"
        for what, sha in self.sources.items():
            if record[what] != sha:
                return (
                    "the notebook was edited" if what == "notebook_source" else "slugkit was edited"
                )
        for path, entry in record["uses"].items():
            if use_changed(path, entry):
                return f"{Path(path).name} has changed"
        for artefact, sha in record["inputs"].items():
            found = self.manifest.sha_of(artefact, self.settings)
            if found != sha:
                return f"{artefact} has changed" if found else f"{artefact} is missing or stale"
        return (
            ""
            if self.manifest.complete(self.name)
            else "something it left is missing or was changed"
        )

    def unchanged(self) -> dict[str, Any]:
        record = self.manifest.stage(self.name) or {}
        return {
            "notebook": self.name,
            "state": "unchanged",
            "seconds": record.get("seconds", 0.0),
            "peak_mb": record.get("peak_mb", 0),
        }

    def execute(self, cell_timeout: int) -> dict[str, Any]:
        self.manifest.begin(self.name, self.settings)
        started = time.monotonic()
        with peak_memory(children=True) as peak:
            self._papermill(cell_timeout)
        seconds = round(time.monotonic() - started, 1)
        self._check_ran_to_the_end()
        record = self._record_left()
        peak_mb = max(peak[0], record.get("peak_mb", 0))
        record.update(
            self.sources, executed=sha256_file(self.copy), seconds=seconds, peak_mb=peak_mb
        )
        self.manifest.put(self.name, record)
        return {"notebook": self.name, "state": "ran", "seconds": seconds, "peak_mb": peak_mb}

    def _papermill(self, cell_timeout: int) -> None:
        import nbclient.exceptions
        import papermill
        from papermill.exceptions import PapermillExecutionError

        try:
            with _environment(SLUGKIT_HEADLESS="1", **thread_environment()):
                papermill.execute_notebook(
                    str(notebook_path(self.name)),
                    str(self.copy),
                    parameters=self.settings,
                    kernel_name="python3",
                    cwd=str(notebooks_dir()),
                    execution_timeout=cell_timeout,
                    progress_bar=(
                        {"desc": self.name, "leave": False} if sys.stderr.isatty() else False
                    ),
                    stderr_file=_Forward(),
                    config=_private_channels(),
                )
        except PapermillExecutionError as stopped:
            raise RunFailedError(self._stopped(stopped)) from None
        except nbclient.exceptions.DeadKernelError:
            raise RunFailedError(
                f"The kernel of notebook {self.name} died: out of memory? Try a smaller batch_size"
                f" or retain_size, or model studio. The cells up to there are in {self.copy}."
            ) from None
        except nbclient.exceptions.CellTimeoutError:
            raise RunFailedError(
                f"A cell of notebook {self.name} took longer than {cell_timeout} s and was stopped."
                f" Allow more with --cell-timeout. The cells up to there are in {self.copy}."
            ) from None

    def _stopped(self, error: Any) -> str:
        what = f"{error.ename}: {error.evalue}".strip().rstrip(".")
        advice = "".join(f"{text} " for text in [advice_on(what)] if text)
        return (
            f"Notebook {self.name} stopped at cell [{error.exec_count}]. {what}. {advice}The cells"
            f" up to there are in {self.copy}."
        )

    def _check_ran_to_the_end(self) -> None:
        cells = [
            cell
            for cell in read_notebook(self.copy).cells
            if cell.cell_type == "code" and cell.source.strip()
        ]
        if not cells or cells[-1].execution_count is None:
            done = sum(cell.execution_count is not None for cell in cells)
            raise RunFailedError(
                f"Notebook {self.name} ended after {done} of {len(cells)} cells without an error,"
                f" as sys.exit() does; the last cell was expected to run. See {self.copy}."
            )

    def _record_left(self) -> dict[str, Any]:
        record = self.manifest.stage(self.name)
        if record is not None:
            return record
        opens = any(
            "open_run(" in cell.source for cell in read_notebook(notebook_path(self.name)).cells
        )
        if opens or self.name in ARTEFACTS.values():
            raise RunFailedError(
                f"Notebook {self.name} ran to its end but never called run.finish(), so its results"
                " do not count; add the call."
            )
        own = {
            "settings": self.settings,
            "inputs": {},
            "outputs": {},
            "uses": {},
            "commit": commit(),
            "versions": versions(),
        }
        return {**own, **machine(self.settings.get("device", "auto"))}


def _private_channels() -> Any:
    """Configuration under which kernels talk encrypted where they can: their TCP ports are open to
    everybody on a shared machine.
    """
    import zmq
    from traitlets.config import Config

    return Config(
        KernelManager={"transport_encryption": "auto" if zmq.has("curve") else "disabled"}
    )


class _Forward:
    """Passes a kernel's stderr lines (progress, warnings) on to the terminal, above papermill's
    bar.
    """

    def write(self, text: str) -> None:
        from tqdm import tqdm

        for line in text.rstrip().splitlines():
            if line.strip():
                tqdm.write("    " + line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
