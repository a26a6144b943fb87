"""Choose SLUG-R's damping once: on the search split, of concepts that are no report concepts.

    python ci/damping.py [CONCEPT ...]

Forgets each of them in both towers by SLUG and by SLUG-R at several dampings, on all candidate layers with the same
probes, and writes data/studio/damping.csv: a row a concept, tower and damping (0 is SLUG) with the winner and what the
search split says was kept, before and after. Rows about other concepts stay.
"""

import sys

import pandas as pd

from slugkit.base import cache_dir, data_dir, write_csv
from slugkit.data import open_data
from slugkit.evaluate.clip import ExamScorer, askable, class_features
from slugkit.evaluate.concept import forget_concept
from slugkit.evaluate.retain import RetainSide
from slugkit.models import load_clip
from slugkit.ranking import short
from slugkit.search import winners

CONCEPTS = ("Amara Finch", "Teodor Glass", "Greta Moss", "Puff Morrow", "boat", "clock", "sketch")
DAMPINGS = (0.0, 0.1, 0.01, 0.001)
OUT = data_dir() / "studio" / "damping.csv"


def rows_of(clip, source, concept: str, tower: str) -> list[dict]:
    """One row a damping."""
    side, plain, rows = RetainSide(clip, source, [concept], folder=cache_dir()), None, []
    exam = askable(clip, source.exam(concept, "search"))
    v = clip.image_features(exam.pairs.images).cpu()
    t = {d: x.cpu() for d, x in class_features(clip, exam).items()}
    before = {f"{group}_before": x for group, x in ExamScorer(exam).retain(v, t).items()}
    for damping in DAMPINGS:
        method, given = ("SLUG-R", {"damping": damping}) if damping else ("SLUG", {})
        given |= {"shared": side, "ranked": plain, "which": "all", "towers": (tower,)}
        found = forget_concept(clip, source, concept, method, **given)
        plain = plain or found
        best = winners(found.probes).set_index("tower")
        row = {"concept": concept, "kind": source.kind(concept), "tower": tower, "damping": damping}
        if tower in best.index:
            mine = best.loc[tower]
            kept = {c.removeprefix("retain_"): mine[c] for c in mine.index if c.startswith("retain_")}
            row |= {"layer": short(mine["layer"]), "rho": mine["rho"], "retain_after": mine["retain"]}
            row |= {f"{group}_after": value for group, value in kept.items()}
        rows.append(row | before)
    return rows


def main(concepts: list[str]) -> None:
    """Write the table after every concept and tower, and print the mean change by tower and damping."""
    clip = load_clip()
    source = open_data("studio", *clip.inputs)
    table = pd.read_csv(OUT) if OUT.is_file() else pd.DataFrame(columns=["concept", "tower"])
    for tower in ("text", "vision"):
        for concept in concepts or CONCEPTS:
            rows = pd.DataFrame(rows_of(clip, source, concept, tower))
            mine = (table["concept"] == concept) & (table["tower"] == tower)
            table = pd.concat([table[~mine], rows], ignore_index=True)
            write_csv(OUT, table.round(5))
            print(rows.round(3).to_string(), flush=True)
    change = table.assign(change=100 * (table["retain_after"] - table["retain_before"]))
    print(change.groupby(["tower", "damping"])["change"].agg(["mean", "min", "count"]).round(2))


if __name__ == "__main__":
    main(sys.argv[1:])
