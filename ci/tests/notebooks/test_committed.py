"""The notebooks as they are committed: their settings, headings and exercises."""

import ast
import re
import subprocess
import sys

import clean
import nbformat
import pytest
from repository import REPOSITORY

from slugkit.workbook.settings import Settings

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
by_name = {"ids": lambda path: path.stem}


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_settings_cell_agrees_with_settings_and_with_papermill(path):
    import papermill

    found = papermill.inspect_notebook(str(path))
    cell = next(
        cell for cell in nbformat.read(path, as_version=4).cells if "parameters" in clean.tags(cell)
    )
    body = ast.parse(cell.source).body
    written = {
        node.target.id: ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.AnnAssign)
    }
    assert len(body) == len(written), "one name per line with type and default, nothing else"
    assert list(found) == list(written), "papermill does not see every setting"
    assert "run" in written
    for name, value in written.items():
        assert name in Settings.model_fields, f"{name} is no setting"
        assert value == Settings.model_fields[name].default, (
            f"{name} has another default than Settings"
        )
        assert found[name]["help"], f"{name} has no comment"
    typed = {node.target.id: ast.unparse(node.annotation) for node in body}
    assert set(typed.values()) <= {"str", "int", "float", "bool", "list"}
    assert cell.source.startswith("#"), "a comment first, or IPython takes `run` for a magic"


def test_help_lists_every_setting():
    if not NOTEBOOKS:
        pytest.skip("no notebooks yet")
    path = NOTEBOOKS[-1]
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    import papermill

    names = list(papermill.inspect_notebook(str(path)))
    assert names and all(re.search(rf"^\s+{name}:", shown, re.M) for name in names), shown


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_headings_make_a_table_of_contents(path):
    levels = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            levels += [len(match) for match in re.findall(r"^(#+) ", text, re.M)]
    assert levels and levels[0] == 1 and levels.count(1) == 1, "one # heading, at the top"
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False)), (
        "a level is left out"
    )


def imports_of(cell):
    """The import statements of a code cell, as source."""
    return "\n".join(
        ast.unparse(node)
        for node in ast.parse(cell.source).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    )


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_exercises_pass_as_solved_and_ask_for_work_in_the_student_copy(path, tmp_path, capsys):
    """Only the exercise cells run, with what the setup cell imports: solved they pass, unsolved
    they say what to write.
    """
    from slugkit.workbook.teach import student

    student.make(tmp_path)
    solved, copy = (
        nbformat.read(file, as_version=4).cells for file in (path, tmp_path / path.name)
    )
    assert not any("SOLUTION" in cell.source or cell.get("outputs") for cell in copy)
    setup = next(
        i for i, cell in enumerate(solved) if cell.cell_type == "code" and "import" in cell.source
    )
    exercises = [i for i, cell in enumerate(solved) if "exercise" in cell.metadata.get("tags", [])]
    assert len(exercises) >= 2
    for i in exercises:
        names = {}
        exec(imports_of(solved[setup]), names)
        exec(solved[i].source, names)
        assert "checks passed" in capsys.readouterr().out
        with pytest.raises(NotImplementedError, match="^write "):
            exec(copy[i].source, names)


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *sorted(REPOSITORY.glob("notebooks/paper_scale/*.ipynb"))], **by_name
)
def test_code_fits_the_width_of_a_page_and_setup_cells_are_short(path):
    """100 columns, as the package; 12 lines, empty ones left out."""
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert not [line for source in code for line in source.splitlines() if len(line) > 100]
    setup = [source for source in code if "start(globals()" in source]
    assert len(setup) == (path in NOTEBOOKS)
    assert all(len([line for line in cell.splitlines() if line.strip()]) <= 12 for cell in setup)
