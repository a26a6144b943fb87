"""A sweep on a Slurm cluster: an array job with a task a concept, through submitit.

A task leaves its rows in a file of its own, so that they outlive the process that asked for them;
the same sweep, started again, takes what is there, waits for what still runs, and submits the rest.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pandas as pd
import torch

from slugkit.base import (
    RunFailedError,
    SettingError,
    sha256_json,
    usable_cpus,
    write_parquet,
    write_text,
)

Rows = Callable[[str], list[dict]]
"""Concept -> its rows; a function of a module, or a `functools.partial` of one."""
USUAL = {"timeout_min": 240, "cpus_per_task": 1}
"""What a task asks for where nobody says."""
NUMBERS = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
NOT_OURS = ("slurm_time", "nodes", "tasks_per_node", "slurm_array_parallelism")
"""What cannot be asked for: a task is one process, and has its own words for the other two."""
LEFT_OUT = "is left out"
"""What a task says of a concept of which it has no rows."""
MOST = 1000
"""Tasks of one array; clusters allow 1,001 where nobody changed it."""
SILENT = 600.0
"""Seconds for which Slurm may give no answer."""


@dataclass(frozen=True)
class Cluster:
    """Where a sweep computes its concepts, in the place of processes of this machine.

    Attributes:
        at_once: tasks of an array that may run at the same time; 0 takes submitit's 256.
        asked: what each task asks for, in submitit's names: timeout_min, cpus_per_task, mem_gb,
            gpus_per_node, slurm_partition, slurm_account, slurm_setup, ...
        poll: seconds between two looks at the queue.
        grace: seconds after which a job that has left the queue is taken to have left no rows; a
            folder that is shared over a network may show a new file a minute late.
    """

    at_once: int = 0
    asked: dict[str, Any] = field(default_factory=dict)
    poll: float = 5.0
    grace: float = 90.0

    @classmethod
    def of(cls, at_once: int, words: list[str]) -> Cluster:
        """From NAME=VALUE, as on the command line. Raises SettingError for what is not that."""
        asked: dict[str, Any] = {}
        for word in words:
            name, _, value = word.partition("=")
            if not name or not value:
                raise SettingError(f"--slurm {word}: NAME=VALUE was expected, as timeout_min=60.")
            if name in NOT_OURS:
                raise SettingError(
                    f"--slurm {name}: a task is one process. Use timeout_min for its time, and"
                    " --processes for how many run at once."
                )
            asked[name] = _typed(name, value, asked)
        return cls(at_once, asked)

    def rows(
        self, rows_of: Rows, concepts: list[str], path: Path, made: str
    ) -> Iterator[tuple[str, list[dict]]]:
        """Each concept and its rows as soon as they are there.

        Args:
            rows_of: what a task calls.
            path: the table. What tasks leave lies beside it, in a folder that both this machine
                and the nodes see: rows until they are taken, logs until all tasks have ended well.
            made: how the rows are made; those of other settings are not taken.

        Raises:
            SettingError: no Slurm or no submitit here, or a task that asks for what they do not
                know.
            RunFailedError: Slurm refuses or does not answer; or tasks ended without rows, which is
                said after all others are done.
        """
        if not concepts:
            return
        folder = path.resolve().with_suffix(".tasks")
        what = getattr(rows_of, "func", rows_of)
        key = [made, what.__module__, what.__qualname__, repr(getattr(rows_of, "args", ()))]
        place = partial(_place, folder, key)
        tasks = {concept: Task(rows_of, place(concept)) for concept in concepts}
        jobs = self._jobs(tasks, folder / "logs")
        gone: dict[str, float] = {}
        left = list(tasks)
        while left:
            queued = in_queue()
            os.listdir(folder)  # what is remembered of a folder on a network is looked up again
            for concept in list(left):
                task = tasks[concept]
                if task.out.is_file():
                    yield concept, task.rows()
                    task.out.unlink()
                    left.remove(concept)
                elif jobs[concept] in queued:
                    gone.pop(concept, None)
                else:
                    gone.setdefault(concept, monotonic())
            if left and all(monotonic() - gone.get(c, monotonic()) > self.grace for c in left):
                raise _failed({concept: tasks[concept] for concept in left})
            if left:
                sleep(self.poll)
        while set(jobs.values()) & in_queue():  # they still write their logs
            sleep(self.poll)
        shutil.rmtree(folder, ignore_errors=True)

    def _jobs(self, tasks: dict[str, Task], logs: Path) -> dict[str, str]:
        """Concept -> the job that makes its rows: one that is queued already, or a new one."""
        executor, queued = self._executor(logs), in_queue()
        known = {concept: task.job() for concept, task in tasks.items()}
        jobs = {c: job for c, job in known.items() if job in queued or tasks[c].out.is_file()}
        new = [concept for concept in tasks if concept not in jobs]
        for first in range(0, len(new), MOST):
            with _outside(), _refusals(), executor.batch():
                some = {c: executor.submit(tasks[c], c) for c in new[first : first + MOST]}
            for concept, job in some.items():
                write_text(tasks[concept].note, job.job_id)
                jobs[concept] = job.job_id
            array = next(iter(some.values())).job_id.partition("_")[0]
            print(
                f"Slurm job {array}: {len(some)} tasks. They go on if this is stopped; `scancel"
                f" {array}` ends them.",
                file=sys.stderr,
            )
        return jobs

    def _executor(self, logs: Path) -> Any:
        try:
            import submitit
        except ImportError:
            raise SettingError(
                "submitit, which submits to Slurm, is missing; it was expected. Install"
                " slugkit[cluster]."
            ) from None
        if shutil.which("sbatch") is None:
            raise SettingError(
                "There is no Slurm here: no sbatch was found. Start the sweep where jobs are"
                " submitted, or leave --on out."
            )
        # a task that is too slow is too slow again; one whose node is taken away starts again
        executor = submitit.AutoExecutor(logs, cluster="slurm", slurm_max_num_timeout=0)
        asked = USUAL | self.asked
        if self.at_once:
            asked["slurm_array_parallelism"] = self.at_once
        # from Slurm 22.05 on srun does not take this over from sbatch
        asked.setdefault("slurm_srun_args", [f"--cpus-per-task={asked['cpus_per_task']}"])
        try:
            executor.update_parameters(name="slugkit", **asked)
        except (AssertionError, NameError, TypeError, ValueError) as wrong:
            raise SettingError(f"A task cannot ask for that: {wrong or asked}") from None
        return executor


@dataclass(frozen=True)
class Task:
    """What one task of the array does; started again where Slurm interrupted it.

    out: where its rows go, beside the number of its job.
    """

    rows_of: Rows
    out: Path

    def __call__(self, concept: str) -> None:
        if self.out.is_file():  # it was interrupted after that
            return
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        if cpus:
            torch.set_num_threads(min(int(cpus), usable_cpus()))
        write_parquet(self.out, pd.DataFrame(self.rows_of(concept)))

    def checkpoint(self, concept: str) -> Any:
        """What submitit queues again when Slurm takes the node away."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, concept)

    @property
    def note(self) -> Path:
        """Where the number of its job is kept."""
        return self.out.with_suffix(".job")

    def job(self) -> str:
        """The number of its job, or nothing."""
        return self.note.read_text(encoding="utf-8") if self.note.is_file() else ""

    def log(self) -> list[str]:
        """The lines that its job wrote on stderr, without those of Slurm's own starter."""
        path = self.out.parent / "logs" / f"{self.job()}_0_log.err"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if not line.startswith("srun:")]
        return [line for line in lines if line]

    def rows(self) -> list[dict]:
        """The rows that it left; where there are none, why is said again here."""
        found = pd.read_parquet(self.out).to_dict("records")
        for line in () if found else self.log():
            if LEFT_OUT in line:
                print(line, file=sys.stderr)
        return found


def _place(folder: Path, key: list[str], concept: str) -> Path:
    return folder / f"{sha256_json([*key, concept])[:16]}.parquet"


def _typed(name: str, value: str, asked: dict[str, Any]) -> Any:
    """What submitit expects under this name."""
    if name in NUMBERS:
        try:
            return float(value) if name == "mem_gb" else int(value)
        except ValueError:
            raise SettingError(f"--slurm {name}={value}: a number was expected.") from None
    if name in ("slurm_setup", "slurm_srun_args"):  # a line each; the option is repeated
        return [*asked.get(name, []), value]
    return True if value == "True" else value


def _outside() -> Any:
    """Within the block this process is no job of Slurm itself."""
    if "SLURM_JOB_ID" not in os.environ:
        return nullcontext()
    from submitit.helpers import clean_env

    return clean_env()


@contextmanager
def _refusals() -> Iterator[None]:
    """Within the block what Slurm refuses is an error of ours."""
    try:
        yield
    except RuntimeError as wrong:
        raise RunFailedError(f"Slurm took no task: {wrong}") from None


def in_queue() -> set[str]:
    """Numbers of this user's jobs that wait or run, each of an array.

    Raises RunFailedError where Slurm gives no answer for some minutes.
    """
    asked = ["squeue", f"--user={getpass.getuser()}", "--noheader", "--array", "--format=%i"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    started = monotonic()
    while True:
        try:
            how = {"capture_output": True, "text": True, "timeout": 60, "check": True}
            return set(subprocess.run(asked, env=plain, **how).stdout.split())
        except (OSError, subprocess.SubprocessError) as silent:
            if monotonic() - started > SILENT:
                raise RunFailedError(
                    f"Slurm does not answer: {silent}. Tasks that were submitted go on; the same"
                    " sweep takes what they leave."
                ) from None
        sleep(5)


def _failed(tasks: dict[str, Task]) -> RunFailedError:
    """What is said of tasks that ended without rows, by concept."""
    name, first = next(iter(tasks.items()))
    said = first.log()
    return RunFailedError(
        f"{len(tasks)} tasks ended without rows: {', '.join(tasks)}. {name}:"
        f" {said[-1] if said else 'it left no log'} (logs are in {first.out.parent.name}/logs). All"
        " others are in the table; the same sweep goes on with these."
    )
