"""Figures made of pictures: grids, states of a model row by row, and answers about pictures."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from slugkit.base import EmptySetError, ShapeError
from slugkit.workbook.plots import look
from slugkit.workbook.plots.look import OKABE_ITO, listing, percent, wrap

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


def bare(ax) -> None:
    """An axes that shows a picture and nothing else."""
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)


def _text(fig, x: float, y: float, text: str, **style) -> None:
    """Words at a place that is given in pixels from the lower left."""
    width, height = fig.get_size_inches() * DPI
    if text:
        fig.text(x / width, y / height, text, **style)


@look.dressed
def picture_grid(
    images, labels=None, columns=8, title="", row_labels=None, borders=None, zoom=0, says=""
):
    """A grid of pictures, enlarged by a whole number so that every pixel stays sharp.

    images: (N, H, W, 3) uint8; labels: N texts under the pictures, wrapped; columns: pictures a
    row, >= 1; row_labels: a text per row, at its left; borders: N words or None, pictures with the
    same word get the same frame, named at the foot; zoom: enlargement, 0 chooses 1 to 4 so that the
    figure is at most about 1100 pixels wide; says: replaces the plain description. Returns (figure,
    description). Raises ShapeError, EmptySetError.
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
    texts = [
        wrap(label, (wide + GAP - 4) / (7.5 * 0.77)) for label in ([] if labels is None else labels)
    ]
    lines = max((text.count("\n") + 1 for text in texts), default=0)
    step = high + GAP + (int(lines * 7.5 * 1.75) + 3 if texts else 0)
    borders = [None] * count if borders is None else borders
    kinds = [kind for kind in dict.fromkeys(borders) if kind is not None]
    width = 2 * EDGE + side + columns * (wide + GAP) - GAP
    width = max(width, 9 * len(title) if len(title) < 40 else 0)
    heading = wrap(title, (width - 2 * EDGE) / 9.6) if title else ""
    head = 34 + 16 * heading.count("\n") if title else EDGE
    height = head + EDGE + 16 * bool(kinds) + rows * step - GAP
    fig = plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    _text(fig, EDGE, height - 10, heading, va="top", fontsize=11, fontweight="bold")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        x, y = EDGE + side + column * (wide + GAP), height - head - row * step - high
        ax = fig.add_axes([x / width, y / height, wide / width, high / height])
        ax.imshow(picture, interpolation="nearest", aspect="auto")
        bare(ax)
        if borders[index] is not None:
            style = BORDERS[kinds.index(borders[index]) % 4]
            ax.spines[:].set(visible=True, **style)
        if texts:
            _text(fig, x + wide / 2, y - 3, texts[index], ha="center", va="top", fontsize=7.5)
        if names and column == 0:
            _text(fig, EDGE, y + high / 2, names[row], va="center", fontsize=8.5)
    if kinds:
        handles = [plt.Line2D([], [], label=k, **BORDERS[i % 4]) for i, k in enumerate(kinds)]
        place = dict(loc="lower left", bbox_to_anchor=(0.004, 2 / height))
        fig.legend(handles=handles, ncols=len(handles), handlelength=3, **place)
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
    texts (or "") printed under the other rows, such as what the judge says. Returns (figure,
    description). Raises ShapeError for rows of different length.
    """
    for state, pictures in rows.items():
        same_length(f"the row {state}", pictures, len(prompts), "prompts")
    labels = []
    for number, state in enumerate(rows):
        said = (answers or {}).get(state, [""] * len(prompts))
        told = [f"→ {answer}" if answer else "" for answer in said]
        labels += told if number else map(str, prompts)
    states = "one state of the model"
    if len(rows) > 1:
        states = f"{len(rows)} states of the model, row by row"
    says = f"The same {len(prompts)} prompts and seeds in {states}: {listing(rows, 6)}. {title}"
    style = dict(columns=len(prompts), title=title, row_labels=list(rows), zoom=2)
    frames = None if what is None else list(what) * len(rows)
    pictures = np.concatenate(list(rows.values()))
    return picture_grid(pictures, labels, borders=frames, says=says.strip(), **style)


def step_strip(rows: dict, rhos, answers: dict | None = None, title: str = ""):
    """Some prompts, each with one seed, over growing steps: one row a prompt, one column a step.

    rows: prompt -> (S, H, W, 3) uint8; rhos: S relative steps; answers: prompt -> S texts. Returns
    (figure, description). Raises ShapeError for a row of another length.
    """
    labels = []
    for prompt, pictures in rows.items():
        same_length(f"the row {prompt!r}", pictures, len(rhos), "steps")
        said = [f"\n{answer}" for answer in answers[prompt]] if answers else [""] * len(rhos)
        labels += [f"ρ = {percent(rho)}{answer}" for rho, answer in zip(rhos, said, strict=True)]
    says = f"{len(rows)} prompts, one seed each, over relative steps from {percent(min(rhos))}"
    says = f"{says} to {percent(max(rhos))}. {title}".strip()
    style = dict(columns=len(rhos), title=title, row_labels=list(rows), says=says)
    return picture_grid(np.concatenate(list(rows.values())), labels, **style)


@look.dressed
def dialogue(
    images, questions, answers: dict, right: dict | None = None, columns: int = 2, title: str = ""
):
    """Pictures with a question each, and under it what the model answers in each of its states.

    images: (N, H, W, 3) uint8; questions: N texts; answers: state -> N texts; right: state -> N
    bool, which answers are marked as right or wrong; columns: pictures side by side. Returns
    (figure, description). Raises ShapeError for lists of another length.
    """
    images, count = as_pictures(images), len(questions)
    for state, said in answers.items():
        if len(said) != count or len(images) != count:
            raise ShapeError(
                f"{len(images)} pictures, {count} questions and {len(said)} answers ({state}) were"
                " given; one of each was expected."
            )
    rows = -(-count // columns)
    fig = look.canvas(4.9 * columns, 0.3 + (0.62 + 0.27 * len(answers)) * rows)
    axes = fig.subplots(rows, 2 * columns, width_ratios=[1, 3.4] * columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (picture, words) in zip(range(count), axes.reshape(-1, 2)):
        picture.imshow(images[number], interpolation="nearest")
        lines = [(f"“{questions[number]}”", dict(color=look.INK, style="italic"))]
        for state, said in answers.items():
            mark, shade = "", look.INK
            if right is not None:
                good = bool(right[state][number])
                mark, shade = ("✓ ", "blue") if good else ("✗ ", "vermilion")
            answer = textwrap.shorten(said[number] or "(nothing)", 44)
            lines.append((f"{mark}{state}: {answer}", dict(color=OKABE_ITO.get(shade, shade))))
        for place, (text, style) in enumerate(lines):
            style |= dict(fontsize=8.5, va="top", transform=words.transAxes)
            words.text(0.0, 0.9 - place * 0.9 / len(lines), text, **style)
    if title:
        look.headline(fig, title)
    says = []
    for i, question in enumerate(questions):
        told = [f"{state}: {said[i].rstrip('.')}" for state, said in answers.items()]
        says.append(f"{question} {', '.join(told)}")
    return fig, f"{count} pictures, a question each, and the answers. " + "; ".join(says[:4]) + "."
