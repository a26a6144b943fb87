"""A sweep on a Slurm cluster: an array job with a task a concept, through submitit.

A task leaves its rows in a file of its own, so that they outlive the process that asked for them;
the same sweep, started again, takes what is there, waits for what still runs, and submits the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd
import torch

from slugkit.base import RunFailedError, SettingError, sha256_json, write_parquet, write_text

Rows = Callable[[str], list[dict]]
"""Concept -> its rows; a function of a module, or a `functools.partial` of one."""
USUAL = {"timeout_min": 240, "cpus_per_task": 1}
"""What a task asks for where nobody says."""


@dataclass(frozen=True)
class Cluster:
    """Where a sweep computes its concepts, in the place of processes of this machine.

    Attributes:
        at_once: tasks that may run at the same time; 0 leaves that to Slurm.
        asked: what each task asks for, in submitit's names: timeout_min, cpus_per_task, mem_gb,
            gpus_per_node, slurm_partition, slurm_account, slurm_setup, ...
        poll: seconds between two looks at the queue.
    """

    at_once: int = 0
    asked: dict[str, Any] = field(default_factory=dict)
    poll: float = 5.0

    def rows(
        self, rows_of: Rows, concepts: list[str], path: Path, made: str
    ) -> Iterator[tuple[str, list[dict]]]:
        """Each concept and its rows as soon as they are there.

        Args:
            rows_of: what a task calls.
            path: the table. What tasks leave lies beside it, in a folder that both this machine
                and the nodes see, until the rows are taken, and after that their logs if one
                failed.
            made: how the rows are made; those of other settings are not taken.

        Raises:
            SettingError: no Slurm or no submitit here, or a task that asks for what they do not
                know.
            RunFailedError: tasks that ended without rows, after all others are done.
        """
        folder = path.resolve().with_suffix(".tasks")
        tasks = {
            c: Task(rows_of, folder / f"{sha256_json([made, c])[:16]}.parquet") for c in concepts
        }
        jobs = self._jobs(tasks, folder / "logs")
        missed: dict[str, int] = dict.fromkeys(jobs, 0)
        while missed:
            queued = in_queue()
            for concept in list(missed):
                task = tasks[concept]
                if task.out.is_file():
                    yield concept, task.taken()
                    missed.pop(concept)
                elif queued is not None and jobs[concept] not in queued:
                    missed[concept] += 1
            # a file that a node has just written may be seen here a moment later
            if missed and min(missed.values()) > 2:
                raise _failed([tasks[concept] for concept in missed], list(missed))
            if missed:
                sleep(self.poll)
        while set(jobs.values()) & (in_queue() or set()):  # they still write their logs
            sleep(self.poll)
        shutil.rmtree(folder, ignore_errors=True)

    def _jobs(self, tasks: dict[str, Task], logs: Path) -> dict[str, str]:
        """Concept -> the job that makes its rows: one that is queued already, or a new one."""
        queued, known = in_queue() or set(), {c: task.job() for c, task in tasks.items()}
        jobs = {c: job for c, job in known.items() if job in queued or tasks[c].out.is_file()}
        new = {concept: task for concept, task in tasks.items() if concept not in jobs}
        if new:
            executor = self._executor(logs)
            with executor.batch():
                submitted = {c: executor.submit(task, c) for c, task in new.items()}
            for concept, job in submitted.items():
                write_text(tasks[concept].note, job.job_id)
                jobs[concept] = job.job_id
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
        executor = submitit.AutoExecutor(logs, cluster="slurm")
        most = {"slurm_array_parallelism": self.at_once} if self.at_once else {}
        try:
            executor.update_parameters(name="slugkit", **USUAL | most | self.asked)
        except (NameError, TypeError, ValueError) as wrong:
            raise SettingError(f"A task cannot ask for that: {wrong}") from None
        return executor


@dataclass(frozen=True)
class Task:
    """What one task of the array does; started again where Slurm interrupted it."""

    rows_of: Rows
    out: Path

    @property
    def note(self) -> Path:
        """Where the number of its job is kept."""
        return self.out.with_suffix(".job")

    def __call__(self, concept: str) -> None:
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        if cpus:
            torch.set_num_threads(int(cpus))
        write_parquet(self.out, pd.DataFrame(self.rows_of(concept)))

    def checkpoint(self, concept: str) -> Any:
        """What submitit queues again when Slurm takes the node away."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, concept)

    def job(self) -> str:
        """The number of its job, or nothing."""
        return self.note.read_text(encoding="utf-8") if self.note.is_file() else ""

    def taken(self) -> list[dict]:
        """The rows that it left."""
        return pd.read_parquet(self.out).to_dict("records")


def in_queue() -> set[str] | None:
    """Numbers of this user's jobs that wait or run, each of an array; None where Slurm does not
    answer at the moment.
    """
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def _failed(tasks: list[Task], concepts: list[str]) -> RunFailedError:
    """What is said of tasks that ended without rows; forgets their jobs, so that the same sweep
    submits them again.
    """
    logs = tasks[0].out.parent / "logs"
    log = logs / f"{tasks[0].job()}_0_log.err"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    own = [line.strip() for line in lines if line.strip() and not line.startswith("srun:")]
    last = own[-1] if own else "it left no log"
    for task in tasks:
        task.note.unlink(missing_ok=True)
    return RunFailedError(
        f"{len(tasks)} tasks ended without rows: {', '.join(concepts)}. The first: {last} (logs are"
        f" in {logs.parent.name}/logs). All others are in the table; the same sweep goes on with"
        " these."
    )
