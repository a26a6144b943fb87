"""In which words classes are asked for where the data bring no wordings of their own: one half of
the captions' templates in the search, the other in the report, and plain words where there are
too few.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LEAST, SEED = 3, 31
"""Wordings that a split has at least, and the seed by which templates are dealt out."""
PLAIN = {
    "search": ("{}", "a photo of {}", "this is {}", "a drawing of {}", "{} in black and white"),
    "report": ("a picture of {}", "it is {}", "an image of {}", "{} outdoors", "a painting of {}"),
}


def dealt(templates: Iterable[str], split: str) -> list[str]:
    """The templates of one split, at least three: every second of a fixed shuffle, filled up with
    plain words that are no template of either split.

    templates: texts with {}. split: search or report.
    """
    found = list(dict.fromkeys(templates))
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(found))
    mine = [found[i] for i in sorted(order[list(PLAIN).index(split) :: len(PLAIN)])]
    plain = [wording for wording in PLAIN[split] if wording not in found]
    return mine + plain[: max(0, LEAST - len(mine))]


def dealt_texts(prompts: dict[str, list[str]], split: str) -> dict[str, dict[str, list[str]]]:
    """Wording -> class -> its text, from as many texts of every class, dealt out like templates.

    prompts: class -> texts, the same wording in the same place. The wordings are numbered.
    """
    texts = len(next(iter(prompts.values())))
    numbers = [name for name in dealt(map(str, range(texts)), split) if name.isdigit()]
    return {
        f"template {name}": {c: [said[int(name)]] for c, said in prompts.items()}
        for name in numbers
    }
