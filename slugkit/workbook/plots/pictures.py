"""Figures made of pictures: grids, states of a model row by row, and answers about pictures."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from slugkit.base import EmptySetError, ShapeError
from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import BLUE, GREEN, INK, PURPLE, VERMILION, listing, percent, wrap

DPI = 100
EDGE, GAP = 14, 8  # pixels around the grid, between two pictures
BORDERS = [
    dict(color=colour, linestyle=line, linewidth=3)
    for colour, line in zip((VERMILION, BLUE, GREEN, PURPLE), ("-", "--", ":", "-."))
]
"""How pictures of one word are framed."""


def as_pictures(images) -> np.ndarray:
    """Pictures as an array (N, H, W, 3) uint8.

    Raises ShapeError for another shape or dtype, EmptySetError for none.
    """
    pictures = look.as_array(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
        raise ShapeError(
            f"The pictures arrived as {pictures.dtype} of shape {pictures.shape}; uint8 of shape"
            " (N, H, W, 3), values 0..255, was expected. Undo the model's normalisation, move the"
            " channels last and round."
        )
    if len(pictures) == 0:
        raise EmptySetError("There are no pictures to show; at least one was expected.")
    return pictures


def same_length(name: str, values, count: int, what: str) -> None:
    """Raises ShapeError where there are values, and not as many as expected."""
    if values is not None and len(values) != count:
        raise ShapeError(
            f"{name} has {len(values)} entries for {count} {what}; one each was expected."
        )


def bare(ax, picture) -> None:
    """An axes that shows a picture and nothing else."""
    ax.imshow(picture, interpolation="nearest", aspect="auto")
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)


def _panels(rows: int, columns: int, size: tuple[int, ...], title: str):
    """A figure with panels for pictures, under its title; size: width and height of a picture, and
    the room at the left, below each picture and at the foot, in pixels.
    """
    wide, high, side, below, foot = size
    left, right = EDGE + side, EDGE + side + columns * (wide + GAP) - GAP
    width = max(right + EDGE, 9 * len(title) if len(title) < 40 else 0)
    heading = wrap(title, (width - 2 * EDGE) / 9.6) if title else ""
    bottom = EDGE + foot + below - GAP
    top = bottom + rows * (high + below) - below
    height = top + (34 + 16 * heading.count("\n") if title else EDGE)
    places = dict(left=left / width, right=right / width, bottom=bottom / height, top=top / height)
    places |= dict(wspace=GAP / wide, hspace=below / high)
    size = dict(figsize=(width / DPI, height / DPI), dpi=DPI, layout="none")
    fig, axes = plt.subplots(rows, columns, squeeze=False, gridspec_kw=places, **size)
    style = dict(ha="left", va="top", fontsize=11, fontweight="bold")
    fig.suptitle(heading, x=EDGE / width, y=1 - 10 / height, **style)
    return fig, axes


@look.dressed
def picture_grid(
    images, labels=None, columns=8, title="", row_labels=None, borders=None, zoom=0, says=""
):
    """A grid of pictures, enlarged by a whole number so that every pixel stays sharp.

    images: (N, H, W, 3) uint8; labels: N texts under the pictures, wrapped; columns: pictures a
    row, >= 1; row_labels: a text per row, at its left; borders: N words or None, pictures with the
    same word get the same frame, named at the foot; zoom: enlargement, 0 chooses 1 to 4 so that the
    figure is at most about 1100 pixels wide; says: replaces the plain description. Raises
    ShapeError, EmptySetError.
    """
    pictures = as_pictures(images)
    count, high, wide = pictures.shape[:3]
    columns = max(1, min(int(columns), count))
    rows = -(-count // columns)
    same_length("labels", labels, count, "pictures")
    same_length("borders", borders, count, "pictures")
    same_length("row_labels", row_labels, rows, "rows")
    names = [wrap(text, 18) for text in ([] if row_labels is None else row_labels)]
    longest = max((len(line) for text in names for line in text.split("\n")), default=0)
    side = 12 + min(120, 6 * longest) if names else 0
    most = 3 if labels is None else 2
    zoom = int(zoom) or int(np.clip(((1110 - side) / columns - GAP) // wide, 1, most))
    wide, high = wide * zoom, high * zoom
    fits = (wide + GAP - 4) / (7.5 * 0.77)
    texts = [wrap(label, fits) for label in ([] if labels is None else labels)]
    lines = max((text.count("\n") + 1 for text in texts), default=0)
    below = GAP + (int(lines * 7.5 * 1.75) + 3 if texts else 0)
    borders = [None] * count if borders is None else borders
    kinds = [kind for kind in dict.fromkeys(borders) if kind is not None]
    frames = {kind: BORDERS[number % len(BORDERS)] for number, kind in enumerate(kinds)}
    size = wide, high, side, below, 16 * bool(kinds)
    fig, axes = _panels(rows, columns, size, title)
    for ax, picture, text, kind in zip(axes.flat, pictures, texts or [""] * count, borders):
        bare(ax, picture)
        ax.set_xlabel(text, fontsize=7.5, labelpad=2)
        if kind is not None:
            ax.spines[:].set(visible=True, **frames[kind])
    for ax, name in zip(axes[:, 0], names):
        ax.set_ylabel(name, fontsize=8.5, rotation=0, ha="right", va="center", labelpad=6)
    for ax in axes.flat[count:]:
        ax.remove()
    if kinds:
        handles = [plt.Line2D([], [], label=kind, **frames[kind]) for kind in kinds]
        fig.legend(handles=handles, ncols=len(handles), handlelength=3, loc="lower left")
    return fig, says or _grid_says(count, rows, columns, labels, row_labels, kinds)


def _grid_says(count, rows, columns, labels, row_labels, kinds) -> str:
    """Plain description of a grid."""
    text = f"{count} picture{'s' * (count > 1)} in {rows} row{'s' * (rows > 1)} of {columns}"
    if row_labels is not None:
        text += f", row by row: {listing(row_labels, 6)}"
    elif labels is not None:
        text += f", among them {listing(dict.fromkeys(labels), 5)}"
    return text + (f"; frames mark {listing(kinds)}." if kinds else ".")


def before_after(rows: dict, prompts, what=None, answers: dict | None = None, title: str = ""):
    """One row of pictures for each state of the model, the same prompt and seed in every column.

    rows: state -> (N, H, W, 3) uint8, the unedited model first; prompts: N texts, printed under the
    first row; what: N words, columns with the same word get the same frame; answers: state -> N
    texts (or "") printed under the other rows, such as what the judge says. Raises ShapeError for
    rows of different length.
    """
    labels = []
    for number, (state, pictures) in enumerate(rows.items()):
        same_length(f"the row {state}", pictures, len(prompts), "prompts")
        said = (answers or {}).get(state, [""] * len(prompts))
        told = [f"→ {answer}" if answer else "" for answer in said]
        labels += told if number else map(str, prompts)
    states = "one state of the model"
    if len(rows) > 1:
        states = f"{len(rows)} states of the model, row by row"
    says = f"The same {len(prompts)} prompts and seeds in {states}: {listing(rows, 6)}. {title}"
    frames = None if what is None else list(what) * len(rows)
    style = dict(title=title, row_labels=list(rows), borders=frames, zoom=2, says=says.strip())
    return picture_grid(np.concatenate(list(rows.values())), labels, len(prompts), **style)


def step_strip(rows: dict, rhos, answers: dict | None = None, title: str = ""):
    """Some prompts, each with one seed, over growing steps: one row a prompt, one column a step.

    rows: prompt -> (S, H, W, 3) uint8; rhos: S relative steps; answers: prompt -> S texts. Raises
    ShapeError for a row of another length.
    """
    labels = []
    for prompt, pictures in rows.items():
        same_length(f"the row {prompt!r}", pictures, len(rhos), "steps")
        said = [f"\n{answer}" for answer in answers[prompt]] if answers else [""] * len(rhos)
        labels += [f"ρ = {percent(rho)}{answer}" for rho, answer in zip(rhos, said, strict=True)]
    says = f"{len(rows)} prompts, one seed each, over relative steps from {percent(min(rhos))}"
    says = f"{says} to {percent(max(rhos))}. {title}".strip()
    style = dict(title=title, row_labels=list(rows), says=says)
    return picture_grid(np.concatenate(list(rows.values())), labels, len(rhos), **style)


@look.dressed
def dialogue(
    images, questions, answers: dict, right: dict | None = None, columns: int = 2, title: str = ""
):
    """Pictures with a question each, and under it what the model answers in each of its states.

    images: (N, H, W, 3) uint8; questions: N texts; answers: state -> N texts; right: state -> N
    bool, which answers are marked as right or wrong; columns: pictures side by side. Raises
    ShapeError for lists of another length.
    """
    images, count = as_pictures(images), len(questions)
    for state, said in answers.items():
        if len(said) != count or len(images) != count:
            raise ShapeError(
                f"{len(images)} pictures, {count} questions and {len(said)} answers ({state}) were"
                " given; one of each was expected."
            )
    rows, says = -(-count // columns), []
    size = 4.9 * columns, 0.3 + (0.62 + 0.27 * len(answers)) * rows
    shape = dict(width_ratios=[1, 3.4] * columns, squeeze=False)
    fig, axes = look.canvas(*size, rows, 2 * columns, **shape)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (picture, words) in zip(range(count), axes.reshape(-1, 2)):
        picture.imshow(images[number], interpolation="nearest")
        lines, told = [(f"“{questions[number]}”", dict(color=INK, style="italic"))], []
        for state, said in answers.items():
            mark, colour = "", INK
            if right is not None:
                mark, colour = ("✓ ", BLUE) if right[state][number] else ("✗ ", VERMILION)
            answer = textwrap.shorten(said[number] or "(nothing)", 44)
            lines.append((f"{mark}{state}: {answer}", dict(color=colour)))
            told.append(f"{state}: {said[number].rstrip('.')}")
        for place, (text, style) in enumerate(lines):
            words.text(0.0, 0.9 - place * 0.9 / len(lines), text, fontsize=8.5, va="top", **style)
        says.append(f"{questions[number]} {', '.join(told)}")
    if title:
        look.headline(fig, title)
    return fig, f"{count} pictures, a question each, and the answers. " + "; ".join(says[:4]) + "."
