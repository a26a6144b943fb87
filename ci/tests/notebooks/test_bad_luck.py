"""A series under bad luck: file systems without locks, full disks, folders that cannot be written
to, too little memory, broken manifests, Ctrl-C.
"""

import errno
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from repository import REPOSITORY
from series_runs import CLI, go

from slugkit.base import RunFailedError, SettingError, StaleArtefactError, advice_on
from slugkit.workbook import cli
from slugkit.workbook.run import open_run, report, run_series
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.settings import check_settings

pytestmark = pytest.mark.usefixtures("slugkit_as_it_is")


def slugkit(*words, **environment):
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", CLI, *words],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        timeout=120,
    )


def one_line(done):
    """The one line that a refused command says."""
    lines = [line for line in done.stderr.splitlines() if "IPKernelApp" not in line]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


# -- locks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_series_goes_on_and_says_so(project, monkeypatch, number):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    states, lines = go("01")
    assert states == ["ran"] and any(
        "locks no files" in line and "one at a time" in line for line in lines
    )


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES])
def test_a_busy_run_is_refused(project, monkeypatch, number):
    def busy(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", busy)
    with pytest.raises(RunFailedError, match="Another `slugkit run` is at work"):
        go("01")
    assert not (project.runs / "workbook" / "01_data_curation.ipynb").exists()


# -- the machine ----------------------------------------------------------------------------------


def test_a_full_disk_is_one_line(project):
    folder = project.runs / "full"
    folder.mkdir(parents=True)
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    (folder / "01_data_curation.ipynb").symlink_to("/dev/full")
    said = one_line(slugkit("run", "--run", "full", "--notebooks", "01"))
    assert (
        "No space left on device" in said
        and "The disk is full. Make room" in said
        and "goes on where it stopped" in said
    )


@pytest.mark.parametrize("place", ["a file", "below a file", "read-only"])
def test_a_folder_that_cannot_be_written_to_is_one_line(project, tmp_path, place):
    (tmp_path / "file").write_text("x")
    where = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "runs",
        "read-only": tmp_path / "closed",
    }[place]
    words = ["run", "--run", "x", "--notebooks", "01"]
    if place == "read-only":
        where.mkdir(mode=0o555)
        if os.access(where, os.W_OK):  # root may write anywhere but in the kernel's own folders
            where = (
                "/sys" if os.path.isdir("/sys") else pytest.skip("nothing is closed to this user")
            )
    said = one_line(slugkit(*words, SLUGKIT_RUNS=str(where)))
    assert "Nothing can be written there. Let SLUGKIT_RUNS name a folder of your own" in said


STOPS = {
    "MemoryError": ("bytearray(1 << 60)", "Memory ran out"),
    "numpy": ("import numpy; numpy.ones(1 << 60, 'uint8')", "Memory ran out"),
    "torch on a CPU": ("import torch; torch.empty(1 << 60, dtype=torch.uint8)", "Memory ran out"),
    "torch on a GPU": (
        (
            "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate"
            " 20.00 MiB.')"
        ),
        "Memory ran out",
    ),
    "disk": ("open('/dev/full', 'w').write('x' * 10**6)", "The disk is full"),
    "closed": ("import os; os.mkdir('/sys/x')", "Nothing can be written there"),
    "another": ("raise ValueError('no such thing')", ""),
}


@pytest.mark.parametrize("trouble", STOPS)
def test_a_notebook_that_the_machine_stops_says_what_to_do(project, trouble):
    source, advice = STOPS[trouble]
    project.edit("01_data_curation", 3, source)
    with pytest.raises(
        RunFailedError, match=f"stopped at cell .*{advice}.*The cells up to there are in"
    ) as caught:
        go("01")
    assert bool(advice) == bool(advice_on(str(caught.value)))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("too much"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_every_command_says_it_in_one_line(monkeypatch, capsys, error):
    def stop():
        raise error

    monkeypatch.setattr(cli, "app", stop)
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert (
        left.value.code == 2
        and said.count("\n") == 1
        and said.startswith(type(error).__name__)
        and advice_on(said) in said
    )
    monkeypatch.setattr(cli, "app", lambda: [][0])
    with pytest.raises(IndexError):
        cli.main()


# -- manifests ------------------------------------------------------------------------------------


WHOLE = {
    "settings": {},
    "inputs": {},
    "outputs": {},
    "uses": {},
    "notebook_source": "",
    "slugkit_source": "",
}
BROKEN = {
    "no keys": {"01_data_curation": {}},
    "a list": {"01_data_curation": []},
    "no settings": {
        "01_data_curation": {key: value for key, value in WHOLE.items() if key != "settings"}
    },
    "outputs without hash": {"01_data_curation": {**WHOLE, "outputs": {"sets": {}}}},
    "uses without stamp": {"01_data_curation": {**WHOLE, "uses": {"x": {"sha256": ""}}}},
    "a path": {"../../x": WHOLE},
    "settings of the wrong kind": {"01_data_curation": {**WHOLE, "settings": 3}},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_manifest_without_its_keys_is_named(project, fault):
    (project.runs / "workbook").mkdir(parents=True)
    (project.runs / "workbook" / "manifest.json").write_text(
        json.dumps({"run": "workbook", "stages": BROKEN[fault]})
    )
    for use in (
        lambda: run_series("workbook", "01", echo=str),
        lambda: report.build("workbook"),
        lambda: open_run(check_settings({}), "02_gradients").need("sets"),
    ):
        with pytest.raises(StaleArtefactError, match="is not a manifest that slugkit wrote"):
            use()


def test_a_nested_manifest_is_named_and_one_of_before_is_read(project):
    folder = project.runs / "workbook"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"stages": ' + "[" * 100_000)
    with pytest.raises(StaleArtefactError, match="is not a manifest"):
        Manifest(folder).read()
    (folder / "manifest.json").write_text(
        json.dumps({"run": "workbook", "stages": {"01_data_curation": WHOLE}})
    )
    assert Manifest(folder).stage("01_data_curation") == WHOLE and Manifest(folder).parameters(
        {"seed": 1}
    ) == {"seed": 1}


# -- small ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-5, 0, -1])
def test_a_cell_has_a_second_or_more(project, seconds):
    with pytest.raises(SettingError, match=f"cell_timeout is {seconds}; 1 second or more"):
        go("01", cell_timeout=seconds)
    assert not project.runs.exists()


def test_the_commands_refuse_counts_below_their_least():
    for words in (
        ["train", "clip", "--steps", "0"],
        ["train", "vlm", "--steps", "-3"],
        ["train", "diffusion", "--vae-steps", "0"],
        ["train", "classifier", "--seed", "-1"],
        ["draw", "x", "--out", "y", "--steps", "0"],
        ["laion", "x", "--metadata", "m", "--out", "o", "--limit", "0"],
    ):
        done = slugkit(*words)
        assert done.returncode == 2 and "Invalid value" in done.stderr, words


def test_a_kernel_runs_one_thread_that_waits_passively(project, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    said = 'os.environ["OMP_NUM_THREADS"] + os.environ["OMP_WAIT_POLICY"]'
    look = f'write_text(record.path("sets") / "forget.parquet", {said})'
    project.edit("01_data_curation", 2, look)
    go("01")
    assert (project.runs / "workbook" / "sets" / "forget.parquet").read_text() == "1PASSIVE"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    go("01", force=True)
    assert (project.runs / "workbook" / "sets" / "forget.parquet").read_text() == "3PASSIVE"


def test_ctrl_c_says_that_the_same_command_goes_on(project):
    words = ["run", "--run", "stopped", "--notebooks", "01-02"]
    begun = project.runs / "stopped" / "gradients.safetensors"
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLOW": "60"},
        # as in a terminal, also where the tests run in the background and Ctrl-C is ignored
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 90
    while not begun.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert (
        "Stopped. The same command goes on where it stopped: slugkit run --run stopped "
        "--notebooks 01-02\n" in said
    )
    done = slugkit(*words, SLOW="0")
    assert (
        done.returncode == 0
        and "01_data_curation: unchanged" in done.stdout
        and "02_gradients: running (not done yet)" in done.stdout
    )


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-p", "concept", "Bo Lind's"],
        ["train", "clip", "--data", "my folder"],
        ["draw", "Pluto", "--out", "x"],
        ["patch", "show", "x"],
    ],
)
def test_only_what_goes_on_is_said_to_go_on(monkeypatch, capsys, words):
    def stop():
        raise SystemExit(130)

    monkeypatch.setattr(sys, "argv", ["slugkit", *words])
    monkeypatch.setattr(cli, "app", stop)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert (shlex.join(["slugkit", *words]) in said) == (words[0] != "patch")
