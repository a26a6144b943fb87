"""Student copies of the notebooks: solutions taken out, hints folded, outputs cleared.

A code cell whose metadata holds `"student": "text"` shows that text in the copy: for a cell that
would give an exercise away, the import of the package's function under the same name, say.
"""

import re
from pathlib import Path

import nbformat

from slugkit.base import SettingError, write_text
from slugkit.workbook.run.stages import list_notebooks, notebook_path, read_notebook

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.M | re.S)
HINT = re.compile(r"^\*\*(Hint[^*]*)\*\*:?[ \n]*((?:.+\n?)+)", re.M)


def without_solution(source: str, marks: bool = False) -> str:
    """The text of a cell, with `raise NotImplementedError("write NAME")` for each solution region.

    NAME is the function that the region stands in; marks: leave BEGIN and END around the line.
    Raises SettingError for a region outside a function or left open.
    """

    def unsolved(region: re.Match[str]) -> str:
        indent, solution = region.groups()
        functions = re.findall(r"^\s*def\s+(\w+)", source[: region.start()], re.M)
        if not functions or not indent or BEGIN in solution:
            raise SettingError(
                f"{BEGIN!r} stands outside a function or inside another solution; move it into"
                " the body."
            )
        lines = [f'raise NotImplementedError("write {functions[-1]}")']
        return "\n".join(indent + line for line in ([BEGIN, *lines, END] if marks else lines))

    rest = REGION.sub("", source)
    for mark, other in ((BEGIN, END), (END, BEGIN)):
        if mark in rest:
            raise SettingError(f"{mark!r} has no {other!r}; add it.")
    return REGION.sub(unsolved, source)


def with_folded_hints(source: str) -> str:
    """The text of a markdown cell, with each paragraph that opens with **Hint folded away."""

    def folded(hint: re.Match[str]) -> str:
        title, body = hint[1].strip(" .:"), hint[2].strip()
        return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>\n"

    return HINT.sub(folded, source).rstrip("\n")


def _student(cell, nbgrader: bool) -> list:
    """The cell, or for nbgrader the two cells, that the student gets in its place."""
    if cell.cell_type == "markdown":
        cell.source = with_folded_hints(cell.source)
    if cell.cell_type != "code":
        return [cell]
    shown = cell.metadata.pop("student", cell.source)
    if not isinstance(shown, str):
        raise SettingError(
            f"The metadata 'student' of a cell is {shown!r}; the text that the student copy"
            " shows instead of the cell was expected."
        )
    cell.outputs, cell.execution_count = [], None
    cell.source = without_solution(shown, marks=nbgrader)
    if not (nbgrader and END in cell.source):
        return [cell]
    answer, end, check = cell.source.rpartition(END)
    cell.source = answer + end
    cells = [cell, nbformat.v4.new_code_cell(check.strip("\n"), id=f"{cell.id}-check")]
    for graded, part in enumerate(cells):
        kinds = {"solution": not graded, "grade": bool(graded), "locked": bool(graded)}
        about = {"schema_version": 3, "grade_id": part.id, "task": False}
        part.metadata["nbgrader"] = kinds | about | ({"points": 1} if graded else {})
    return cells


def make(folder: str | Path, nbgrader: bool = False) -> list[Path]:
    """Write a student copy of every notebook of the series into `folder` and return their paths.

    nbgrader: split each exercise into an answer and a locked check worth one point, with
    nbgrader's metadata; the folder can then be one of its source folder.
    Raises SettingError where a copy would overwrite a notebook that is already there.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise SettingError(
            f"{folder} is a file; a folder for the student copies was expected. Name another one."
        )
    copies = {name: folder / f"{name}.ipynb" for name in list_notebooks()}
    for name, copy in copies.items():
        if copy.exists():
            raise SettingError(
                f"{folder} already holds {name}.ipynb, perhaps with work in it; name an empty"
                " folder."
            )
    for name, copy in copies.items():
        notebook = read_notebook(notebook_path(name))
        notebook.cells = [new for cell in notebook.cells for new in _student(cell, nbgrader)]
        write_text(copy, nbformat.writes(notebook) + "\n")
    return list(copies.values())
