"""What holds for the repository as a whole: sizes, arrows between rooms, no machine's traces,
notebooks' settings.
"""

import ast
import re
import subprocess
import sys

import clean
import nbformat
import pytest

from conftest import REPOSITORY
from slugkit.workbook.settings import Settings

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
by_name = {"ids": lambda path: path.stem}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".json",
    ".cfg",
    ".lock",
    ".csv",
    ".txt",
    ".ipynb",
    "",
}


def files():
    """What git tracks or would track, without what it ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    names = listed.stdout.splitlines()
    if listed.returncode != 0:  # a copy without git: everything but what is made
        made = {".venv", "runs", "__pycache__", "build", "dist"}
        names = [
            str(p.relative_to(REPOSITORY)) for p in REPOSITORY.rglob("*") if not made & set(p.parts)
        ]
    return [REPOSITORY / name for name in names if (REPOSITORY / name).is_file()]


def sources():
    """All Python files with their syntax trees."""
    return [
        (path, ast.parse(path.read_text(encoding="utf-8")))
        for path in files()
        if path.suffix == ".py"
    ]


def short(path):
    return path.relative_to(REPOSITORY).as_posix()


def test_no_file_and_no_function_is_too_long_for_its_reader():
    """Counted as the formatter writes it; of a function, without its docstring."""
    long = []
    for path, tree in sources():
        package = short(path).startswith("slugkit/")
        most, longest = (500, 50) if package else (550, 80)
        count = path.read_text(encoding="utf-8").count("\n")
        long += [f"{short(path)} {count}"] * (count > most)
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[1 if ast.get_docstring(node) and node.body[1:] else 0]
                count = node.end_lineno - first.lineno + 1
                long += [f"{short(path)} {node.name} {count}"] * (count > longest)
    assert long == []


def imported(path, tree):
    """Modules that a file imports anywhere, as dotted names; relative imports in their absolute
    form.
    """
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            if module == "slugkit":
                yield from (f"slugkit.{alias.name}" for alias in node.names)


def test_nothing_reads_pickles():
    wrong = []
    for path, tree in sources():
        if not short(path).startswith("slugkit/"):
            continue
        names = [
            name
            for name in imported(path, tree)
            if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle")
        ]
        nodes = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = [name for name in nodes if name == "torch.load" or name.endswith("read_pickle")]
        wrong += [f"{short(path)}: {found}" for found in [*names, *calls]]
    assert wrong == []


def test_every_public_name_says_what_it_is():
    silent = []
    for path, tree in sources():
        if short(path).startswith("slugkit/"):
            assert ast.get_docstring(tree), f"{short(path)} has no docstring"
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith(
                    "_"
                ):
                    silent += [] if ast.get_docstring(node) else [f"{short(path)} {node.name}"]
    assert silent == []


def test_every_test_asserts():
    empty = []
    for path, tree in sources():
        if path.name.startswith("test_"):
            text = path.read_text(encoding="utf-8")
            bodies = {
                node.name: ast.get_source_segment(text, node)
                for node in tree.body
                if isinstance(node, ast.FunctionDef)
            }
            asserting = {
                name for name, body in bodies.items() if re.search(r"\bassert|raises|assert_", body)
            }
            for name, body in bodies.items():
                if name.startswith("test") and name not in asserting:
                    helped = any(re.search(rf"\b{helper}\(", body) for helper in asserting)
                    empty += [] if helped else [f"{short(path)} {name}"]
    assert empty == []


# spelt in pieces, so that this file does not find itself
HOSTS = re.compile(
    "|".join(
        (
            "pypi" + r"\.org",
            "files\\." + "pythonhosted",
            "download" + r"\.pytorch",
            "--(?:extra-)?index" + "-url",
            "--find" + "-links",
        )
    )
)
PLACES = re.compile(
    "|".join(
        (
            "/wor" + r"k/(?:main|shared)",
            "/tm" + r"p/\w",
            "/roo" + r"t/\w",
            "/hom" + r"e/\w",
            "/User" + r"s/\w",
        )
    )
)


def test_no_package_host_and_no_path_of_a_machine():
    found = []
    for path in files():
        if path.suffix not in TEXT or path.name == "LICENSE":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".ipynb":
            text = clean.EMBEDDED.sub("", re.sub(r'"image/\w+": "[^"]*"', "", text))
        for pattern in (HOSTS, PLACES):
            found += [f"{short(path)}: {match[0]}" for match in [pattern.search(text)] if match]
    # the checker itself must name the folders that it looks for
    assert [entry for entry in found if not entry.startswith("ci/tests/test_repository.py")] == []


def test_the_lock_holds_exact_versions_only_and_covers_the_project():
    import tomllib

    lines = (REPOSITORY / "ci" / "requirements.lock").read_text().splitlines()
    names = {re.fullmatch(r"([\w.-]+)==[\w.+!]+(?: ; .+)?", line)[1] for line in lines}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    plain = [
        re.match(r"[\w.-]+", entry)[0]
        for entry in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    ]
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in plain}
    assert normal <= names


# -- notebooks -------------------------------------------------------------------------------------


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
