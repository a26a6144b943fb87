"""ci/clean.py and ci/check_notebooks.py on throwaway notebooks: what they take out, keep, refuse
and notice.
"""

import os
import subprocess
import sys

import check_notebooks
import clean
import nbformat
import pytest
from repository import REPOSITORY
from throwaway_workbook import code, notebook, said, stage

stderr = nbformat.v4.new_output("stream", name="stderr", text="50%|#####| 12 it/s\n")


def result(data, count=1):
    return nbformat.v4.new_output("execute_result", data, execution_count=count)


def script(name, *words):
    """Run a script of ci/ in a process of its own."""
    command = [sys.executable, str(REPOSITORY / "ci" / name), *words]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


def test_clean_takes_out_the_machine_and_keeps_outputs_and_counts(tmp_path):
    runs = "/tm" + "p/slugkit-notebooks-x1"
    widget = nbformat.v4.new_output(
        "display_data", {clean.WIDGET: {"model_id": "a"}, "text/plain": "bar"}
    )
    cell = code(
        "1",
        "nbval-check-output",
        outputs=[
            said("a\n"),
            stderr,
            said(f"{clean.ROOT}/data/x and {runs}/workbook/y\n"),
            widget,
            result({"text/plain": "3"}, 9),
        ],
        count=3,
    )
    cell.metadata.update(papermill={"duration": 1.5}, execution={"iopub": "now"}, collapsed=True)
    made = notebook(cell, code("seed = 1", "injected-parameters", count=4))
    made.metadata.update(
        papermill={"output_path": "x"},
        widgets={},
        kernelspec={"name": "slug-env", "display_name": "mine"},
    )
    after = clean.clean(made, runs)
    assert (
        dict(after.cells[0].metadata) == {"tags": ["nbval-check-output"]} and len(after.cells) == 1
    )
    assert (
        set(after.metadata) == {"kernelspec", "language_info"}
        and after.metadata.kernelspec.name == "python3"
    )
    assert [output.output_type for output in after.cells[0].outputs] == ["stream", "execute_result"]
    assert after.cells[0].outputs[0].text == "a\ndata/x and runs/workbook/y\n"
    assert after.cells[0].execution_count == after.cells[0].outputs[1].execution_count == 3
    nbformat.validate(after)


def good():
    return stage("01_data_curation")


def faults_of(tmp_path, made):
    nbformat.write(made, tmp_path / "x.ipynb")
    return " | ".join(clean.faults(tmp_path / "x.ipynb"))


def test_a_good_notebook_has_no_faults(tmp_path):
    assert faults_of(tmp_path, good()) == ""


SPOILERS = {
    "counts are not 1 to 5": lambda nb: nb.cells[2].update(execution_count=9),
    "counts are not": lambda nb: nb.cells[2].update(execution_count=None),
    "holds the error ValueError": (
        lambda nb: nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="ValueError"))
    ),
    "holds stderr": lambda nb: nb.cells[2].outputs.append(stderr),
    "shows the path": lambda nb: nb.cells[2].outputs.append(said("saved in /hom" + "e/ada/runs/x")),
    "cell 3 shows the path": (
        lambda nb: nb.cells[2].outputs.append(result({"text/html": "<b>/Use" + "rs/ada/x</b>"}, 3))
    ),
    "no settings cell": lambda nb: nb.cells[0].metadata.pop("tags"),
    "no contract cell": lambda nb: nb.cells[3].metadata.pop("tags"),
    "has no stored output": lambda nb: nb.cells[3].update(outputs=[]),
    "kernel is not python3": lambda nb: nb.metadata.kernelspec.update(name="mine"),
    "picture over 300 kB": (
        lambda nb: nb.cells[2].outputs.append(result({"image/png": "A" * 500_000}, 3))
    ),
    "weighs 1.6 MB": lambda nb: nb.cells[2].outputs.append(said("x" * 1_600_000)),
}


@pytest.mark.parametrize("says", SPOILERS)
def test_check_refuses(tmp_path, says):
    made = good()
    SPOILERS[says](made)
    assert says in faults_of(tmp_path, made)


def test_a_picture_whose_code_reads_like_a_path_is_no_path(tmp_path):
    made = good()
    made.cells[2].outputs = [
        result(
            {
                "image/png": "AA/tm" + "p/abcd",
                "text/html": "<img src='data:image/png;base64,AA/tm" + "p/x='>",
            },
            3,
        )
    ]
    assert faults_of(tmp_path, made) == ""


def test_check_says_which_and_fails(project):
    assert script("clean.py", "--check").returncode == 0
    project.edit("02_gradients", 0, "x = 1")
    made = project.read("02_gradients")
    made.cells[1].execution_count = 7
    project.write("02_gradients", made)
    done = script("clean.py", "--check")
    assert (
        done.returncode == 1
        and "02_gradients.ipynb: its counts" in done.stdout
        and "1 of 3 notebooks" in done.stdout
    )


def test_without_notebooks_both_say_so(empty_project):
    done = script("check_notebooks.py")
    assert (
        done.returncode == 0
        and done.stdout.splitlines()[-1] == "0 passed, 0 failed"
        and "no notebooks yet" in done.stdout
    )
    assert (
        script("clean.py", "--check").returncode == 0
        and script("clean.py", "--execute").returncode == 0
    )


def test_execute_makes_the_committed_form(empty_project):
    made = stage("01_data_curation")
    made.cells[2].source += "\nimport sys; print('loud', file=sys.stderr); print(record.folder)"
    made.cells[3].outputs, made.cells[3].execution_count = [], None
    empty_project.write("01_data_curation", made)
    done = script("clean.py", "--execute")
    assert done.returncode == 0 and "written" in done.stdout, done.stderr
    after = empty_project.read("01_data_curation")
    assert [cell.execution_count for cell in after.cells] == [1, 2, 3, 4, 5]
    assert after.cells[2].outputs[-1].text.strip().endswith("runs/workbook")
    assert (
        after.cells[3].outputs[0].text == "01 holds\n"
        and script("clean.py", "--check").returncode == 0
    )
    assert not empty_project.runs.exists(), "the run folder of the execution is its own"


def test_the_series_passes_and_a_spoiled_contract_cell_turns_red(project):
    (project.root / "conftest.py").write_text((REPOSITORY / "conftest.py").read_text())
    (project.root / "notebooks" / "03_rank_layers.ipynb").unlink()
    done = script("check_notebooks.py")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "5 passed, 0 failed", (
        done.stdout
    )
    assert "passed  strict   02_gradients" in done.stdout
    assert "passed  spoiled  01_data_curation  turned red" in done.stdout
    before = project.read("01_data_curation")
    copy, index = check_notebooks.spoil(before)
    assert (
        index == 4 and len(copy.cells) == len(before.cells) + 1 and copy.cells[3] == before.cells[3]
    )
    assert (
        copy.cells[4].source == copy.cells[3].source
        and copy.cells[4].outputs[0].text == "SPOILED 01 holds\n"
    )
    assert check_notebooks.spoil(notebook(code("1"))) is None


def test_a_contract_that_is_broken_and_one_that_is_not_compared_fail(project):
    (project.root / "conftest.py").write_text((REPOSITORY / "conftest.py").read_text())
    broken = project.read("01_data_curation")
    broken.cells[3].source = "print('something else')"
    project.write("01_data_curation", broken)
    failing = script("check_notebooks.py")
    assert (
        failing.returncode == 1
        and "FAILED  series   01_data_curation" in failing.stdout
        and "Not run, since what they need did not pass: 02_gradients" in failing.stdout
    )
    assert failing.stdout.splitlines()[-1] == "0 passed, 1 failed"


def test_a_check_that_does_not_look_at_outputs_is_noticed(project):
    # without the repository's conftest and with the comparison switched off, a spoiled cell stays
    # green
    (project.root / "conftest.py").write_text(
        "import nbval.plugin\nnbval.plugin.IPyNbCell.compare_outputs = lambda *_, **__: True\n"
    )
    for name in ("02_gradients", "03_rank_layers"):
        (project.root / "notebooks" / f"{name}.ipynb").unlink()
    done = script("check_notebooks.py")
    assert (
        done.returncode == 1
        and "FAILED  spoiled  01_data_curation  did NOT turn red" in done.stdout
    )
