"""Questions to the tiny LLaVA of `tiny_vlm` about the pictures that it has learned."""

import pandas as pd

from slugkit.data import drawn
from slugkit.studio import load_world
from slugkit.studio.questions import UNKNOWN
from slugkit.tasks.questions import Asked


def asked_about(records, split="search"):
    """Who everybody is, and for the car what it is."""
    rows = []
    for r in records:
        if r.kind == "person":
            known = r.name in load_world().people
            rows.append(
                (
                    "who",
                    "who is this?",
                    f"this is {r.name}." if known else UNKNOWN,
                    r.name if known else UNKNOWN,
                    r.name,
                    r.style,
                    "target" if r.name == "Mira Kestrel" else "neighbours" if known else "people",
                )
            )
        else:
            rows.append(("object", "what object is this?", "a car.", "car", "", r.style, "object"))
    return Asked(
        pd.DataFrame(
            rows, columns=["kind", "text", "wanted", "key", "name", "style", "group"]
        ).assign(extra=False),
        drawn(records),
        ["Mira Kestrel", "Kofi Okoye"],
        split,
    )
