"""The site (`make site`): Sphinx and MyST over the notebooks as they are committed.

Nothing is fetched while it is built or read: formulas become MathML, so that a browser needs no
script for them.
"""

import json
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref

import slugkit

project = "The SLUG workbook"
author = "The SLUG workbook authors"
copyright = author
version = release = slugkit.__version__

root_doc = "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "docs/*.md",
    "notebooks/*.ipynb",
    "notebooks/paper_scale/*",
    "TEACHING.md",
    "slugkit/data/pages/*.md",
    "slugkit/patch/*.md",
    "data/studio/*.md",
    "data/studio/*/README.md",
]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = True
suppress_warnings = [
    "myst.header",  # a notebook's opening quotation comes before its second heading
    "toc.not_included",
]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True

html_theme = "sphinx_book_theme"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def _mathml(latex: str, display: str) -> str:
    """A formula as MathML."""
    return convert(latex, display=display)


def _inline(self, node):
    self.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(f'<div class="math">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _files_as_text(app, doctree):
    """A link to a file of the repository that is no page of the site becomes its name."""
    for link in [*doctree.findall(nodes.reference), *doctree.findall(pending_xref)]:
        target = link.get("refuri") or link.get("reftarget") or ""
        if not target.startswith("http") and re.search(r"\.(csv|json|py|yml)$", target):
            link.replace_self(nodes.literal("", link.astext()))


def _as_a_page(app, page, source):
    """Of a notebook: exercise cells, which hold their solutions, are folded until a reader opens
    them, and links in outputs to files of the repository become their names.
    """
    if not app.env.doc2path(page).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "exercise" in tags:
            cell["metadata"]["tags"] = [*tags, "hide-input"]
        for output in cell.get("outputs", []):
            if lines := output.get("data", {}).get("text/html"):
                link = r'<a href="[^":]+\.py">(.*?)</a>'
                output["data"]["text/html"] = re.sub(link, r"\1", "".join(lines))
    source[0] = json.dumps(notebook)


def setup(app):
    """What Sphinx calls: formulas, solutions, and links to what is no page."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _as_a_page)
    app.connect("doctree-read", _files_as_text)
