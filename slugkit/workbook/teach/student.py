"""Student copies of the notebooks: solutions taken out, hints folded, outputs cleared."""

import re
from pathlib import Path
from typing import Any

from slugkit.base import SettingError, write_text
from slugkit.workbook.run.stages import list_notebooks, notebook_path, read_notebook

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def without_solution(source: str) -> str:
    """`source`, the text of a cell, with each solution region replaced by `raise
    NotImplementedError("write NAME")`.

    NAME is the function that the region stands in. Raises SettingError for a region outside a
    function or left open.
    """
    lines, kept, inside, function = source.split("\n"), [], False, ""
    for line in lines:
        defined = re.match(r"\s*def\s+(\w+)", line)
        if defined and not inside:
            function = defined[1]
        if line.strip() == BEGIN:
            indent = line[: len(line) - len(line.lstrip())]
            if inside or not function or not indent:
                raise SettingError(
                    f"{BEGIN!r} stands outside a function or inside another solution; move it into"
                    " the body."
                )
            inside = True
            kept.append(f'{indent}raise NotImplementedError("write {function}")')
        elif line.strip() == END:
            if not inside:
                raise SettingError(f"{END!r} has no {BEGIN!r} above it; add it.")
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise SettingError(f"{BEGIN!r} in function {function} has no {END!r} below it; add it.")
    return "\n".join(kept)


def with_folded_hints(source: str) -> str:
    """`source`, the text of a markdown cell, with each paragraph that opens with **Hint folded into
    <details>.
    """

    def fold(match: re.Match[str]) -> str:
        title, body = match[1].strip(" .:"), match[2].strip()
        return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"

    return re.sub(
        r"^\*\*(Hint[^*]*)\*\*:?[ \n]*((?:.+\n?)+)", lambda m: fold(m) + "\n", source, flags=re.M
    ).rstrip("\n")


def _student(notebook: Any) -> Any:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = without_solution(cell.source)
            cell.outputs, cell.execution_count = [], None
        elif cell.cell_type == "markdown":
            cell.source = with_folded_hints(cell.source)
    return notebook


def make(folder: str | Path) -> list[Path]:
    """Write a student copy of every notebook of the series into `folder` and return their paths.

    Raises SettingError where a copy would overwrite a notebook that is already there, so that no
    work is lost.
    """
    import nbformat

    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise SettingError(
            f"{folder} is a file; a folder for the student copies was expected. Name another one."
        )
    there = [name for name in list_notebooks() if (folder / f"{name}.ipynb").exists()]
    if there:
        raise SettingError(
            f"{folder} already holds {there[0]}.ipynb, perhaps with work in it; name an empty"
            " folder."
        )
    made = []
    for name in list_notebooks():
        notebook = _student(read_notebook(notebook_path(name)))
        made.append(write_text(folder / f"{name}.ipynb", nbformat.writes(notebook) + "\n"))
    return made
