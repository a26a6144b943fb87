"""Choose SLUG-R's damping and margin once, on concepts that are no report concepts.

    python ci/damping.py [CONCEPT ...]

Forgets each of them by SLUG and by SLUG-R at several dampings, and in the text tower at several
margins, on all candidate layers with the same probes. Writes data/studio/damping.csv, a row a
concept, tower, damping (0 is SLUG) and margin: the winner, what the search split says was kept
before and after, and FA@k in the report wordings, which alone can tell what a margin is worth. Rows
that the file holds are not made again.
"""

import sys

import pandas as pd

from slugkit import patch
from slugkit.base import cache_dir, data_dir, write_csv
from slugkit.data import open_data
from slugkit.evaluation.clip import Scorer, evaluate_clip
from slugkit.evaluation.statistics import MEAN, WORST
from slugkit.method.layers import short
from slugkit.method.search import winners
from slugkit.models import load_clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.retain import RetainSide

CONCEPTS = (
    "Amara Finch",
    "Teodor Glass",
    "Nadia Fenwick",
    "Ravi Copperfell",
    "Greta Moss",
    "Puff Morrow",
    "boat",
    "clock",
    "sketch",
)
TRIED = {
    "text": [
        (0.0, 1.0),
        (0.0, 1.25),
        (0.1, 1.0),
        (0.01, 1.0),
        (0.001, 1.0),
        (0.01, 1.25),
        (0.01, 1.5),
    ],
    "vision": [(0.0, 1.0), (0.1, 1.0), (0.01, 1.0), (0.001, 1.0)],
}
"""Tower -> damping and margin."""
OUT = data_dir() / "studio" / "damping.csv"
COLUMNS = ["concept", "kind", "tower", "damping", "margin"]


class Choice:
    """One concept and tower, forgotten by every damping and margin."""

    def __init__(self, clip, source, concept: str, tower: str):
        self.clip, self.source, self.concept, self.tower = clip, source, concept, tower
        self.side = RetainSide(clip, source, [concept], folder=cache_dir())
        self.report, self.plain = source.exam(concept, "report"), None
        self.v = clip.image_features(self.report.pairs.images).cpu()
        scorer = Scorer(clip, source.exam(concept, "search"))
        before = scorer.retain([concept], scorer.words)
        self.before = {f"{group}_before": share for group, share in before.items()}
        self.fa = scorer.criterion().name

    def row(self, damping: float, margin: float) -> dict:
        """The winner on the search split, and the target in the report wordings."""
        method, given = ("SLUG-R", {"damping": damping}) if damping else ("SLUG", {})
        given |= {"shared": self.side, "ranked": self.plain, "margins": {self.tower: margin}}
        given |= {"which": "all", "towers": (self.tower,)}
        found = unlearn(self.clip, self.source, self.concept, method, **given)
        self.plain = self.plain or found
        kind = self.source.kind(self.concept)
        row = dict(zip(COLUMNS, (self.concept, kind, self.tower, damping, margin), strict=True))
        best = winners(found.table).set_index("tower")
        if self.tower in best.index:
            mine = best.loc[self.tower]
            row |= {"layer": short(mine["layer"]), "rho": mine["rho"]}
            kept = {c: x for c, x in mine.items() if str(c).startswith("retain")}
            row |= {f"{c.removeprefix('retain_')}_after": x for c, x in kept.items()}
            row |= self.reported(found.patches[self.tower])
        return row | self.before

    def reported(self, edit) -> dict:
        """The target's accuracy in the report wordings: the mean and the worst, 0..1."""
        with patch.applied(edit, self.clip.model):
            v = self.v if self.tower == "text" else None
            rows = evaluate_clip(self.clip, self.report, "after", v=v)
        value = rows[rows["metric"] == self.fa].set_index("wording")["value"]
        return {"fa": value[MEAN], "fa_worst": value[WORST]}


def main(concepts: list[str]) -> None:
    """Write the table after every row, and print the means by tower, damping and margin."""
    clip = load_clip()
    source = open_data("studio", *clip.inputs)
    table = pd.read_csv(OUT) if OUT.is_file() else pd.DataFrame(columns=COLUMNS)
    for tower, tried in TRIED.items():
        for concept in concepts or CONCEPTS:
            done = table[(table["concept"] == concept) & (table["tower"] == tower)]
            if len(done) == len(tried):
                continue
            choice = Choice(clip, source, concept, tower)
            rows = pd.DataFrame([choice.row(*each) for each in tried])
            table = pd.concat([table.drop(done.index), rows], ignore_index=True)
            write_csv(OUT, table.round(5))
            print(rows.round(3).to_string(), flush=True)
    kept = 100 * (table["retain_after"] - table["retain_before"])
    shown = table.assign(kept=kept, fa=100 * table["fa"], fa_worst=100 * table["fa_worst"])
    by = shown.groupby(["tower", "damping", "margin"])[["kept", "fa", "fa_worst"]]
    print(by.agg(["mean", "min", "max"]).round(2).to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
