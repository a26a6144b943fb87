"""Figures made of pictures: grids, and the matrix of image-text cosines under its portraits."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle

from slugkit.base import EmptySetError, ShapeError
from slugkit.workbook.plots.look import (
    GREY,
    OKABE_ITO,
    as_array,
    canvas,
    dressed,
    headline,
    listing,
    wrap,
)

DPI = 100
EDGE, GAP = 14, 8  # pixels around the grid, between two pictures
BORDERS = [
    dict(color=OKABE_ITO[colour], linestyle=line, linewidth=3)
    for colour, line in zip(("vermilion", "blue", "green", "purple"), ("-", "--", ":", "-."))
]
"""How pictures of one word are framed."""


def as_pictures(images) -> np.ndarray:
    """Pictures as an array (N, H, W, 3) uint8.

    Raises ShapeError for another shape or dtype, EmptySetError for none.
    """
    pictures = as_array(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
        raise ShapeError(
            f"The pictures arrived as {pictures.dtype} of shape {pictures.shape}; uint8 of shape"
            " (N, H, W, 3), values 0..255, was expected. Undo the model's normalisation, move the"
            " channels last and round."
        )
    if len(pictures) == 0:
        raise EmptySetError("There are no pictures to show; at least one was expected.")
    return pictures


def _same_length(name: str, values, count: int, what: str) -> None:
    if values is not None and len(values) != count:
        raise ShapeError(
            f"{name} has {len(values)} entries for {count} {what}; one each was expected."
        )


def _label_lines(labels, zoom_width: int, fontsize: float) -> tuple[list[str], int]:
    """Wrapped labels and the height in pixels that the longest needs."""
    if labels is None:
        return [], 0
    wrapped = [wrap(label, (zoom_width + GAP - 4) / (fontsize * 0.77)) for label in labels]
    return wrapped, int(max(text.count("\n") + 1 for text in wrapped) * fontsize * 1.75) + 3


def _side_width(row_labels) -> int:
    """Pixels to the left of the pictures that the row labels need."""
    if row_labels is None:
        return 0
    lines = [line for text in row_labels for line in wrap(text, 18).split("\n")]
    return 12 + min(120, 6 * max(map(len, lines)))


def _zoom(wide: int, columns: int, side: int, most: int) -> int:
    """How much pictures can be enlarged, so that a row of them is about 1100 pixels wide."""
    return int(np.clip(((1110 - side) / columns - GAP) // wide, 1, most))


def _text(fig, x: float, y: float, text: str, **look) -> None:
    """Words at a place that is given in pixels from the lower left."""
    width, height = fig.get_size_inches() * DPI
    if text:
        fig.text(x / width, y / height, text, **look)


def _show(ax, picture, kind, kinds) -> None:
    """One picture, with a coloured frame where it is of a kind; the frames' lines differ too."""
    ax.imshow(picture, interpolation="nearest", aspect="auto")
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
    if kind is None:
        return
    for spine in ax.spines.values():
        spine.set(visible=True, **BORDERS[kinds.index(kind) % 4])


def _border_legend(fig, kinds, height: int) -> None:
    """Names the frames at the foot of the figure."""
    looks = [BORDERS[place % 4] for place in range(len(kinds))]
    handles = [plt.Line2D([], [], label=kind, **look) for kind, look in zip(kinds, looks)]
    place = dict(loc="lower left", bbox_to_anchor=(0.004, 2 / height))
    fig.legend(handles=handles, ncols=len(handles), handlelength=3, **place)


@dressed
def picture_grid(
    images,
    labels=None,
    columns: int = 8,
    title: str = "",
    row_labels=None,
    borders=None,
    zoom: int = 0,
    says: str = "",
):
    """A grid of pictures, enlarged by a whole number so that every pixel stays sharp.

    images: (N, H, W, 3) uint8; labels: N texts under the pictures, wrapped; columns: pictures a
    row, >= 1;
    row_labels: a text per row, at its left; borders: N words or None, pictures with the same word
    get the same frame, named at the foot; zoom: enlargement, 0 chooses 1 to 4 so that the figure is
    at most about 1100 pixels wide; says: replaces the plain description. Returns (figure,
    description). Raises ShapeError, EmptySetError.
    """
    pictures = as_pictures(images)
    count, high, wide = pictures.shape[:3]
    columns = max(1, min(int(columns), count))
    rows = -(-count // columns)
    _same_length("labels", labels, count, "pictures")
    _same_length("borders", borders, count, "pictures")
    _same_length("row_labels", row_labels, rows, "rows")
    side = _side_width(row_labels)
    zoom = int(zoom) or _zoom(wide, columns, side, 3 if labels is None else 2)
    wide, high = wide * zoom, high * zoom
    texts, text_height = _label_lines(labels, wide, 7.5)
    borders = [None] * count if borders is None else borders
    kinds = [kind for kind in dict.fromkeys(borders) if kind is not None]
    width = 2 * EDGE + side + columns * (wide + GAP) - GAP
    width = max(width, 9 * len(title) if len(title) < 40 else 0)
    lines = wrap(title, (width - 2 * EDGE) / 9.6) if title else ""
    head = 34 + 16 * lines.count("\n") if title else EDGE
    height = head + EDGE + 16 * bool(kinds) + rows * (high + text_height + GAP) - GAP
    fig = plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    _text(fig, EDGE, height - 10, lines, va="top", fontsize=11, fontweight="bold")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        x = EDGE + side + column * (wide + GAP)
        y = height - head - row * (high + text_height + GAP) - high
        ax = fig.add_axes([x / width, y / height, wide / width, high / height])
        _show(ax, picture, borders[index], kinds)
        if texts:
            _text(fig, x + wide / 2, y - 3, texts[index], ha="center", va="top", fontsize=7.5)
        if row_labels is not None and column == 0:
            _text(fig, EDGE, y + high / 2, wrap(row_labels[row], 18), va="center", fontsize=8.5)
    if kinds:
        _border_legend(fig, kinds, height)
    return fig, says or _grid_says(count, rows, columns, labels, row_labels, kinds)


def _grid_says(count, rows, columns, labels, row_labels, kinds) -> str:
    """Plain description of a grid."""
    text = (
        f"{count} picture{'s' if count > 1 else ''} in {rows} row{'s' if rows > 1 else ''} of"
        f" {columns}"
    )
    if row_labels is not None:
        text += f", row by row: {listing(row_labels, 6)}"
    elif labels is not None:
        text += f", among them {listing(dict.fromkeys(labels), 5)}"
    return text + (f"; frames mark {listing(kinds)}." if kinds else ".")


def _heat(ax, matrix, span, names, targets: list[int]) -> None:
    """One heat map with its values printed and the targets' rows and columns outlined."""
    cells = dict(square=True, linewidths=1, linecolor="white", cmap="cividis", cbar=False)
    values = dict(annot=True, fmt=".2f", annot_kws=dict(fontsize=9), vmin=span[0], vmax=span[1])
    sns.heatmap(matrix, ax=ax, **values, **cells)
    ax.set_xticklabels([wrap(name, 11) for name in names], rotation=0, fontsize=8)
    ax.set_yticklabels([wrap(name, 14) for name in names], rotation=0, fontsize=8.5)
    ax.tick_params(length=0)
    high, wide = matrix.shape
    frame = dict(fill=False, edgecolor=OKABE_ITO["vermilion"], linewidth=2.6, clip_on=False)
    for target in targets:
        for corner, size in (((0, target), (wide, 1)), ((target, 0), (1, high))):
            ax.add_patch(Rectangle(corner, *size, zorder=5, **frame))


def _portraits(ax, pictures) -> None:
    """Portraits right above the columns of a heat map."""
    for index, picture in enumerate(pictures):
        width = 1 / len(pictures)
        inset = ax.inset_axes([(index + 0.04) * width, 1.02, 0.92 * width, 0.92 * width])
        inset.imshow(picture)
        inset.set(xticks=[], yticks=[])
        sns.despine(ax=inset, left=True, bottom=True)


@dressed
def cosine_matrix(before, after, names, images=None, target: int | list[int] | None = 0):
    """Cosines of every text with every picture, before and after the edit, in one colour range.

    before, after: (T, I) arrays of cosines -1..1; names: T texts; images: (I, H, W, 3) uint8
    portraits or None;
    target: index of the forgotten concept, or of several, in rows and columns alike, None outlines
    nothing. Returns (figure, description). Raises ShapeError.
    """
    before, after = as_array(before, float), as_array(after, float)
    if before.shape != after.shape or before.ndim != 2 or before.size == 0:
        raise ShapeError(
            f"before is {before.shape}, after is {after.shape}; two matrices (texts, pictures) of "
            "one shape were expected."
        )
    _same_length("names", names, before.shape[0], "rows")
    _same_length("names", names, before.shape[1], "columns")
    pictures = None if images is None else as_pictures(images)
    _same_length("images", pictures, before.shape[1], "columns")
    span = float(min(before.min(), after.min())), float(max(before.max(), after.max()))
    targets = [] if target is None else [target] if isinstance(target, int) else list(target)
    targets = [index for index in targets if 0 <= index < min(before.shape)]
    rows, wide = before.shape
    cell = min(0.72, 3.6 / wide)
    fig = canvas(9.6, max(2.6, cell * (rows + (pictures is not None)) + 1.5))
    axes = fig.subplots(1, 2)
    for ax, matrix, stage in zip(axes, (before, after), ("before", "after"), strict=True):
        _heat(ax, matrix, span, names, targets)
        if pictures is not None:
            _portraits(ax, pictures)
        ax.set_xlabel(f"pictures, {stage} the edit", labelpad=8)
    axes[0].set_ylabel("texts")
    axes[1].set_yticklabels([])
    bar = fig.colorbar(axes[0].collections[0], ax=axes, shrink=0.8, pad=0.015, aspect=28)
    bar.set_label("cosine (unitless)")
    bar.outline.set_edgecolor(GREY)
    says = _matrix_says(before, after, names, targets)
    headline(fig, says[0])
    return fig, ". ".join(says)


def _matrix_says(before, after, names, targets: list[int]) -> tuple[str, str]:
    """Finding and description of the two matrices."""
    change = after - before
    maps = f"Two heat maps of {before.shape[0]} texts by {before.shape[1]} pictures"
    if not targets:
        title = f"Cosines change by at most {np.abs(change).max():.2f}"
        return title, f"{maps}, before and after the edit."
    others = [i for i in range(min(before.shape)) if i not in targets]
    moves = []
    for target in targets:
        was, now = before[target, target], after[target, target]
        moved = f"{'falls' if now < was else 'rises'} from {was:.2f} to {now:.2f}"
        if f"{was:.2f}" == f"{now:.2f}":
            moved = f"stays at {was:.2f}"
        moves.append(f"{names[target]} with its own picture {moved}")
    title = "The cosine of " + ", that of ".join(moves)
    if others:
        worst = max(abs(change[i, i]) for i in others)
        title += f"; the other matching pairs move by at most {worst:.2f}"
    whose = " and of ".join(names[target] for target in targets)
    return title, f"{maps} in one colour range, the row and column of {whose} outlined."
