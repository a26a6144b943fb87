"""What holds for the repository as a whole: sizes, arrows between rooms, no machine's traces,
no test that imports a test.
"""

import ast
import re
import subprocess
from pathlib import Path

import clean
from repository import REPOSITORY

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


def test_no_test_imports_a_test():
    """What two tests need lies in ci/tests/helpers, or in a fixture of ci/tests/conftest.py."""
    wrong = []
    for path, tree in sources():
        if short(path).startswith("ci/tests/"):
            parts = {part for name in imported(path, tree) for part in name.split(".")}
            tests = {part for part in parts if part.startswith("test_") or part == "conftest"}
            wrong += [f"{short(path)}: {name}" for name in sorted(tests)]
    assert wrong == []


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
    assert [entry for entry in found if not entry.startswith(short(Path(__file__)))] == []


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
