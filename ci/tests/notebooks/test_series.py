"""run_series with real kernels on the throwaway notebooks: resume, kill -9, and every way a
notebook can end.
"""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from repository import REPOSITORY
from series_runs import CLI, go
from throwaway_workbook import WORK, code, notebook

from slugkit.base import MissingArtefactError, RunFailedError
from slugkit.workbook.run import execute, open_run, stages
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.settings import check_settings

pytestmark = pytest.mark.usefixtures("slugkit_as_it_is")


def reasons(project, given, source="as it is"):
    """Why each stage would run now; "" where it would not."""
    folder = project.runs / "workbook"
    found = []
    for name in WORK:
        sources = {"notebook_source": stages.source_hash(name), "slugkit_source": source}
        plan = stages.settings_for(name, given, "workbook")
        found.append(execute.reason_to_run(folder, name, plan, sources))
    return found


def test_the_series_resumes_reruns_what_changed_and_refuses_what_is_stale(project):
    given = {"concept": "Bo Lind"}
    assert go(None, given)[0] == ["ran"] * 3
    assert project.results() == [
        "Bo Lind 0",
        "gradient of Bo Lind 0, 128",
        "layers by gradient of Bo Lind 0, 128",
    ]
    record = Manifest(project.runs / "workbook").stage("02_gradients")
    assert record["seconds"] > 0 and record["peak_mb"] > 20 and list(record["inputs"]) == ["sets"]
    assert go(None, given)[0] == ["unchanged"] * 3
    assert reasons(project, given, "edited") == ["slugkit was edited"] * 3
    # a setting of 02 concerns 02 and what hangs on it
    given["batch_size"] = 64
    states, lines = go(None, given)
    assert states == ["unchanged", "ran", "ran"] and project.results()[2].endswith("64")
    assert "notebook 2 of 3, 02_gradients: running (batch_size is now 64)" in lines
    # an edit of 03 concerns 03; an output or a count is no edit
    project.edit("03_rank_layers", 2, WORK["03_rank_layers"] + "  # edited")
    assert reasons(project, given) == ["", "", "the notebook was edited"]
    project.edit("03_rank_layers", 2, WORK["03_rank_layers"])
    assert reasons(project, given) == ["", "", ""]
    # a result that was changed or deleted is made again, and all that was made from it
    layers = project.runs / "workbook" / "layers.parquet"
    layers.write_text("tampered")
    assert reasons(project, given) == ["", "", "something it left is missing or was changed"]
    layers.unlink()
    assert reasons(project, given)[2] == "something it left is missing or was changed"
    # 01 anew with another seed: everything below is out of date, also where its own input is
    # untouched
    given["seed"] = 5
    assert go("01", {"concept": "Bo Lind", "seed": 5})[0] == ["ran"]
    assert reasons(project, given)[1:] == [
        "sets has changed",
        "gradients.safetensors is missing or stale",
    ]
    with pytest.raises(RunFailedError) as caught:
        go("03", {"concept": "Bo Lind"})
    assert "StaleArtefactError" in str(caught.value) and "--notebooks 01-02" in str(caught.value)


def test_killed_in_the_middle_the_same_command_gives_the_same(project):
    command = [sys.executable, "-c", CLI, "run", "--run", "killed"]
    gradients = project.runs / "killed" / "gradients.safetensors"
    slow = subprocess.Popen(
        command,
        env={**os.environ, "SLOW": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 90
        while not gradients.exists() and time.monotonic() < until:
            time.sleep(0.05)
        kernels = psutil.Process(slow.pid).children(recursive=True)
    finally:
        os.kill(slow.pid, signal.SIGKILL)
        slow.wait()
    for kernel in kernels:
        if kernel.is_running():
            kernel.kill()
    assert (
        gradients.exists()
        and "02_gradients" not in Manifest(project.runs / "killed").read()["stages"]
    )
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert (
        "01_data_curation: unchanged" in done.stdout
        and "02_gradients: running (not done yet)" in done.stdout
    )
    layers = "layers by gradient of Mira Kestrel 0, 128"
    assert project.results("killed") == [
        "Mira Kestrel 0",
        "gradient of Mira Kestrel 0, 128",
        layers,
    ]
    assert str(project.runs / "killed" / "index.html") in done.stdout
    assert [path.name for path in (project.runs / "killed").rglob("*.tmp*")] == []


ENDINGS = {
    "raises": ('raise ValueError("no such thing")', "stopped at cell .*ValueError: no such thing"),
    "leaves early": ("import sys; sys.exit(0)", "ended after .* of .* cells without an error"),
    "dies": (
        "import os; os.kill(os.getpid(), 9)",
        "kernel of notebook 01_data_curation died: out of memory",
    ),
    "hangs": ("import time; time.sleep(60)", "took longer than 2 s"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_notebook_that_does_not_end_well_is_reported(project, ending):
    source, says = ENDINGS[ending]
    project.edit("01_data_curation", 3, source)
    with pytest.raises(RunFailedError, match=says):
        go("01", cell_timeout=2 if ending == "hangs" else 60)
    assert Manifest(project.runs / "workbook").stage("01_data_curation") is None


def test_a_notebook_without_finish_is_reported_and_one_without_a_run_is_fine(project, capfd):
    project.edit("01_data_curation", 4, "pass")
    with pytest.raises(RunFailedError, match=r"never called run.finish\(\)"):
        go("01")
    project.write(
        "00_start_here",
        notebook(
            code('# Settings\nrun: str = "workbook"  # run', "parameters"), code("print(run)")
        ),
    )
    assert go("00")[0] == ["ran"] and go("00")[0] == ["unchanged"]
    assert "encryption" not in capfd.readouterr().err, "a kernel that talks in the open says so"


def test_two_at_once_in_one_run_are_refused(project):
    import fcntl

    (project.runs / "workbook").mkdir(parents=True)
    with open(project.runs / "workbook" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunFailedError, match="Another `slugkit run`"):
            go("01")


MEET = """import pathlib, time
here = pathlib.Path({here!r})
(here / "{name}").touch()
until = time.monotonic() + 60
while not (here / "{other}").exists():
    assert time.monotonic() < until, "the other notebook did not run beside this one"
    time.sleep(0.05)"""


def alone(source):
    """A notebook without a run folder that only does this."""
    return notebook(
        code('# Settings\nrun: str = "workbook"  # run', "parameters"), code(source), code("run")
    )


def test_notebooks_that_need_nothing_of_each_other_run_side_by_side(project):
    here = str(project.root)
    two = ["00_start_here", "08_several_concepts"]
    for name, other in (two, two[::-1]):
        project.write(name, alone(MEET.format(here=here, name=name, other=other)))
    states, lines = go("00,08", jobs=2)
    assert states == ["ran", "ran"]
    assert lines[0].startswith("notebook 1 of 2, 00_start_here: running")
    assert lines[1].startswith("notebook 2 of 2, 08_several_concepts: running")
    # what waits for another begins when that is done, however many may run at once
    states, lines = go("01-03", jobs=3)
    order = [line.split(": ")[0].split(", ")[-1] for line in lines]
    assert order == [name for name in WORK for _ in range(2)]


def test_where_one_stops_those_beside_it_end_and_no_other_begins(project):
    project.write("00_start_here", alone('raise ValueError("no such thing")'))
    project.edit("01_data_curation", 2, WORK["01_data_curation"] + "\ntime.sleep(3)")
    lines = []
    with pytest.raises(RunFailedError, match="00_start_here stopped .*no such thing"):
        execute.run_series("workbook", "00-03", jobs=2, echo=lines.append)
    assert "00_start_here: stopped; waiting for 01_data_curation" in lines
    assert list(Manifest(project.runs / "workbook").read()["stages"]) == ["01_data_curation"]


def test_a_notebook_waits_for_what_it_says_it_reads(project):
    assert stages.waits_for("03_rank_layers") == {"01_data_curation", "02_gradients"}
    assert stages.waits_for("12_paper_figures") >= {"00_start_here", "08_several_concepts"}
    run = open_run(check_settings({}), "02_gradients")
    with pytest.raises(MissingArtefactError, match=r"does not wait for it; list it in .*READS"):
        run.need("layers.parquet")


def test_how_many_at_once(monkeypatch):
    small = {"00": {"model": "studio", "device": "cpu"}, "01": {"model": "studio"}}
    monkeypatch.setattr(execute, "usable_cpus", lambda: 8)
    monkeypatch.setattr(execute, "free_ram", lambda: 7 * 10**9)
    assert execute.jobs_for(small) == 2, "memory for two"
    monkeypatch.setattr(execute, "free_ram", lambda: 10**9)
    assert execute.jobs_for(small) == 1
    monkeypatch.setattr(execute, "free_ram", lambda: 10**12)
    assert execute.jobs_for(small) == execute.MOST_JOBS
    monkeypatch.setattr(execute, "usable_cpus", lambda: 2)
    assert execute.jobs_for(small) == 2
    assert execute.jobs_for({"06": {"model": "studio", "pipeline": "some/pipeline"}}) == 1
    monkeypatch.setattr(execute.sys, "platform", "darwin")
    assert execute.jobs_for({"00": {"device": "auto"}}) == 1, "a GPU is shared by nobody"
    assert execute.jobs_for({"00": {"device": "cpu"}}) == 2
