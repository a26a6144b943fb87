"""Executed notebooks as HTML pages that fetch nothing: formulas are drawn, no script is loaded."""

import base64
import html
import io
import re
from pathlib import Path
from typing import Any

from slugkit.base import write_text
from slugkit.workbook.run.stages import read_notebook

TEMPLATES = Path(__file__).parent / "templates"
FORMULA = re.compile(
    r"(?<!\\)\$\$(.+?)\$\$|(?<![\\\w$])\$(?![\s$])([^$\n]+?)(?<![\s\\])\$(?![\d$])", re.S
)
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.S)
WIDGET = "application/vnd.jupyter.widget-view+json"
MATHTEXT = {
    r"\\[lr]?Vert(?![A-Za-z])": r"\\|",
    r"\\[lr]vert(?![A-Za-z])": "|",
    r"\\[td]frac": r"\\frac",
    r"\\frac\s*(\w)(\w)": r"\\frac{\1}{\2}",
    r"\\[bB]igg?[lrm]?(?![A-Za-z])": "",
    r"\\(l|g)e ": r"\\\1eq ",
    r"\s+": " ",
}
"""TeX of MathJax -> of matplotlib's mathtext, which knows fewer words."""
DRAWN = {"text.parse_math": True, "mathtext.fontset": "cm", "svg.hashsalt": "slugkit"}


def draw_formula(tex: str) -> str | None:
    """An <img> of the formula `tex` (without dollars); None where matplotlib cannot draw it."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    drawn, plain = io.BytesIO(), tex
    for word, known in MATHTEXT.items():
        plain = re.sub(word, known, plain)
    font = FontProperties(size=12)
    try:
        with matplotlib.rc_context({**DRAWN, "savefig.transparent": True}):
            depth = math_to_image(f"${plain.strip()}$", drawn, font, 72, "svg")
    except (ValueError, RuntimeError):
        return None
    # a formula hangs below the line of text by its depth, in points
    data = base64.b64encode(drawn.getvalue()).decode()
    return (
        f'<img alt="{html.escape(" ".join(tex.split()))}"'
        f' style="display:inline;vertical-align:{-float(depth or 0):.1f}pt"'
        f' src="data:image/svg+xml;base64,{data}"/>'
    )


def _with_drawn_formulas(text: str) -> str:
    """Markdown `text` with every formula outside code drawn, or as code where it cannot be."""

    def draw(match: re.Match[str]) -> str:
        image = draw_formula(match[1] or match[2])
        if match[2]:
            return image or f"`{match[2]}`"
        if image:
            return f'<div style="text-align:center">{image}</div>'
        return f"\n```\n{match[1].strip()}\n```\n"

    parts = CODE.split(text)
    parts[::2] = [FORMULA.sub(draw, part) for part in parts[::2]]
    return "".join(parts)


def _tidied(notebook: Any) -> Any:
    """`notebook` for reading on a page: formulas drawn, stderr and widgets taken out."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_drawn_formulas(cell.source)
        if cell.cell_type != "code":
            continue
        shown = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
        cell.outputs = [out for out in shown if out.get("name") != "stderr"]
        for out in cell.outputs:
            if "text/markdown" in out.get("data", {}):
                out.data["text/markdown"] = _with_drawn_formulas(out.data["text/markdown"])
    notebook.metadata.pop("widgets", None)
    return notebook


def convert(source: Path, target: Path) -> Path:
    """Write the executed notebook `source` as a page `target` that fetches nothing."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="lab",
        template_file="notebook.html.j2",
        extra_template_paths=[str(TEMPLATES)],
        embed_images=True,
    )
    named = {"metadata": {"name": source.stem}}
    page, _ = exporter.from_notebook_node(_tidied(read_notebook(source)), named)
    return write_text(target, page)
