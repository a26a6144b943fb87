"""A slider over step sizes for Lab, with a static twin that stays in print and on web pages."""

import io
import os

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from slugkit.base import EmptySetError, SettingError, headless
from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import listing, percent


def live() -> bool:
    """Whether somebody sits before this notebook: a Jupyter server started the kernel (it names the
    notebook in JPY_SESSION_NAME) and nothing asks for headless work.
    """
    return bool(os.environ.get("JPY_SESSION_NAME")) and not headless()


def _as_array(frame) -> np.ndarray:
    """A frame as pixels (H, W, 3) uint8; a figure is drawn and closed."""
    frame = frame[0] if isinstance(frame, tuple) else frame
    if isinstance(frame, Figure):
        buffer = io.BytesIO()
        frame.savefig(buffer, format="png", dpi=100)
        plt.close(frame)
        buffer.seek(0)
        return (255 * plt.imread(buffer)[..., :3]).round().astype(np.uint8)
    pixels = look.as_array(frame)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise SettingError(
            f"A frame is {pixels.dtype} of shape {pixels.shape}; a figure or uint8 pixels (H, W, 3)"
            " was expected."
        )
    return pixels


def _png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file, small ones enlarged by a whole number."""
    times = max(1, 480 // pixels.shape[1])
    buffer = io.BytesIO()
    plt.imsave(buffer, np.kron(pixels, np.ones((times, times, 1), dtype=np.uint8)), format="png")
    return buffer.getvalue()


def _show_slider(frames, texts, start) -> None:
    """Shows the slider; the frames are drawn already, so moving it only swaps pictures."""
    import ipywidgets
    from IPython.display import display

    files = [_png(frame) for frame in frames]
    image = ipywidgets.Image(value=files[start], format="png", layout={"max_width": "560px"})
    options = [(text, i) for i, text in enumerate(texts)]
    slider = ipywidgets.SelectionSlider(options=options, value=start, description="step")
    slider.observe(lambda change: setattr(image, "value", files[change["new"]]), names="value")
    display(ipywidgets.VBox([slider, image]))


@look.dressed
def step_slider(frames: dict, start: float | None = None, title: str = "", columns: int = 0):
    """A slider over step sizes in a live Jupyter session; the frames side by side for everybody.

    frames: {rho: figure, (figure, says) or (H, W, 3) uint8 pixels}; start: the step shown first and
    outlined, default the smallest; columns: frames a row, 0 chooses. Returns (figure, description)
    of the static twin.
    """
    values = sorted(frames)
    if not values:
        raise EmptySetError("There is no step to draw; a dict of frames by step was expected.")
    arrays = [_as_array(frames[rho]) for rho in values]
    texts = [f"ρ = {percent(rho)}" for rho in values]
    first = 0 if start is None else int(np.argmin([abs(value - start) for value in values]))
    if live():
        _show_slider(arrays, texts, first)
    high, wide = arrays[0].shape[:2]
    most = 1 if wide > 2.5 * high else 4 if wide < 1.3 * high else 2
    columns = int(columns) or min(len(values), most)
    rows = -(-len(values) // columns)
    fig = look.canvas(9.4, rows * (9.4 / columns * high / wide + 0.32) + 0.5)
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(values) :]:
        ax.axis("off")
    for i, (ax, pixels, text) in enumerate(zip(axes, arrays, texts)):
        ax.imshow(pixels, interpolation="nearest" if wide < 400 else "auto")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        outlined = i == first and start is not None
        ax.set_title(text, fontsize=9, fontweight="bold" if outlined else "normal")
        ax.spines[:].set(visible=outlined, color=look.OKABE_ITO["vermilion"], linewidth=2)
    look.headline(fig, title or f"The same at {len(values)} step sizes")
    says = f"{len(values)} frames side by side, {listing(texts, 8)}."
    return fig, f"{title or 'The same picture'}: {says}"
