"""What we work around in papermill, nbval, IPython and YAML.

A test that fails after an upgrade says a trap has gone.
"""

import os
import subprocess
import sys

import nbformat
import papermill
import pytest
from nbval.plugin import get_sanitize_patterns
from papermill.cli import _resolve_type
from papermill.iorw import read_yaml_file
from repository import REPOSITORY
from throwaway_workbook import code, notebook, said

SANITIZE = REPOSITORY / "ci" / "sanitize.cfg"


def inspect(tmp_path, source):
    """What papermill finds in a settings cell with this text."""
    nbformat.write(notebook(code(source, "parameters")), tmp_path / "x.ipynb")
    return papermill.inspect_notebook(str(tmp_path / "x.ipynb"))


def nbval(folder, *options):
    """Run nbval on all notebooks of a folder; returns (exit status, output)."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(REPOSITORY / "pyproject.toml"),
        "--rootdir",
        str(folder),
        "-ra",
    ]
    command += [
        "--nbval-current-env",
        "--nbval-cell-timeout",
        "60",
        *options,
        *map(str, sorted(folder.glob("*.ipynb"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ))
    return done.returncode, done.stdout


# -- papermill -------------------------------------------------------------------------------------


def test_a_second_equals_sign_hides_a_setting(tmp_path):
    assert list(inspect(tmp_path, "a: int = 1  # b = 2\nc: int = 3  # fine")) == ["c"]


@pytest.mark.parametrize("kind", ["int | None", "typing.Any", "Literal['a']"])
def test_richer_types_are_not_recognised(tmp_path, kind):
    found = inspect(tmp_path, f"a: {kind} = 1  # one\nc: int = 3  # two")
    assert "a" not in found or found["a"]["inferred_type_name"] != kind
    assert found["c"]["inferred_type_name"] == "int"


def test_a_hash_in_a_default_cuts_it(tmp_path):
    assert inspect(tmp_path, 'a: str = "x#y"  # comment')["a"]["default"] != '"x#y"'


def test_numbers_are_read_differently_by_p_and_f(tmp_path):
    (tmp_path / "f.yaml").write_text("a: 1e-3\nb: 1.0e-3\nn: 1e3\n")
    assert read_yaml_file(str(tmp_path / "f.yaml")) == {"a": "1e-3", "b": 0.001, "n": "1e3"}
    assert (
        _resolve_type("1e-3") == 0.001
        and isinstance(_resolve_type("1e3"), float)
        and _resolve_type("a") == "a"
    )


def test_sys_exit_ends_a_run_without_an_error(tmp_path):
    nbformat.write(notebook(code("import sys; sys.exit(0)"), code("x = 1")), tmp_path / "x.ipynb")
    done = papermill.execute_notebook(
        str(tmp_path / "x.ipynb"),
        str(tmp_path / "y.ipynb"),
        kernel_name="python3",
        progress_bar=False,
    )
    assert done.cells[1].execution_count is None, (
        "the runner's check that the last cell ran is needed no more"
    )


# -- nbval -----------------------------------------------------------------------------------------


def test_nbval_compares_only_what_is_stored_and_stops_with_x(tmp_path):
    contract = "nbval-check-output"
    spoiled = [code(f"print({n})", contract, outputs=[said("old\n")], count=n) for n in (1, 2)]
    nbformat.write(notebook(*spoiled), tmp_path / "spoiled.ipynb")
    nbformat.write(notebook(code("print('new')", contract)), tmp_path / "stripped.ipynb")
    status, output = nbval(tmp_path, "--nbval-lax")
    assert status == 1 and "2 failed, 1 passed" in output, (
        "a stripped notebook is green; after a failure the rest still runs"
    )
    status, output = nbval(tmp_path, "--nbval-lax", "-x")
    assert status == 1 and "1 failed" in output and "passed" not in output


def test_strict_nbval_refuses_output_without_count_and_compares_stderr_but_for_our_conftest(
    tmp_path,
):
    stored = nbformat.v4.new_output("stream", name="stderr", text="12 it/s\n")
    source = "import sys; print('13 it/s', file=sys.stderr); print(1)"
    nbformat.write(
        notebook(code(source, outputs=[stored, said("1\n")], count=1)), tmp_path / "loud.ipynb"
    )
    nbformat.write(notebook(code("print(1)", outputs=[said("1\n")])), tmp_path / "unrun.ipynb")
    status, output = nbval(tmp_path, "--nbval")
    assert status == 1 and "Unrun reference cell has outputs" in output
    assert "2 failed" in output, "nbval leaves out stderr by itself; conftest.py can go"
    (tmp_path / "conftest.py").write_text((REPOSITORY / "conftest.py").read_text())
    assert "1 failed, 1 passed" in nbval(tmp_path, "--nbval")[1]


def test_a_rule_that_replaces_with_nothing_is_dropped():
    assert get_sanitize_patterns("regex: a\nreplace:\n") == []
    assert get_sanitize_patterns("regex: a\n\nreplace: B\n") == []
    assert get_sanitize_patterns("regex: a\nreplace: B\n") == [("a", "B")]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("<object at 0x7f3a12bc9d00>", "<object at ADDRESS>"),
        ("took 12.3 s on 2 cores", "took TIMING on 2 cores"),
        ("1.25 ms and 3 minutes", "TIMING and TIMING"),
        (
            "FA@1 0.7235, 95.0 %, n = 200, 3 steps, 0x12",
            "FA@1 0.7235, 95.0 %, n = 200, 3 steps, 0x12",
        ),
    ],
)
def test_each_rule_of_our_sanitize_file(text, becomes):
    import re

    patterns = get_sanitize_patterns(SANITIZE.read_text())
    assert len(patterns) == SANITIZE.read_text().count("regex:") == 2
    for pattern, word in patterns:
        assert word
        text = re.sub(pattern, word, text)
    assert text == becomes


# -- IPython, typer --------------------------------------------------------------------------------


def test_a_lone_line_that_begins_with_run_is_taken_for_a_magic():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    assert "%run" in shell.transform_cell(
        'run: str = "x"'
    ) or "run_line_magic" in shell.transform_cell('run: str = "x"')
    assert "magic" not in shell.transform_cell('# Settings\nrun: str = "x"')


def test_typer_has_no_repeated_pair_option():
    import typer

    app = typer.Typer()
    with pytest.raises(AssertionError, match="complex sub-types"):

        @app.command()
        def command(p: list[tuple[str, str]] = typer.Option([], "-p")):  # noqa: B008
            pass

        typer.main.get_command(app)
