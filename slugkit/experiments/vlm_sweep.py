"""A concept forgotten in a LLaVA by both methods, and several one at a time: the table behind
data/studio/vlm_concepts.csv.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from slugkit.base import (
    data_dir,
    peak_memory,
    require_choice,
    sha256_json,
    sha256_tensor,
    write_csv,
)
from slugkit.data import Source, open_data
from slugkit.evaluate.vlm import answered, measures
from slugkit.evaluate.vlm_words import own_words
from slugkit.experiments.sweep import one_at_a_time, summarise
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import short, weight_of
from slugkit.models import Clip, load_clip
from slugkit.models.vlm import Vlm, load_vlm
from slugkit.tasks.paper_questions import questions_about, talks_to_forget
from slugkit.tasks.questions import question_set, stranger_set
from slugkit.unlearn.concept import DAMPING, METHODS, score_layers
from slugkit.unlearn.gradients import forget_gradient
from slugkit.unlearn.result import Result
from slugkit.unlearn.retain import RetainSide
from slugkit.unlearn.transfer import in_both
from slugkit.unlearn.vlm import answer_gradient, paper_layer, search_on_vlm, writing_layers

SEARCHED = 84
"""Search pictures of the target."""


def forget_on_vlm(
    clip: Clip,
    vlm: Vlm,
    source: Source,
    concept: str,
    method: str = "SLUG",
    *,
    words: str = "paper",
    forget_size: int = 120,
    retain_size: int = 2560,
    batch_size: int = 128,
    size: int = 4,
    max_trials: int = 10,
    damping: float = DAMPING,
    seed: int = 0,
    shared: RetainSide | None = None,
    ranked: Result | None = None,
) -> Result:
    """Search the step on a LLaVA's own answers, on the paper's layer and on those that write.

    SLUG takes CLIP's forget gradient, as the authors' code does; SLUG-R the gradient of the model's
    answers about the same pictures, through `retain_aware`; all else is the same. `on_front` of
    what is returned is the paper's rule: `paper_layer` alone. size: search pictures of every other
    subject. The rest as of `questions_about` and `unlearn`. Both models stay as they were.
    """
    require_choice(method, METHODS, "The method")
    start = perf_counter()
    with peak_memory() as peak:
        search = own_words(
            vlm, questions_about(source, concept, "search", words, SEARCHED, size, False)
        )
        side = shared or RetainSide(clip, source, [concept], retain_size, batch_size, seed)
        side.require(concept)
        forget = source.forget_set(concept, forget_size, seed)
        pairs = len(forget) + side.pairs_seen
        if ranked:
            g_forget, table = ranked.g_forget, ranked.layers
        else:
            g_forget = forget_gradient(clip, forget, batch_size)
            table = score_layers(clip, g_forget, side.gradient, parts=side.parts)
            table["front"] = table["layer"] == paper_layer(table, vlm)
        names = list(
            dict.fromkeys([*table.loc[table["front"], "layer"], *writing_layers(clip, vlm)])
        )
        directions = {name: weight_of(g_forget, name) for name in names}
        if method == "SLUG-R":
            talks = own_words(vlm, talks_to_forget(source, concept, forget_size, seed, words))
            pairs += len(talks.table)
            own = answer_gradient(vlm, talks, names)
            directions = retain_aware_directions(own, side.moments(names), damping)
        probes = search_on_vlm(clip, vlm, directions, search, names, max_trials)
    costs = {
        "pairs": pairs,
        "probes": len(probes),
        "peak_mb": peak[0],
        "seconds": perf_counter() - start,
    }
    kept = {"g_forget": g_forget, "directions": directions, "which": "all"}
    return Result(concept, method, table, probes, costs=costs, **kept).choose(clip)


def vlm_rows(
    clip: Clip, vlm: Vlm, source: Source, concept: str, size: int = 4, **settings
) -> list[dict]:
    """One row a method and set of layers ("front" is `paper_layer`): what was chosen, what it took,
    and every measure before and after.

    size: report and search pictures of every other subject. settings: as of `forget_on_vlm`.
    """
    report = question_set(source.world, concept, "report", 28 * size, size)
    strange = stranger_set(source.world)

    def now() -> dict[str, float]:
        unknown = answered(vlm, strange)["outcome"] == "no name"
        return measures(answered(vlm, report)) | {"strangers": float(unknown.mean())}

    side = settings.pop("shared", None) or RetainSide(
        clip, source, [concept], seed=settings.get("seed", 0)
    )
    found: list[Result] = []
    for method in METHODS:
        given = {"shared": side, "ranked": found[0] if found else None, "size": size, **settings}
        found.append(forget_on_vlm(clip, vlm, source, concept, method, **given))
    before, rows, known = now(), [], {}
    for each in [part for whole in found for part in (whole.on_front(clip), whole)]:
        row = {
            "concept": concept,
            "kind": source.kind(concept),
            "tower": "vision",
            "method": each.method,
        }
        row |= {"layers": each.which, "winner": "none forgets", **each.costs}
        edit = each.patches.get("vision")
        if edit and edit.sha256 not in known:
            with in_both(edit, clip, vlm.model):
                known[edit.sha256] = now()
        if edit:
            row |= {"winner": short(edit.layer), "rho": edit.rho, "lam": edit.lam}
        after = known[edit.sha256] if edit else dict.fromkeys(before, np.nan)
        rows.append(
            row
            | {f"{k}_before": v for k, v in before.items()}
            | {f"{k}_after": v for k, v in after.items()}
        )
    return rows


def vlm_sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    vlm: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and ask.

    Writes a CSV after every concept and returns the table.

    concepts: None takes the ten report people. out: None writes data/studio/vlm_concepts.csv;
    beside it, under the same name with `_summary`, the means over concepts. Rows about other
    concepts made with the same language model stay. settings: as of `vlm_rows`. Raises
    UnknownConceptError before anything starts, SearchFailedError for a concept that the model does
    not name.
    """
    net, llava, source = load_clip(clip, device), load_vlm(vlm, device), open_data("studio")
    order = source.world.report["person"]
    for concept in concepts or []:
        source.kind(concept)
    path = Path(out) if out else data_dir() / "studio" / "vlm_concepts.csv"
    weights = sha256_json([sha256_tensor(p) for p in llava.model.parameters()])[:16]

    def rows_of(concept: str) -> list[dict]:
        return vlm_rows(net, llava, source, concept, **settings)

    table = one_at_a_time(rows_of, concepts or order, order, path, weights)
    write_csv(path.with_stem(f"{path.stem}_summary"), summarise(table, measures_of).round(3))
    return table


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` averages, a column each: the target's outcomes after in percent, and by how
    many points the others, neighbours and strangers (not named) and the battery changed.
    """
    outcomes = {"right name": "right_name", "right name, worst wording": "right_name_worst"}
    outcomes |= {"another name": "another_name", "no name": "no_name"}
    found = {f"{words} after": 100 * table[f"{key}_after"] for words, key in outcomes.items()}
    groups = {
        "others": "own",
        "neighbours": "neighbours",
        "strangers not named": "strangers",
        "battery": "battery",
    }
    for words, key in groups.items():
        found[f"{words} change"] = 100 * (table[f"{key}_after"] - table[f"{key}_before"])
    return pd.DataFrame(found)
