"""UnlearnCanvas's prompts: the benchmark's for the report, others for the search."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from slugkit.base import require_choice
from slugkit.data.unlearncanvas import OBJECTS, STYLES, concept_kind, prompt, spoken
from slugkit.tasks.prompts import COLUMNS, WORDS, as_answer_set, as_showcase

SEEDS = (188, 288, 588, 688, 888)
STEPS, GUIDANCE, PICTURE_SIZE = 100, 9.0, 512
TIERS = ("full", "lite", "smoke")
SMOKE_TARGET, SMOKE_REST = 20, 50


def _search_prompt(number: int, row: tuple) -> str:
    ways = WORDS["prompts"]["canvas"]
    return ways[number % len(ways)].format(thing=row[0], style=spoken(row[1]))


def _others(concept: str) -> tuple[list[str], list[str]]:
    """Objects and styles without the concept."""
    things, styles = ([n for n in names if n != concept] for names in (OBJECTS, STYLES))
    return things, styles


def canvas_answer_set(
    concept: str, split: str, tier: str = "smoke", target_size: int = 28, size: int = 1
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, with the columns of `answer_set`: for the "report"
    the benchmark's at this `tier`; for the "search" `target_size` pictures of the target and `size`
    of each other style. Raises SettingError, UnknownConceptError.
    """
    require_choice(split, ("search", "report"), "The split")
    if split == "report":
        return answer_set(concept, tier)
    names, looks = _others(concept)
    places = np.linspace(0, len(STYLES) - 1, target_size).round().astype(int)
    pairs = [(concept, STYLES[i]) for i in places]
    if concept_kind(concept) == "style":
        pairs = [(OBJECTS[i % len(OBJECTS)], concept) for i in range(target_size)]
    rows = [(*pair, "objects", "target", False) for pair in pairs]
    turns = ((i + k, style) for k in range(size) for i, style in enumerate(looks))
    rows += [(names[t % len(names)], style, "objects", "rest", False) for t, style in turns]
    return as_answer_set(rows, split, _search_prompt)


def canvas_showcase(concept: str) -> pd.DataFrame:
    """Eight prompts in the benchmark's words: the target three times, the same without it,
    others.
    """
    names, looks = _others(concept)
    things, styles = [names[i] for i in (5, 9, 17)], [looks[i] for i in (12, 24, 36)]
    targets = [(concept, style) for style in styles]
    if concept_kind(concept) == "style":
        targets = [(thing, concept) for thing in things]
    others = [*zip(things, styles), (names[2], looks[45]), (names[13], looks[5])]
    rows = [(prompt(*pair), "target") for pair in targets]
    return as_showcase(rows + [(prompt(*pair), "other") for pair in others])


def answer_set(concept: str, tier: str = "full") -> pd.DataFrame:
    """The pictures to draw for a model that unlearned `concept`.

    tier: "full", the benchmark's 5,100. "lite": the target from all seeds, the rest from the first
    (1,100 for a style, 1,224 for an object). "smoke": 20 of the target and 50 of the rest, from the
    first seed. Raises UnknownConceptError, SettingError.
    """
    require_choice(tier, TIERS, "The tier")
    column = "style" if concept_kind(concept) == "style" else "subject"
    rows = [(prompt(name, s), seed, name, s) for seed, s, name in product(SEEDS, STYLES, OBJECTS)]
    table = pd.DataFrame(rows, columns=COLUMNS[:4]).assign(domain="objects")
    table = table.assign(group=np.where(table[column] == concept, "target", "rest"), extra=False)
    if tier == "full":
        return table
    first, target = table["seed"] == SEEDS[0], table["group"] == "target"
    if tier == "lite":
        return table[target | first].reset_index(drop=True)
    mine = table[target & first]
    mine = mine.iloc[np.linspace(0, len(mine) - 1, SMOKE_TARGET).round().astype(int)]
    names, looks = _others(concept)
    turns = [names[i % len(names)] for i in range(SMOKE_REST)]
    diagonal = pd.DataFrame({"subject": turns, "style": looks[:SMOKE_REST]})
    others = diagonal.merge(table[~target & first], on=["subject", "style"])[table.columns]
    return pd.concat([mine, others], ignore_index=True)
