"""Figures with their description, and the source of a function folded open."""

import base64
import copy
import html
import inspect
import io
import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.display import display
from PIL import Image

from slugkit.base import SettingError, notebooks_dir, root

CHART_BYTES, GRID_BYTES = 80_000, 300_000


def _draw(fig, dpi: float) -> Image.Image:
    """The figure as an image in memory.

    No tight box: a grid's pixels must fall on the screen's pixels.
    """
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches=None, metadata={"Software": None})
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def _pack(image: Image.Image, colours: int = 0) -> bytes:
    """An image as PNG, with a palette of so many colours where that is asked for."""
    buffer = io.BytesIO()
    if colours:
        image = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def small_png(fig, dpi: float = 100, limit: int | None = None) -> bytes:
    """The figure as a PNG of at most `limit` bytes, by default 80 kB for a chart, 300 kB for one
    that holds pictures.

    First with all colours (pictures) or 256 (charts), then with fewer, at last with fewer dots per
    inch. Where even that does not reach the limit, the smallest one tried is returned.
    """
    pictures = any(ax.images for ax in fig.findobj(plt.Axes))
    limit = limit or (GRID_BYTES if pictures else CHART_BYTES)
    best = None
    for scale in (1.0, 0.9, 0.75, 0.6):
        image = _draw(fig, dpi * scale)
        for colours in (0, 256, 128, 64) if pictures else (256, 96, 48):
            packed = _pack(image, colours)
            best = packed if best is None or len(packed) < len(best) else best
            if len(packed) <= limit:
                return packed
    return best


def show_figure(fig, says: str, dpi: float = 100) -> None:
    """Shows a figure as a small PNG with `says` as its alternative text, prints `says` underneath
    and closes the figure.

    says: one or two sentences, not empty (SettingError). The alternative text stands in the
    output's metadata ("image/png": {"alt": ...}); `with_alt_texts` carries it into web pages.
    Outside a notebook only the sentence is printed.
    """
    says = " ".join(str(says).split())
    if not says:
        raise SettingError(
            "The figure came without a description; one sentence for readers who cannot see it was"
            " expected in `says`."
        )
    if get_ipython() is not None:
        bundle = {"image/png": base64.b64encode(small_png(fig, dpi)).decode(), "text/plain": says}
        display(bundle, raw=True, metadata={"image/png": {"alt": says}})
    plt.close(fig)
    print(textwrap.fill(says, 110))


def with_alt_texts(notebook):
    """A copy of an executed notebook whose described pictures also stand as HTML with alt="...".

    notebook: an nbformat notebook node. JupyterLab's and nbconvert's own templates drop the
    alternative text of a PNG's metadata, an HTML picture keeps it; call this right before
    nbconvert's HTMLExporter.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            says = output.get("metadata", {}).get("image/png", {}).get("alt")
            if says and "image/png" in output.get("data", {}):
                source = "".join(output["data"]["image/png"]).replace("\n", "")
                picture = f'<img src="data:image/png;base64,{source}" alt="{html.escape(says)}">'
                output["data"]["text/html"] = picture
    return notebook


def _where(function) -> tuple[str, str | None]:
    """File of a function relative to the repository, and the link to it from a notebook; no link
    outside the repository.
    """
    path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    try:
        inside = path.resolve().relative_to(root().resolve())
    except ValueError:
        return "this notebook", None
    return inside.as_posix(), Path(os.path.relpath(root() / inside, notebooks_dir())).as_posix()


class _Folded:
    """Source text that a notebook shows folded, and a terminal as it is."""

    def __init__(self, name: str, source: str, where: str, link: str | None):
        self.name, self.source, self.where, self.link = name, source, where, link

    def _repr_html_(self) -> str:
        place = html.escape(self.where)
        place = f'<a href="{html.escape(self.link)}">{place}</a>' if self.link else place
        return (
            f"<details><summary>Source of <code>{html.escape(self.name)}</code>, from"
            f" {place}</summary><pre><code>{html.escape(self.source)}</code></pre></details>"
        )

    def __repr__(self) -> str:
        return f"Source of {self.name}, from {self.where}:\n\n{self.source}"


def show(function) -> None:
    """Folds the source of a function or class open, with a link to its file relative to the
    repository.

    Raises SettingError for something without Python source, such as a builtin or a variable.
    """
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (TypeError, OSError) as error:
        raise SettingError(
            f"{function!r} has no Python source to show; a function or class was expected. Pass the"
            " function itself, without calling it."
        ) from error
    display(
        _Folded(
            getattr(function, "__name__", type(function).__name__),
            source.rstrip(),
            *_where(function),
        )
    )
