"""UnlearnCanvas in notebook 06: the benchmark's own prompts and seeds for the report, others for
the search, a few to look at, and the two sides of its FID.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from slugkit.base import require_choice
from slugkit.data.unlearncanvas import OBJECTS, STYLES, concept_kind, prompt, spoken
from slugkit.tasks.prompts import COLUMNS, FIRST_SEED, as_showcase

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
    prompt, seed, what, as of `slugkit.tasks.prompts.showcase`.

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


SEEDS = (188, 288, 588, 688, 888)


STEPS, GUIDANCE, PICTURE_SIZE = 100, 9.0, 512


TIERS = ("full", "lite", "smoke")


SMOKE_TARGET = 20


def _all_prompts() -> pd.DataFrame:
    rows = [(prompt(name, s), seed, name, s) for seed, s, name in product(SEEDS, STYLES, OBJECTS)]
    table = pd.DataFrame(rows, columns=["prompt", "seed", "subject", "style"])
    return table.assign(domain="objects")


def answer_set(concept: str, tier: str = "full") -> pd.DataFrame:
    """The pictures to draw for a model that unlearned `concept`: columns prompt, seed, subject (the
    object), style, domain, group ("target" or "rest"), extra, as of
    `slugkit.tasks.prompts.answer_set`.

    tier: "full", the benchmark's 5,100. "lite": the target from all seeds, the rest from the first
    (1,100 for a style, 1,224 for an object). "smoke": 20 pictures of the target and 50 of the rest,
    from the first seed, spread evenly over objects and styles. lite and smoke are parts of full.
    Raises UnknownConceptError, SettingError for another tier.
    """
    require_choice(tier, TIERS, "The tier")
    column, table = "style" if concept_kind(concept) == "style" else "subject", _all_prompts()
    table = table.assign(group=np.where(table[column] == concept, "target", "rest"), extra=False)
    if tier == "full":
        return table
    first, target = table["seed"] == SEEDS[0], table["group"] == "target"
    if tier == "lite":
        return table[target | first].reset_index(drop=True)
    mine = table[target & first]
    mine = mine.iloc[np.linspace(0, len(mine) - 1, SMOKE_TARGET).round().astype(int)]
    rest = table[~target & first]
    names, looks = ([n for n in all_names if n != concept] for all_names in (OBJECTS, STYLES))
    turns = [names[i % len(names)] for i in range(50)]
    diagonal = pd.DataFrame({"subject": turns, "style": looks[:50]})
    others = diagonal.merge(rest, on=["subject", "style"])[table.columns]
    return pd.concat([mine, others], ignore_index=True)
