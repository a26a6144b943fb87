"""Copy the figures of the README out of the committed notebooks into data/figures/, and its table
out of data/studio/ (`make notebooks` calls it).
"""

import base64
from pathlib import Path

import nbformat
import pandas as pd

from slugkit.base import data_dir, notebooks_dir, write_bytes, write_text

FIGURES = {
    "first_result.png": ("00_start_here", '"first_result"', 0),
    "pareto_text.png": ("03_rank_layers", 'f"pareto_{tower}"', 1),
}
"""File -> notebook, what the source of the cell that draws it contains, which of its pictures."""


def picture(notebook: str, mark: str, number: int) -> bytes:
    """The PNG that a cell of a committed notebook shows."""
    cells = nbformat.read(notebooks_dir() / f"{notebook}.ipynb", as_version=4).cells
    cell = next(c for c in cells if c.cell_type == "code" and mark in c.source)
    shown = [o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    return base64.b64decode(shown[number])


BEGIN, END = "<!-- what it found: written by ci/readme_figures.py -->", "<!-- end -->"
MEASURES = {
    "FA@1 after": "FA@1",
    "FA@5 after": "FA@5",
    "FA@5 after, worst wording": "FA@5, worst wording",
    "neighbours change": "neighbours",
    "people change": "other people",
    "objects change": "objects",
}
"""Measure of report_concepts_summary.csv -> its column in the README."""


def findings() -> str:
    """The README's table: means over the report concepts, with the worst case, from
    report_concepts_summary.csv.
    """
    folder = data_dir() / "studio"
    table = pd.read_csv(folder / "report_concepts_summary.csv")
    table = table[(table["kind"] == "all") & table["method"].isin(["SLUG", "SLUG-R"])]
    lines = [
        "| tower, layers searched | method | " + " | ".join(MEASURES.values()) + " |",
        "| --- | --- |" + " --- |" * len(MEASURES),
    ]
    where = {"front": "the Pareto front", "all": "all candidates"}
    for (tower, layers, method), part in table.groupby(["tower", "layers", "method"], sort=False):
        rows = part.set_index("measure")
        cells = [
            f"{rows.loc[m, 'mean']:+.1f}" if "change" in m else f"{rows.loc[m, 'mean']:.1f}"
            for m in MEASURES
        ]
        worst = [
            f"{rows.loc[m, 'worst']:+.1f}" if "change" in m else f"{rows.loc[m, 'worst']:.1f}"
            for m in MEASURES
        ]
        both = " | ".join(f"{a} ({b})" for a, b in zip(cells, worst))
        lines.append(f"| {tower}, {where[layers]} | {method} | {both} |")
    rows = pd.read_csv(folder / "report_concepts.csv")
    for row in rows[rows["winner"] == "none forgets"].itertuples():
        of = f"{row.tower}, {where[row.layers]}, {row.method}"
        lines.append(f"\nNot in the means of {of}: {row.concept}, which no layer forgets.")
    return "\n".join(lines)


def with_findings(readme: str) -> str:
    """The README with its table written anew."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{findings()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    page = notebooks_dir().parent / "README.md"
    write_text(page, with_findings(page.read_text(encoding="utf-8")))
    for name, where in FIGURES.items():
        print(Path(write_bytes(data_dir() / "figures" / name, picture(*where))).name)
