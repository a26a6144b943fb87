"""Fixtures of every test; what tests share without being a fixture lies in `helpers/`, which pytest
finds by `pythonpath` in pyproject.toml.
"""

import os

import pytest
from repository import REPOSITORY
from throwaway_workbook import WORK, Project, stage
from tiny_vlm import few_records, tiny_vlm, tiny_vlm_folder  # noqa: F401  fixtures of every test

for variable in (
    "SLUGKIT_CACHE",
    "SLUGKIT_RUNS",
    "SLUGKIT_ROOT",
):  # whoever keeps them set for their own work runs the same tests
    os.environ.pop(variable, None)


@pytest.fixture(scope="module")
def clip():
    """The studio's CLIP, loaded once for every file of tests that has no CLIP of its own."""
    from slugkit.models import load_clip

    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def source():
    """The studio's pictures."""
    from slugkit.data import open_data

    return open_data("studio")


@pytest.fixture
def empty_project(tmp_path, monkeypatch):
    """A project without notebooks; slugkit's paths point into it, in child processes too."""
    monkeypatch.setenv("SLUGKIT_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    for name in ("SLUGKIT_RUNS", "SLUGKIT_CACHE", "SLOW"):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path)


@pytest.fixture
def project(empty_project):
    """A project with the three throwaway stages."""
    for name in WORK:
        empty_project.write(name, stage(name))
    return empty_project


@pytest.fixture
def slugkit_as_it_is(monkeypatch):
    """In the keys of stages, slugkit's source stays as it is, whoever edits it meanwhile."""
    from slugkit.workbook.run import execute

    monkeypatch.setattr(execute, "slugkit_hash", lambda: "as it is")
