"""Sweeps on a real Slurm of one machine; `make slurm` installs it."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from one_slurm import lacking, one_slurm, rows_of, told

from slugkit.base import RunFailedError, SettingError
from slugkit.experiments.cluster import Cluster, in_queue
from slugkit.experiments.sweep import one_at_a_time

ASKED = "SLUGKIT_SLURM"
"""Variable by which `make slurm` asks for these tests."""
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(ASKED not in os.environ, reason="`make slurm` runs it"),
]
CONCEPTS = [f"concept {'x' * k}{k}" for k in range(17)]
QUICK = Cluster(poll=0.5, grace=3)
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    assert not lacking(), f"A Slurm of its own was asked for, and lacks {lacking()}."
    with one_slurm(tmp_path_factory.mktemp("slurm")) as named:
        yield named


@pytest.fixture
def swept(slurm, tmp_path, monkeypatch):
    """What a sweep of some concepts takes, with the test's Slurm around it; and the plain table."""
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    paths = [str(TESTS.parents[1]), str(TESTS / "helpers"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.chdir(tmp_path)

    def given(concepts, name):
        return partial(rows_of, str(tmp_path)), concepts, CONCEPTS, tmp_path / name, "w"

    return given


def started(folder):
    return (folder / "started.txt").read_text().splitlines()


def test_tasks_write_the_same_table_as_one_process(swept, tmp_path):
    some = CONCEPTS[3::-1]
    one_at_a_time(*swept(some, "plain.csv"))
    one_at_a_time(*swept(some, "table.csv"), processes=QUICK)
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert len(started(tmp_path)) == 8 and not list(tmp_path.glob("*.tasks"))
    one_at_a_time(*swept(some, "table.csv"), processes=QUICK)  # nothing is left to do
    assert len(started(tmp_path)) == 8


def test_a_task_that_fails_is_named_and_the_others_are_kept(swept, tmp_path):
    some = CONCEPTS[:3]
    (tmp_path / f"break {some[1]}").touch()
    with pytest.raises(RunFailedError, match=f"1 tasks .*{some[1]}.*nothing can be said"):
        one_at_a_time(*swept(some, "table.csv"), processes=QUICK)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 * 2
    (tmp_path / f"break {some[1]}").unlink()
    one_at_a_time(*swept(some, "table.csv"), processes=QUICK)
    one_at_a_time(*swept(some, "plain.csv"))
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert started(tmp_path).count(some[0]) == 2  # on Slurm once, and here


def test_a_task_whose_node_is_taken_away_is_queued_again(swept, slurm, tmp_path):
    name = CONCEPTS[0]
    (tmp_path / f"hold {name}").touch()
    script = sweeping(tmp_path, [name])
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        for _ in range(600):
            if (tmp_path / "started.txt").is_file():
                break
            time.sleep(0.2)
        (job,) = in_queue()
        told(slurm, "scancel", "--signal", "USR2", job)  # as Slurm warns of a preemption
        for _ in range(100):
            if "RUNNING" not in told(slurm, "squeue", "--noheader", "--format=%T"):
                break
            time.sleep(0.2)
        (tmp_path / f"hold {name}").unlink()
        assert parent.wait(240) == 0  # Slurm lets two minutes pass
    finally:
        parent.kill()
    assert started(tmp_path) == [name, name]
    one_at_a_time(*swept([name], "plain.csv"))
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def sweeping(folder, concepts):
    """A program that sweeps these concepts on Slurm into table.csv."""
    return f"""
from functools import partial
from pathlib import Path
from one_slurm import rows_of
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.sweep import one_at_a_time
folder = Path({str(folder)!r})
given = partial(rows_of, str(folder)), {concepts!r}, {CONCEPTS!r}, folder / "table.csv", "w"
one_at_a_time(*given, processes=Cluster(poll=0.5, grace=3))
"""


def test_a_sweep_killed_at_five_moments_ends_with_the_same_table(swept, tmp_path):
    script, rng = sweeping(tmp_path, CONCEPTS), random.Random(29)
    for _ in range(5):
        parent = subprocess.Popen([sys.executable, "-c", script])
        try:
            parent.wait(rng.uniform(4, 16))
        except subprocess.TimeoutExpired:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    assert sorted(started(tmp_path)) == sorted(CONCEPTS)  # each once, whoever asked for it
    one_at_a_time(*swept(CONCEPTS, "plain.csv"))
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_what_slurm_does_not_know_is_refused_before_anything_is_submitted(swept, tmp_path):
    for asked in ({"colour": "red"}, {"timeout_min": "an hour"}):
        with pytest.raises(SettingError, match="cannot ask for that"):
            one_at_a_time(*swept(CONCEPTS[:1], "t.csv"), processes=Cluster(0, asked))
    with pytest.raises(RunFailedError, match="Slurm took no task.*partition"):
        nowhere = Cluster(0, {"slurm_partition": "nowhere"})
        one_at_a_time(*swept(CONCEPTS[:1], "t.csv"), processes=nowhere)
    assert not in_queue() and not (tmp_path / "started.txt").exists()


def test_why_a_concept_has_no_rows_is_said_here(swept, tmp_path, capsys):
    (tmp_path / f"unknown {CONCEPTS[0]}").touch()
    one_at_a_time(*swept(CONCEPTS[:2], "table.csv"), processes=QUICK)
    assert f"{CONCEPTS[0]} is left out. Nobody knows it." in capsys.readouterr().err
    assert CONCEPTS[0] not in (tmp_path / "table.csv").read_text().replace(CONCEPTS[1], "")


def test_rows_of_a_table_that_was_deleted_are_made_again(swept, tmp_path):
    some = CONCEPTS[:2]
    (tmp_path / f"break {some[1]}").touch()
    for _ in range(2):
        with pytest.raises(RunFailedError):
            one_at_a_time(*swept(some, "table.csv"), processes=QUICK)
        (tmp_path / "table.csv").unlink()
    assert started(tmp_path).count(some[0]) == 2
