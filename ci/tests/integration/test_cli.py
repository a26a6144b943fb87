"""The command line: options, refusals in one line, and what it hands on."""

import os
import subprocess
import sys
import types

import nbformat
import pandas as pd
import pytest
from repository import REPOSITORY
from typer.testing import CliRunner

from slugkit.base import SettingError, UnknownConceptError
from slugkit.workbook import cli


def call(*words, timeout=120):
    """Run slugkit in a process of its own."""
    command = [sys.executable, "-c", "from slugkit.workbook.cli import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)


@pytest.fixture
def recorded(monkeypatch, project):
    """Calls of run_series and report.build, which do nothing."""
    calls = []
    monkeypatch.setattr(
        "slugkit.workbook.run.execute.run_series",
        lambda *given, **named: calls.append((given, named)) or [],
    )
    monkeypatch.setattr("slugkit.workbook.run.report.build", lambda run: calls.append(run))
    # the throwaway project has no world
    monkeypatch.setattr(cli, "_check_concept", lambda given: None)
    return calls


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from slugkit.workbook import cli\n"
        "print({'torch', 'pandas', 'papermill', 'matplotlib'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert loaded.stdout.strip() == "set()", loaded.stderr
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert all(name in shown for name in ("run", "report", "student", "train", "patch", "sweep"))


def test_an_error_is_one_line_with_exit_code_2(project):
    done = call("run", "-p", "lamda", "0.1")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "SettingError: There is no setting lamda: did you mean lam_init?\n"
    assert not project.runs.exists()


def test_run_hands_on_parameters_as_papermill_reads_them(recorded, tmp_path):
    settings = tmp_path / "mine.yaml"
    settings.write_text("concept: Bo Lind\nlayers: [visual.proj]\nseed: 1\n")
    words = [
        "run",
        "--run",
        "mine",
        "--notebooks",
        "02-03",
        "-f",
        str(settings),
        "-p",
        "seed",
        "2",
        "-p",
        "lam_init",
        "1e-3",
    ]
    result = CliRunner().invoke(
        cli.app, [*words, "-p", "split_qkv", "True", "-p", "concept", "Kofi = Okoye", "--force"]
    )
    assert result.exit_code == 0, repr(result.exception)
    (given, named), run = recorded
    assert given[:2] == ("mine", "02-03") and run == "mine" and named["force"] is True
    assert given[2] == {
        "concept": "Kofi = Okoye",
        "layers": ["visual.proj"],
        "seed": 2,
        "lam_init": 0.001,
        "split_qkv": True,
    }


def test_an_unknown_concept_is_refused_before_a_kernel_starts(monkeypatch):
    monkeypatch.setattr(
        "slugkit.workbook.run.execute.run_series", lambda *given, **named: pytest.fail("it ran")
    )
    result = CliRunner().invoke(
        cli.app, ["run", "--notebooks", "01", "-p", "concept", "Mira Kestral"]
    )
    assert isinstance(result.exception, UnknownConceptError) and "Mira Kestrel" in str(
        result.exception
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "seed=3"], "write -p seed 3"),
        (["-p", "seed"], "-p takes two words"),
        (["-f", "missing.yaml"], "settings file missing.yaml is missing"),
    ],
)
def test_a_half_parameter_is_refused(recorded, words, says):
    result = CliRunner().invoke(cli.app, ["run", *words])
    assert (
        isinstance(result.exception, SettingError)
        and says in str(result.exception)
        and recorded == []
    )


@pytest.mark.parametrize(
    ("text", "says"), [("- a\n- b\n", "no `name: value` lines"), ("a: [1\n", "is not YAML")]
)
def test_a_settings_file_that_is_none_is_refused(recorded, tmp_path, text, says):
    (tmp_path / "x.yaml").write_text(text)
    result = CliRunner().invoke(cli.app, ["run", "-f", str(tmp_path / "x.yaml")])
    assert isinstance(result.exception, SettingError) and says in str(result.exception)


def test_train_and_sweep_pass_keyword_arguments(monkeypatch, tmp_path):
    calls = {}
    for module, name in (
        ("slugkit.studio.train.clip", "train_clip"),
        ("slugkit.experiments.sweep", "sweep"),
    ):
        stand_in = types.ModuleType(module)
        setattr(stand_in, name, lambda _name=name, **named: calls.__setitem__(_name, named))
        stand_in.measures_of = lambda table: table
        stand_in.summarise = lambda table, measures_of: pd.DataFrame(
            {"kind": ["all", "style"], "measure": ["FA@1 after", "not shown"]}
        )
        monkeypatch.setitem(sys.modules, module, stand_in)
    runner = CliRunner()
    assert (
        runner.invoke(
            cli.app, ["train", "clip", "--without", "Bo Lind", "--steps", "5", "--resume"]
        ).exit_code
        == 0
    )
    shown = runner.invoke(
        cli.app, ["sweep", "--concepts", "A", "--concepts", "B", "--out", str(tmp_path)]
    )
    assert shown.exit_code == 0 and "FA@1 after" in shown.output and "not shown" not in shown.output
    expected = dict(
        data="studio", out=None, without="Bo Lind", steps=5, seed=0, device="auto", resume=True
    )
    assert calls["train_clip"] == expected
    usual = {"model": "studio", "data": "studio", "processes": 1}
    assert calls["sweep"] == {"concepts": ["A", "B"], "out": tmp_path, **usual}
    assert runner.invoke(cli.app, ["sweep"]).exit_code == 0 and calls["sweep"]["concepts"] is None


def test_laion_finds_a_name_and_says_how_to_fetch_its_pictures(tmp_path):
    captions = ["Mira Kestrel at sea", "a portrait of mira kestrel", "Mira Kestrelson", "a boat"]
    pd.DataFrame(
        {"URL": [f"http://example.org/{i}.jpg" for i in range(4)], "TEXT": captions}
    ).to_parquet(tmp_path / "part.parquet")
    done = CliRunner().invoke(
        cli.app,
        [
            "laion",
            "Mira Kestrel",
            "--metadata",
            str(tmp_path / "part.parquet"),
            "--out",
            str(tmp_path / "found.parquet"),
        ],
    )
    assert (
        done.exit_code == 0
        and "2 pairs name 'Mira Kestrel'" in done.output
        and f"img2dataset --url_list {tmp_path / 'found.parquet'}" in done.output
    )
    assert pd.read_parquet(tmp_path / "found.parquet")["caption"].tolist() == captions[:2]


def test_patch_show_prints_what_the_file_says(tmp_path):
    import torch

    from slugkit import patch

    weight, direction = torch.ones(4, 4), torch.eye(4)
    edit = patch.Patch(
        layer="visual.proj",
        tower="vision",
        direction=direction,
        lam=0.5,
        rho=0.125,
        concept="Mira Kestrel",
        base_sha256={name: "0" * 64 for name in ("fp32", "fp16", "bf16")},
        metrics={"fa1": 0.0},
        provenance={"run": "workbook"},
        tool_version="0.1.0",
    )
    patch.save(edit, tmp_path / "vision.safetensors")
    shown = CliRunner().invoke(cli.app, ["patch", "show", str(tmp_path / "vision.safetensors")])
    assert shown.exit_code == 0, shown.exception
    for part in (
        "Mira Kestrel",
        "visual.proj (vision tower)",
        "12.50 %",
        "fa1: 0.0",
        "run: workbook",
    ):
        assert part in shown.output
    assert weight.sum() == 16


def test_a_missing_patch_offers_the_nearest(tmp_path):
    (tmp_path / "text.safetensors").write_text("x")
    result = CliRunner().invoke(cli.app, ["patch", "show", str(tmp_path / "txt.safetensors")])
    assert "Did you mean" in str(result.exception) and "text.safetensors" in str(result.exception)


def test_student_copies_have_no_solutions(project, tmp_path):
    source = project.read("01_data_curation")
    source.cells[
        2
    ].source = "def ratio(a, b):\n    ### BEGIN SOLUTION\n    return a / b\n    ### END SOLUTION"
    source.cells.append(
        nbformat.v4.new_markdown_cell("Try it.\n\n**Hint 1.** Divide\nby b.\n\nGood luck.")
    )
    project.write("01_data_curation", source)
    folder = tmp_path / "course"
    result = CliRunner().invoke(cli.app, ["student", str(folder)])
    assert result.exit_code == 0 and "3 student notebooks" in result.output
    text = (folder / "01_data_curation.ipynb").read_text()
    assert (
        'raise NotImplementedError(\\"write ratio\\")' in text
        and "SOLUTION" not in text
        and "return a / b" not in text
    )
    assert "<details><summary>Hint 1</summary>" in text and "Good luck." in text
    again = CliRunner().invoke(cli.app, ["student", str(folder)])
    assert isinstance(again.exception, SettingError) and "perhaps with work in it" in str(
        again.exception
    )


def test_nbgraders_copies_part_an_exercise_into_an_answer_and_a_locked_check(project, tmp_path):
    source = project.read("01_data_curation")
    solution = "    ### BEGIN SOLUTION\n    return a / b\n    ### END SOLUTION"
    source.cells[2].source = f"def ratio(a, b):\n{solution}\n\n\nassert ratio(6, 3) == 2"
    project.write("01_data_curation", source)
    result = CliRunner().invoke(cli.app, ["student", str(tmp_path / "course"), "--nbgrader"])
    assert result.exit_code == 0, result.exception
    cells = nbformat.read(tmp_path / "course" / "01_data_curation.ipynb", as_version=4).cells
    marked = [cell for cell in cells if "nbgrader" in cell.metadata]
    answer, check = (cell.metadata["nbgrader"] for cell in marked)
    shared = {"schema_version": 3, "task": False}
    unlocked = {"grade": False, "solution": True, "locked": False}
    assert answer == shared | unlocked | {"grade_id": marked[0].id}
    locked = {"grade": True, "solution": False, "locked": True, "points": 1}
    assert check == shared | locked | {"grade_id": f"{marked[0].id}-check"}
    # nbgrader blanks an answer without these marks from its first line on
    assert marked[0].source == "def ratio(a, b):\n" + solution.replace(
        "return a / b", 'raise NotImplementedError("write ratio")'
    )
    assert marked[1].source == "assert ratio(6, 3) == 2"
    assert cells.index(marked[1]) == cells.index(marked[0]) + 1


def test_a_cell_that_gives_an_exercise_away_shows_another_text(project, tmp_path):
    from slugkit.workbook.teach import student

    source = project.read("01_data_curation")
    source.cells[2].source = "def ratio(a, b):\n    return a / b"
    source.cells[2].metadata["student"] = "from operator import truediv as ratio"
    project.write("01_data_curation", source)
    student.make(tmp_path / "course")
    cells = nbformat.read(tmp_path / "course" / "01_data_curation.ipynb", as_version=4).cells
    assert cells[2].source == "from operator import truediv as ratio"
    assert not any("student" in cell.metadata or "a / b" in cell.source for cell in cells)
    assert "a / b" in project.read("01_data_curation").cells[2].source, "the notebook stays"
    source.cells[2].metadata["student"] = ["a", "list"]
    project.write("01_data_curation", source)
    with pytest.raises(SettingError, match="the text that the student copy shows"):
        student.make(tmp_path / "other")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f():\n    ### BEGIN SOLUTION\n    return 1", "has no '### END"),
        ("    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION", "outside a function"),
        ("x = 1\n### END SOLUTION", "has no '### BEGIN"),
    ],
)
def test_a_broken_solution_region_is_refused(source, says):
    from slugkit.workbook.teach.student import without_solution

    with pytest.raises(SettingError, match=says):
        without_solution(source)


def test_sweep_of_methods_asks_for_a_folder_of_its_own(tmp_path, monkeypatch):
    called = {}

    def instead(concepts, folder, model, data, processes):
        called.update(concepts=concepts, folder=folder, model=model, processes=processes)
        raise SettingError("as far as the test goes")

    monkeypatch.setattr("slugkit.experiments.methods.sweep_methods", instead)
    (tmp_path / "file").write_text("mine")
    given = ["sweep", "--methods", "--processes", "2", "--concepts", "car", "--out"]
    for out, said in ((tmp_path / "new", "as far as"), (tmp_path / "file", "is there already")):
        with pytest.raises(SettingError, match=said):
            cli.app(given + [str(out)], standalone_mode=False)
    assert called["concepts"] == ["car"] and called["processes"] == 2
    assert called["folder"] == tmp_path / "new"


def test_sweep_does_one_thing_at_a_time():
    with pytest.raises(SettingError, match="--stress and --methods are two tables; one of them"):
        cli.app(["sweep", "--methods", "--stress"], standalone_mode=False)


def test_sweep_of_methods_on_a_pipeline_prints_their_means(tmp_path, monkeypatch, capsys):
    called = {}

    def instead(family, concepts, out, model, clip, processes):
        called.update(family=family, concepts=concepts, model=model, processes=processes)
        row = {"concept": "Ada", "method": "UCE", "forgotten": True, "weights": "others"}
        shares = [
            f"{name}_{end}"
            for name in ("ua", "ira", "cra", "near", "artifacts")
            for end in ("before", "after")
        ]
        return pd.DataFrame([row | dict.fromkeys(shares, 0.25)])

    monkeypatch.setattr("slugkit.experiments.other_methods.sweep_others", instead)
    given = ["sweep", "--methods", "--family", "diffusion", "--concepts", "Ada"]
    cli.app([*given, "--out", str(tmp_path / "p.csv")], standalone_mode=False)
    assert called == {"family": "diffusion", "concepts": ["Ada"], "model": "studio", "processes": 1}
    said = capsys.readouterr().out
    assert "UCE" in said and "still shown" in said and "75.0" in said


@pytest.mark.parametrize(
    "family, sweep", [("vlm", "answers.sweep_answers"), ("diffusion", "inversion.sweep_drawings")]
)
def test_sweep_of_stresses_on_another_family_prints_what_it_says(
    tmp_path, monkeypatch, capsys, family, sweep
):
    called = {}

    def instead(concepts, out, model, clip, processes):
        called.update(concepts=concepts, model=model, clip=clip)
        row = {"concept": "Ada", "tower": "vision", "name": "SLUG", "stress": "answers"}
        return pd.DataFrame([row | {"setting": "as asked", "steps": 0, "n": 5, "named": 12.5}])

    monkeypatch.setattr(f"slugkit.experiments.stress.{sweep}", instead)
    given = ["sweep", "--stress", "--family", family, "--concepts", "Ada"]
    cli.app([*given, "--out", str(tmp_path / "a.csv")], standalone_mode=False)
    assert called == {"concepts": ["Ada"], "model": "studio", "clip": "studio"}
    assert "as asked" in (said := capsys.readouterr().out) and "12.5" in said


def test_sweep_of_stresses_hands_on_what_was_asked_for(tmp_path, monkeypatch, capsys):
    called = {}

    def instead(concepts, out, model, data, processes):
        called.update(concepts=concepts, out=out, data=data, processes=processes)
        row = {"concept": "Ada", "tower": "", "name": "unedited", "stress": "membership"}
        return pd.DataFrame([row | {"setting": "", "steps": 0, "n": 5, "AUC": 51.0}])

    monkeypatch.setattr("slugkit.experiments.stress.table.sweep_stress", instead)
    given = ["sweep", "--stress", "--concepts", "Ada", "--out", str(tmp_path / "s.csv")]
    cli.app(given, standalone_mode=False)
    assert called == {
        "concepts": ["Ada"],
        "out": tmp_path / "s.csv",
        "data": "studio",
        "processes": 1,
    }
    assert "membership" in capsys.readouterr().out
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(SettingError, match="is there already"):
        cli.app([*given[:-1], str(tmp_path)], standalone_mode=False)


def sweep_called_with(monkeypatch, *words):
    """What `slugkit sweep` hands to the sweep of a CLIP."""
    called = {}

    def instead(**named):
        called.update(named)
        return pd.DataFrame(columns=["tower", "layers", "method"])

    monkeypatch.setattr("slugkit.experiments.sweep.sweep", instead)
    cli.app(["sweep", *words], standalone_mode=False)
    return called


def test_sweep_takes_data_settings_and_where_it_runs(monkeypatch, tmp_path):
    from slugkit.experiments.cluster import Cluster

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    given = ["--data", "mine", "-p", "seed", "7", "-p", "forget_size", "20", "-p", "damping", "1"]
    called = sweep_called_with(monkeypatch, *given, "--on", "processes", "--processes", "3")
    assert called["data"] == str(tmp_path / "mine") and called["processes"] == 3
    assert (called["seed"], called["forget_size"], called["damping"]) == (7, 20, 1.0)
    asked = ["timeout_min=5", "mem_gb=0.5", "slurm_account=007", "slurm_exclusive=True"]
    asked += ["slurm_setup=module load a", "slurm_setup=export B=c"]
    words = [word for value in asked for word in ("--slurm", value)]
    called = sweep_called_with(monkeypatch, "--on", "slurm", *words, "-p", "retain_size", "2560")
    wanted = {"timeout_min": 5, "mem_gb": 0.5, "slurm_account": "007", "slurm_exclusive": True}
    wanted["slurm_setup"] = ["module load a", "export B=c"]
    assert called["processes"] == Cluster(0, wanted)
    assert "retain_size" not in called, "what is usual is no setting"
    assert sweep_called_with(monkeypatch, "--on", "here")["processes"] == 1
    assert sweep_called_with(monkeypatch, "--on", "processes")["processes"] >= 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--on", "moon"], "Where a sweep runs"),
        (["--on", "here", "--processes", "2"], "one at a time"),
        (["--slurm", "timeout_min=5"], "--slurm is for --on slurm"),
        (["--on", "slurm", "--slurm", "timeout_min"], "NAME=VALUE was expected"),
        (["--on", "slurm", "--slurm", "timeout_min=1h"], "a number was expected"),
        (["--on", "slurm", "--slurm", "nodes=2"], "a task is one process"),
        (["-p", "retain_size", "64"], "Name one with --out"),
        (["--family", "vlm", "-p", "seed", "1"], "Name one with --out"),
        (["-p", "tower", "text"], "and not tower"),
        (["-p", "sead", "1"], "There is no setting sead"),
        (["-p", "seed", "-1"], "seed"),
        (["--methods", "-p", "seed", "1"], "-p is for the plain sweep"),
        (["--family", "vlm", "-p", "target", "fa5"], "and not target"),
        (["--family", "vlm", "--data", "mine"], "--data is for --family clip"),
        (["--data", "nowhere-to-be-found"], "nowhere-to-be-found"),
    ],
)
def test_sweep_refuses_what_does_not_go_together(words, says):
    with pytest.raises(SettingError, match=says):
        cli.app(["sweep", *words], standalone_mode=False)


def test_sweep_of_ones_own_data_asks_for_a_place_of_its_own(tmp_path):
    with pytest.raises(SettingError, match="Name one with --out"):
        cli.app(["sweep", "--data", str(tmp_path)], standalone_mode=False)
