"""Tables in prose are what their commands write from the committed figures."""

import importlib.util
import sys

import pandas as pd
from repository import REPOSITORY

STUDIO = REPOSITORY / "data" / "studio"


def script(name):
    """A script of ci/ as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "ci" / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_holds_the_table_of_the_sweep():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert script("readme_figures").with_findings(readme) == readme


def test_the_page_of_deviations_is_written_from_its_table():
    page = script("deviations").page(pd.read_csv(STUDIO / "deviations.csv"))
    assert (STUDIO / "deviations.md").read_text(encoding="utf-8") == page
    assert page.count("\n| ") == len(script("deviations").TEXTS) + 2
