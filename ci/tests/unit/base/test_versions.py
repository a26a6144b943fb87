"""Every import is declared with its lowest version, and what is older is named before anything
runs.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version

import nbformat
import pytest
from packaging.requirements import Requirement
from repository import REPOSITORY

from slugkit.base import OldPackageError, require_versions, too_old

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = [text for extra, texts in EXTRAS.items() if extra != "test" for text in texts]
NEEDS = [Requirement(text) for text in [*PROJECT["dependencies"], *OWN]]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imports():
    """Every module that the package or a notebook imports, but python's own."""
    texts = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "slugkit").rglob("*.py")]
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        texts += [
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code" and not re.search(r"^\s*[%!]", cell.source, re.M)
        ]
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]


def test_every_import_is_declared():
    owners = packages_distributions()
    needed = set(imports()) - set(sys.stdlib_module_names) - {"slugkit"}
    declared = {normal(need.name) for need in NEEDS}
    assert {"timm", "scipy", "yaml", "braceexpand", "IPython", "huggingface_hub"} <= needed
    assert {
        name for name in needed if not {normal(owner) for owner in owners[name]} & declared
    } == set()


def test_every_package_has_a_lowest_version_that_is_not_above_the_locked_one():
    floors = NEEDS + [Requirement(text) for text in PROJECT["optional-dependencies"]["test"]]
    assert [
        str(need) for need in floors if not re.fullmatch(r">=[\d.]+", str(need.specifier))
    ] == []
    locked = dict(
        re.findall(
            r"^([\w.-]+)==([\w.+!]+)", (REPOSITORY / "ci" / "requirements.lock").read_text(), re.M
        )
    )
    locked = {normal(name): number for name, number in locked.items()}
    assert [
        str(need)
        for need in floors
        if not need.specifier.contains(locked[normal(need.name)], prereleases=True)
    ] == []


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A package that declares what it is told."""

    def declare(*needs):
        place = tmp_path / "odd_package-1.0.dist-info"
        place.mkdir(exist_ok=True)
        (place / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: odd-package\nVersion: 1.0\n"
            + "".join(f"Requires-Dist: {need}\n" for need in needs)
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return too_old("odd-package")

    return declare


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        (["torch>=2.0", "numpy"], []),
        (["torch>=99.0"], [f"torch is {version('torch')} (>=99.0 was expected)"]),
        (["nowhere-to-be-found>=1.2"], ["nowhere-to-be-found is missing (>=1.2 was expected)"]),
        (["huggingface_hub>=99", "numpy>=98", "scipy"], ["huggingface_hub is", "numpy is"]),
        (['pytest>=99; extra == "test"', 'numpy>=99; sys_platform == "nowhere"'], []),
    ],
)
def test_what_is_older_than_declared_or_missing_is_named_with_both_versions(needs, says, odd):
    found = odd(*needs)
    assert len(found) == len(says) and all(
        text.startswith(start) for text, start in zip(found, says)
    )


def test_notebook_00_says_it_in_one_sentence_before_it_imports_anything_else(odd, monkeypatch):
    cells = [
        cell
        for cell in nbformat.read(
            REPOSITORY / "notebooks" / "00_start_here.ipynb", as_version=4
        ).cells
        if cell.cell_type == "code"
    ]
    first = ast.parse(cells[1].source).body
    assert [ast.unparse(node) for node in first[:2]] == [
        "from slugkit.base import require_versions",
        "require_versions()",
    ]
    odd("diffusers>=99", "transformers>=98")
    monkeypatch.setattr(too_old, "__defaults__", ("odd-package", ()))
    with pytest.raises(
        OldPackageError,
        match=r"diffusers is .* \(>=99 was expected\); transformers is .* \(>=98 was expected\)",
    ):
        require_versions()
    assert too_old("a-package-that-is-not-installed") == []
