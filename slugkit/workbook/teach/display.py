"""Figures with their description, and the source of a function folded open."""

import base64
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


def _packed(fig, dpi: float, colours: int) -> bytes:
    """The figure as PNG, with a palette of so many colours, 0 for all."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    # no tight box: a grid's pixels must fall on the screen's pixels
    fig.savefig(drawn, format="png", dpi=dpi, bbox_inches=None)
    image = Image.open(drawn).convert("RGB")
    if colours:
        image = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def small_png(fig, dpi: float = 100) -> bytes:
    """The figure as a PNG of at most 80 kB for a chart, 300 kB for one that holds pictures.

    First with all colours (pictures) or 256 (charts), then with fewer, at last with fewer dots per
    inch. Where even that does not reach the limit, the smallest one tried is returned.
    """
    pictures, tried = any(ax.images for ax in fig.findobj(plt.Axes)), []
    limit = GRID_BYTES if pictures else CHART_BYTES
    for scale in (1.0, 0.9, 0.75, 0.6):
        for colours in (0, 256, 128, 64) if pictures else (256, 96, 48):
            tried.append(_packed(fig, dpi * scale, colours))
            if len(tried[-1]) <= limit:
                return tried[-1]
    return min(tried, key=len)


def show_figure(fig, says: str, dpi: float = 100) -> None:
    """Shows a figure as a small PNG, prints its description `says`, and closes the figure.

    says: one or two sentences, not empty (SettingError). It stands in the output's metadata as the
    alternative text ("image/png": {"alt": ...}), which web pages show. Outside a notebook only the
    sentence is printed.
    """
    says = " ".join(str(says).split())
    if not says:
        raise SettingError(
            "`says` is empty; one sentence for those who cannot see it was expected."
        )
    if get_ipython() is not None:
        bundle = {"image/png": base64.b64encode(small_png(fig, dpi)).decode(), "text/plain": says}
        display(bundle, raw=True, metadata={"image/png": {"alt": says}})
    plt.close(fig)
    print(textwrap.fill(says, 110))


def _where(function) -> tuple[str, str | None]:
    """File of a function in the repository, and the link to it from a notebook, or None."""
    path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "").resolve()
    if not path.is_relative_to(root().resolve()):
        return "this notebook", None
    inside = path.relative_to(root().resolve())
    return inside.as_posix(), Path(os.path.relpath(root() / inside, notebooks_dir())).as_posix()


def show(function) -> None:
    """Folds the source of a function or class open, with a link to its file.

    Outside a notebook the source is printed. Raises SettingError for something without Python
    source, such as a builtin or a variable.
    """
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function))).rstrip()
    except (TypeError, OSError) as error:
        seen = f"{function!r} has no Python source to show"
        raise SettingError(f"{seen}; pass a function or class, without calling it.") from error
    name, (where, link) = function.__name__, _where(function)
    plain = f"Source of {name}, from {where}:\n\n{source}"
    if get_ipython() is None:
        print(plain)
        return
    place = f'<a href="{html.escape(link)}">{html.escape(where)}</a>' if link else where
    folded = (
        f"<details><summary>Source of <code>{html.escape(name)}</code>, from {place}</summary>"
        f"<pre><code>{html.escape(source)}</code></pre></details>"
    )
    display({"text/html": folded, "text/plain": plain}, raw=True)
