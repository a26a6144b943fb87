"""Executed notebooks as HTML pages that need nothing from the net: formulas are drawn, no script is
fetched.
"""

import base64
import io
import re
from pathlib import Path
from typing import Any

from slugkit.base import write_text
from slugkit.workbook.run.stages import read_notebook

FORMULA = re.compile(
    r"(?<!\\)\$\$(.+?)\$\$|(?<![\\\w$])\$(?![\s$])([^$\n]+?)(?<![\s\\])\$(?![\d$])", re.S
)
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.S)


def _plain_tex(tex: str) -> str:
    """TeX for matplotlib's mathtext, which knows fewer words than MathJax."""
    for word, known in (
        (r"\lVert", r"\|"),
        (r"\rVert", r"\|"),
        (r"\Vert", r"\|"),
        (r"\lvert", "|"),
        (r"\rvert", "|"),
    ):
        tex = tex.replace(word, known)
    tex = re.sub(r"\\frac\s*(\w)(\w)", r"\\frac{\1}{\2}", re.sub(r"\\[td]frac", r"\\frac", tex))
    tex = (
        re.sub(r"\\[bB]igg?[lrm]?(?![A-Za-z])", "", tex)
        .replace(r"\le ", r"\leq ")
        .replace(r"\ge ", r"\geq ")
    )  # sizes of brackets, by hand
    return " ".join(tex.split())


def draw_formula(tex: str) -> str | None:
    """An <img> with the formula `tex` (without dollars) drawn by matplotlib; None where it cannot
    be drawn.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    drawn = io.BytesIO()
    try:
        with matplotlib.rc_context(
            {
                "text.parse_math": True,
                "mathtext.fontset": "cm",
                "svg.hashsalt": "slugkit",
                "savefig.transparent": True,
            }
        ):
            depth = math_to_image(
                f"${_plain_tex(tex)}$", drawn, prop=FontProperties(size=12), format="svg", dpi=72
            )
    except (ValueError, RuntimeError):
        return None
    # a formula hangs below the line of text by its depth, in points
    data = base64.b64encode(drawn.getvalue()).decode()
    alt = (
        tex.strip()
        .replace("&", "&amp;")
        .replace('"', "&quot;")
        .replace("<", "&lt;")
        .replace("\n", " ")
    )
    return (
        f'<img alt="{alt}" style="display:inline;vertical-align:{-float(depth or 0):.1f}pt"'
        f' src="data:image/svg+xml;base64,{data}"/>'
    )


def with_drawn_formulas(text: str) -> str:
    """Markdown `text` with every $formula$ and $$formula$$ outside code drawn; what cannot be drawn
    becomes code.
    """

    def draw(match: re.Match[str]) -> str:
        tex = match[1] or match[2]
        image = draw_formula(tex)
        if match[1]:
            return (
                f'<div style="text-align:center">{image}</div>'
                if image
                else f"\n```\n{tex.strip()}\n```\n"
            )
        return image or f"`{tex}`"

    parts = CODE.split(text)
    return "".join(
        part if index % 2 else FORMULA.sub(draw, part) for index, part in enumerate(parts)
    )


def tidied(notebook: Any) -> Any:
    """`notebook` for reading on a page: formulas drawn, stderr (progress, warnings) and widgets
    taken out.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_drawn_formulas(cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not _only_for_the_moment(out)]
            for out in cell.outputs:
                out.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
                for kind in ("text/markdown",):
                    if kind in out.get("data", {}):
                        out.data[kind] = with_drawn_formulas(out.data[kind])
    notebook.metadata.pop("widgets", None)
    return notebook


def _only_for_the_moment(out: Any) -> bool:
    if out.output_type == "stream":
        return out.name == "stderr"
    return "application/vnd.jupyter.widget-view+json" in out.get("data", {})


def convert(source: Path, target: Path) -> Path:
    """Write the executed notebook `source` as a page `target` that fetches nothing.

    Returns `target`.
    """
    from nbconvert import HTMLExporter

    from slugkit.workbook.teach import with_alt_texts

    exporter = HTMLExporter(template_name="lab", embed_images=True)
    exporter.mathjax_url = exporter.require_js_url = exporter.mermaid_js_url = (
        exporter.jquery_url
    ) = ""
    exporter.jupyter_widgets_base_url = exporter.widget_renderer_url = ""
    page, _ = exporter.from_notebook_node(
        with_alt_texts(tidied(read_notebook(source))), resources={"metadata": {"name": source.stem}}
    )
    return write_text(target, without_fetching(page))


def without_fetching(page: str) -> str:
    """`page` without scripts, style sheets and imports that a browser would fetch from elsewhere;
    links stay.
    """
    page = re.sub(r"<script[^>]*\bsrc\s*=\s*\"[^\"]*\"[^>]*>\s*</script>", "", page)
    page = re.sub(
        r"<script[^>]*>(?:(?!</script>).)*?(?:https?:|import\(|mermaid|MathJax)(?:(?!</script>).)*</script>",
        "",
        page,
        flags=re.S,
    )
    page = re.sub(r"<link[^>]*\bhref\s*=\s*\"https?:[^\"]*\"[^>]*>", "", page)
    return re.sub(r"@import\s+url\(['\"]?https?:[^)]*\);?", "", page)
