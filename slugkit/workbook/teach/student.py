"""Student copies of the notebooks: solutions taken out, hints folded, outputs cleared.

A code cell whose metadata holds `"student": "text"` shows that text in the copy: for a cell that
would give an exercise away, the import of the package's function under the same name, say.
"""

import re
from pathlib import Path

from slugkit.base import SettingError, write_text
from slugkit.workbook.run.stages import list_notebooks, notebook_path, read_notebook

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.M | re.S)
HINT = re.compile(r"^\*\*(Hint[^*]*)\*\*:?[ \n]*((?:.+\n?)+)", re.M)


def without_solution(source: str) -> str:
    """The text of a cell, with `raise NotImplementedError("write NAME")` for each solution region.

    NAME is the function that the region stands in. Raises SettingError for a region outside a
    function or left open.
    """

    def unsolved(region: re.Match[str]) -> str:
        functions = re.findall(r"^\s*def\s+(\w+)", source[: region.start()], re.M)
        if not functions or not region[1] or BEGIN in region[2]:
            raise SettingError(
                f"{BEGIN!r} stands outside a function or inside another solution; move it into"
                " the body."
            )
        return f'{region[1]}raise NotImplementedError("write {functions[-1]}")'

    text = REGION.sub(unsolved, source)
    for mark, other in ((BEGIN, END), (END, BEGIN)):
        if mark in text:
            raise SettingError(f"{mark!r} has no {other!r}; add it.")
    return text


def with_folded_hints(source: str) -> str:
    """The text of a markdown cell, with each paragraph that opens with **Hint folded away."""

    def folded(hint: re.Match[str]) -> str:
        title, body = hint[1].strip(" .:"), hint[2].strip()
        return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>\n"

    return HINT.sub(folded, source).rstrip("\n")


def _student(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = cell.metadata.pop("student", cell.source)
            if not isinstance(shown, str):
                raise SettingError(
                    f"The metadata 'student' of a cell is {shown!r}; the text that the student copy"
                    " shows instead of the cell was expected."
                )
            cell.source = without_solution(shown)
            cell.outputs, cell.execution_count = [], None
        elif cell.cell_type == "markdown":
            cell.source = with_folded_hints(cell.source)
    return notebook


def make(folder: str | Path) -> list[Path]:
    """Write a student copy of every notebook of the series into `folder` and return their paths.

    Raises SettingError where a copy would overwrite a notebook that is already there.
    """
    import nbformat

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
    return [
        write_text(copy, nbformat.writes(_student(read_notebook(notebook_path(name)))) + "\n")
        for name, copy in copies.items()
    ]
