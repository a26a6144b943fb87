"""UnlearnCanvas in notebook 06: the benchmark's own prompts and seeds for the report, others for
the search, a few to look at, and the two sides of its FID.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import CanvasSource
from slugkit.data.pictures import Pictures
from slugkit.data.unlearncanvas import OBJECTS, STYLES, concept_kind, prompt, spoken
from slugkit.evaluate.frechet import INCEPTION_FEATURES
from slugkit.evaluate.prompts import COLUMNS, FIRST_SEED, as_showcase
from slugkit.evaluate.unlearncanvas import PICTURE_SIZE, answer_set

SEARCH = (
    "A painting of {} in {} style",
    "{}, painted in the style of {}",
    "{} style, a picture of {}",
)
"""Our wordings for the search: object and style, in the last one style and object.

The benchmark's own wording is for the report alone.
"""


def _search_prompt(number: int, name: str, style: str) -> str:
    words = (name, spoken(style))
    turn = number % len(SEARCH)
    return SEARCH[turn].format(*(words[::-1] if turn == 2 else words))


def _others(concept: str) -> tuple[list[str], list[str]]:
    """Objects and styles without the concept."""
    things, styles = ([n for n in names if n != concept] for names in (OBJECTS, STYLES))
    return things, styles


def canvas_answer_set(
    concept: str, split: str, tier: str = "smoke", target_size: int = 28, size: int = 1
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, with the columns of
    `slugkit.evaluate.unlearncanvas.answer_set`.

    split: "report", the benchmark's answer set at this `tier`; "search", other wordings and seeds:
    `target_size` pictures of the target, spread over the objects (of a style) or styles (of an
    object), and `size` of each other style, over the objects. Raises SettingError for another split
    or tier, UnknownConceptError.
    """
    require_choice(split, ("search", "report"), "The split")
    if split == "report":
        return answer_set(concept, tier)
    styled, (names, looks) = concept_kind(concept) == "style", _others(concept)
    if styled:
        rows = [(OBJECTS[i % len(OBJECTS)], concept, "target") for i in range(target_size)]
    else:
        places = np.linspace(0, len(STYLES) - 1, target_size).round().astype(int)
        rows = [(concept, STYLES[i], "target") for i in places]
    turns = ((i + k, style) for k in range(size) for i, style in enumerate(looks))
    rows += [(names[turn % len(names)], style, "rest") for turn, style in turns]
    first, table = FIRST_SEED["search"], []
    for number, (name, style, group) in enumerate(rows):
        said = _search_prompt(number, name, style)
        table.append((said, first + number, name, style, "objects", group, False))
    return pd.DataFrame(table, columns=COLUMNS)


def canvas_showcase(concept: str) -> pd.DataFrame:
    """Eight prompts to look at, in the benchmark's words, with seeds that no split uses: columns
    prompt, seed, what, as of `slugkit.evaluate.prompts.showcase`.

    The target three times, in other styles or of other objects; the same objects or styles without
    it; two that share nothing with it.
    """
    names, looks = _others(concept)
    things, styles = [names[i] for i in (5, 9, 17)], [looks[i] for i in (12, 24, 36)]
    targets = [(concept, style) for style in styles]
    if concept_kind(concept) == "style":
        targets = [(thing, concept) for thing in things]
    others = [*zip(things, styles), (names[2], looks[45]), (names[13], looks[5])]
    rows = [(prompt(*pair), "target") for pair in targets]
    return as_showcase(rows + [(prompt(*pair), "other") for pair in others])


def frechet_sets(
    source: CanvasSource, concept: str, size: int, seed: int = 0
) -> tuple[pd.DataFrame, Pictures]:
    """What the benchmark's FID compares: the rest of the full answer set, to be drawn, and pictures
    of the data set, undecoded at 512 x 512 (squashed).

    Neither side holds the target. Of both `size` are drawn without replacement, or all where there
    are fewer: up to 5,000 for a style, 4,845 for an object. The pictures are those of the report,
    five of each object in each style; the benchmark takes numbers 1 to 5, which may be ones that a
    gradient saw. Raises SettingError for fewer than 2,049 on a side, of which the covariance of
    2,048 features would be singular.
    """
    table, pairs = answer_set(concept, "full"), source.exam(concept, "report").pairs
    table = table[table["group"] == "rest"]
    column = "style" if concept_kind(concept) == "style" else "concept"
    real = pairs.where(pairs.table[column] != concept).images
    found = min(size, len(table), len(real))
    if found <= INCEPTION_FEATURES:
        raise SettingError(
            f"frechet_size {size} with {len(real)} report pictures in {source.name!r} compares"
            f" {found}; more than {INCEPTION_FEATURES} on each side were expected, as many as"
            " Inception has features. Ask for 5000, and unpack more of the data set; 0 leaves it"
            " out."
        )
    rows = np.sort(np.random.Generator(np.random.PCG64([seed, 13])).permutation(len(real))[:size])
    drawn = table.sample(min(size, len(table)), random_state=seed).reset_index(drop=True)
    return drawn, Pictures(real.take(rows).places, PICTURE_SIZE, "squash")
