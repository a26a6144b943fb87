"""Copy the figures of the README out of the committed notebooks into data/figures/ (`make notebooks` calls it)."""

import base64
from pathlib import Path

import nbformat

from slugkit.base import data_dir, notebooks_dir, write_bytes

FIGURES = {"first_result.png": ("00_start_here", '"first_result"', 0), "pareto_text.png": ("03_rank_layers", 'f"pareto_{tower}"', 1),
           "pictures_before_after.png": ("06_evaluate_stable_diffusion", '"before_after"', 0),
           "dialogue.png": ("07_evaluate_vision_language", '"dialogue"', 0),
           "several_curves.png": ("08_several_concepts", '"curves"', 0)}
"""File -> notebook, what the source of the cell that draws it contains, which of its pictures."""


def picture(notebook: str, mark: str, number: int) -> bytes:
    """The PNG that a cell of a committed notebook shows."""
    cells = nbformat.read(notebooks_dir() / f"{notebook}.ipynb", as_version=4).cells
    cell = next(c for c in cells if c.cell_type == "code" and mark in c.source)
    shown = [o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    return base64.b64decode(shown[number])


if __name__ == "__main__":
    for name, where in FIGURES.items():
        print(Path(write_bytes(data_dir() / "figures" / name, picture(*where))).name)
