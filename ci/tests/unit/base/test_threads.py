"""Threads: what a container gives, what torch takes of it, and what the processes take that slugkit
starts.
"""

import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

from slugkit.base import thread_environment, usable_cpus

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def container(root, group, **files):
    """A root folder whose process lies in the control group that the line `group` says, with these
    files below sys/fs/cgroup.
    """
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        place = root / "sys/fs/cgroup" / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


V1 = {"cpu__cpu.cfs_quota_us": "50000", "cpu__cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("group", "files", "most"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": f"{HERE * 100_000 - 1} 100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "max 100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "nonsense\n"}, HERE),
        (
            "0::/batch/job\n",
            {"batch__cpu.max": "100000 100000\n", "batch__job__cpu.max": "max 100000\n"},
            1,
        ),
        ("4:cpu,cpuacct:/\n", V1, 1),
        ("4:cpu,cpuacct:/\n", V1 | {"cpu__cpu.cfs_quota_us": "-1"}, HERE),
        ("", {}, HERE),
    ],
)
def test_the_quota_of_a_container_bounds_the_cpus(tmp_path, group, files, most):
    assert usable_cpus(container(tmp_path, group, **files)) == most


def say(code, **environment):
    """What a fresh Python prints."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**plain, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_process_that_is_kept_to_one_cpu_counts_one():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not keep processes to CPUs")
    assert say(
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from slugkit.base "
        "import usable_cpus; print(usable_cpus())"
    ) == ["1"]


BOUND = """
import os, pathlib, torch
from slugkit.base import bound_threads
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(2)
bound_threads(pathlib.Path({!r}))
print(torch.get_num_threads())
"""


@pytest.mark.slow
def test_torch_takes_no_more_threads_than_the_container_has(tmp_path):
    root = container(tmp_path, "0::/\n", **{"cpu.max": "100000 100000\n"})
    assert say(BOUND.format(str(root))) == ["1"]
    assert say(BOUND.format(str(root)), OMP_NUM_THREADS="2") == ["2"], "what the user says stands"
    assert say(BOUND.format(str(tmp_path / "none"))) == [str(min(2, HERE))], (
        "nothing to bound but the machine"
    )


def test_a_device_is_picked_within_the_quota(monkeypatch):
    import torch

    from slugkit.base import machine
    from slugkit.models import pick_device

    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "usable_cpus", lambda root: 1)
    torch.set_num_threads(2)
    try:
        assert pick_device("cpu").type == "cpu" and torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("own", "threads", "expected"),
    [
        ({}, 1, {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}),
        ({}, 4, {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_NUM_THREADS": "6"}, 1, {"OMP_NUM_THREADS": "6", "OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 1, {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_processes_that_slugkit_starts_have_one_thread_unless_the_user_says_otherwise(
    monkeypatch, own, threads, expected
):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert thread_environment(threads) == expected


def test_tests_run_with_one_thread_that_waits_passively():
    import torch

    assert os.environ["OMP_WAIT_POLICY"] and os.environ["OMP_NUM_THREADS"]
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
