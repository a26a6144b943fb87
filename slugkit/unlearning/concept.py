"""Ranking and search on a CLIP, and the numbers that are reported about one concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, as_file_name, look_for, progress
from slugkit.data import Exam, Source
from slugkit.evaluation.clip import Scorer, evaluate_clip
from slugkit.evaluation.statistics import above_chance
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import EXCLUDE, candidates, layer_table, weight_of
from slugkit.method.ranking import cosine_noise, front_share, rank_layers
from slugkit.method.search import STOP_RATIO, Criterion, Measure, probe_steps, search_front
from slugkit.models import Clip, load_clip, model_folder
from slugkit.models.clip import WEIGHTS
from slugkit.models.hub import read_json
from slugkit.models.reachability import movable
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.result import Directions, Result

ARMS = ("SLUG", "SLUG-R")
"""The paper's method, and ours, which stand side by side in every table: the same but for the
direction of the step (`retain_aware`) and MARGIN.
"""
DAMPING = 0.01
"""SLUG-R's damping; `ci/damping.py` compares it with others on concepts that are no report
concepts.
"""
MARGIN = {"text": 1.25, "vision": 1.0}
"""How many times the step that its search found SLUG-R takes, by tower: an edit of the text tower
has to hold in words that no search asked. `ci/damping.py` compares margins too.
"""
KNOWN = "Choose a concept that the model knows, a model that knows it, or add search pictures."


def score_layers(
    clip: Clip,
    g_forget: Directions,
    g_retain: Directions,
    exclude: Sequence[str] = EXCLUDE,
    layers: Sequence[str] = (),
    split_qkv: bool = False,
    parts: Sequence[Directions] = (),
) -> pd.DataFrame:
    """The whole layer table with importance, cosine, alignment, front, noise and front_share;
    layers that are no candidates have NaN.

    parts: the retain gradients of the parts of the retain set, from which the noise of the cosine
    comes, and from it front_share (`slugkit.method.ranking`).
    """
    table = layer_table(clip.model, exclude, layers, split_qkv)
    names = candidates(table)
    weights = {n: p.detach() for n, p in clip.model.named_parameters()}
    theta, g_f, g_r = ({n: weight_of(ts, n) for n in names} for ts in (weights, g_forget, g_retain))
    scores = rank_layers(theta, g_f, g_r)
    scores["noise"] = [cosine_noise(g_f[n], [weight_of(p, n) for p in parts]) for n in names]
    scores["front_share"] = front_share(scores).to_numpy()
    columns = ["layer", "importance", "cosine", "alignment", "front", "noise", "front_share"]
    table = table.merge(scores[columns], on="layer", how="left")
    table["front"] = table["front"].eq(True)
    return table


def require_above_chance(
    concept: str, hits: int, n: int, classes: int, who: str = "the model", advice: str = KNOWN
) -> None:
    """Raises SearchFailedError where so many right answers about n pictures could be guessed."""
    if not above_chance(hits, n, classes):
        raise SearchFailedError(
            f"Before any edit {who} is right about {hits} of the {n} search pictures of "
            f"{concept!r}, which is no more than chance among {classes} classes; more was expected,"
            f" or forgetting could not be told from guessing. {advice}"
        )


def require_known(scorer: Scorer, criterion: Criterion | None = None) -> None:
    """Raises SearchFailedError where the model as it stands does not know a concept, so that any
    step would seem to forget: it meets the criterion already, or tells the concept from the others
    no better than by chance.
    """
    for concept in scorer.exam.concepts:
        right = scorer.of(concept, scorer.words) < 1
        shares = scorer.forget([concept], scorer.words)
        if criterion is not None and criterion.forgotten(shares):
            raise SearchFailedError(
                f"Before any edit the model recognises {concept!r} in "
                f"{100 * criterion.value(shares):.1f} % of its {right.shape[1]} search pictures "
                f"({criterion.name}, in the wording in which it is largest); more than "
                f"{100 * criterion.at_most:g} % was expected, or nothing is to forget. {KNOWN}"
            )
        classes = len(scorer.exam.classes(scorer.exam.domain(concept)))
        hits = round(float(right.mean(0).sum()))
        require_above_chance(concept, hits, right.shape[1], classes)


def search_along(
    clip: Clip,
    directions: Directions,
    layers: list[str],
    measure_of: Callable[[str], Measure],
    criterion: Criterion,
    *limits,
) -> pd.DataFrame:
    """Search the step on each layer of the CLIP itself: the probes, as of `search_front`.

    directions: layer, or weight, -> what is stepped along. limits: lam_init, max_trials and margins
    of `search_front`.
    """

    def editable(layer: str) -> EditableLayer:
        return EditableLayer.of(clip.model, layer, weight_of(directions, layer))

    return search_front(layers, editable, measure_of, criterion, *limits)


def search_layers(
    clip: Clip,
    exam: Exam,
    directions: Directions,
    layers: list[str],
    criterion: Criterion | None = None,
    lam_init: float = 0.0,
    max_trials: int = 10,
    margins: dict[str, float] | None = None,
) -> pd.DataFrame:
    """`search_along`, measured on the search exam.

    criterion: None takes `Criterion.among` the target's classes. Raises SearchFailedError, before
    any step, where the unedited model does not know the concept.
    """
    scorer = Scorer(clip, exam, layers=layers)
    criterion = criterion or scorer.criterion()
    require_known(scorer, criterion)
    how = partial(CachedMeasure, scorer), criterion, lam_init, max_trials, margins
    return search_along(clip, directions, layers, *how)


def search_within(
    clip: Clip,
    model: Any,
    directions: Directions,
    layers: list[str],
    measure_of: Callable[[str, Callable[[], None]], Measure],
    at_most: float,
    max_trials: int,
    stop_ratio: float = STOP_RATIO,
) -> pd.DataFrame:
    """Search the step on each layer of a model that holds the CLIP's tower, asking for the retain
    measure at each layer's smallest forgetting step alone.

    measure_of: a layer, and what writes the step into the model (`movable`) -> its measure.
    Returns the probes with the columns of `search_front`; CLIP and model are left as they were.
    """
    frames, criterion = [], Criterion("fa1", at_most)
    for layer in progress(layers, f"searching the step in {type(model).__name__}"):
        with movable(clip.model, model, layer) as (weight, again):
            editable = EditableLayer.of(weight, layer, weight_of(directions, layer))
            how = {"max_trials": max_trials, "stop_ratio": stop_ratio, "every_retain": False}
            found = probe_steps(layer, editable, measure_of(layer, again), criterion, **how)
        frames.append(found.frame())
    found = pd.concat(frames, ignore_index=True)
    return found[[column for column in found if column != "chosen"] + ["chosen"]]


def evaluate(
    clip: Clip, data: Source, result: Result | list[Result], per_style: int = 0
) -> pd.DataFrame:
    """What the model does before and after the edits, and its oracle where one was trained: the
    report split, in report wordings.

    Args:
        clip: the unedited model; it is left as it was.
        data: the source that examines it.
        result: what `unlearn` found for one concept; several methods' or sets of layers' in a list.
        per_style: report pictures per style and class; 0 takes all.

    Returns:
        Rows with value (0..1), low, high (95 %) and n by stage (before, after, oracle), group,
        metric, wording (each, mean, worst), method, tower and layers. Each edit is measured on its
        own; a tower without one has no row "after".

    Raises:
        SettingError: results about several concepts, about none of the data's, or of another model.
    """
    found = [result] if isinstance(result, Result) else list(result)
    concept = found[0].concept
    if {each.concept for each in found} != {concept} or "several" in {e.family for e in found}:
        raise SettingError(
            f"The results are about {', '.join(each.concept for each in found)}; results about one"
            " concept of the data were expected. Of several together slugkit.unlearning.adding"
            " makes the tables."
        )
    if other := [e.method for e in found if not set(e.patches) <= {"text", "vision"}]:
        raise SettingError(
            f"{other[0]} left the CLIP as it is; an edit of one of its towers was expected. Draw"
            " with, or ask, the model that `Result.applied` yields."
        )
    exam = data.exam(concept, "report", per_style)
    v = clip.image_features(exam.pairs.images)
    parts, known = [evaluate_clip(clip, exam, "before", "", v).assign(tower="", layers="")], {}
    for each in found:
        for tower, edit in each.patches.items():
            if edit.sha256 not in known:
                with patch.applied(edit, clip.model):
                    unmoved = v if tower == "text" else None
                    known[edit.sha256] = evaluate_clip(clip, exam, "after", each.method, unmoved)
            parts.append(known[edit.sha256].assign(tower=tower, layers=each.which))
    oracle = load_oracle(clip, concept)
    if oracle is not None:
        parts.append(evaluate_clip(oracle, exam, "oracle", "").assign(tower="", layers=""))
    return pd.concat(parts, ignore_index=True)


def load_oracle(clip: Clip, concept: str) -> Clip | None:
    """The same recipe trained without the concept, if there is one beside the model's own folder;
    else None.

    It goes by the model's own name (`source`), so that its rows stand beside the model's in every
    table.
    """
    folder = model_folder(clip.source)
    if folder is None:
        return None
    beside = look_for(folder.with_name(f"{folder.name}-without-{as_file_name(concept)}"))
    if not (beside / WEIGHTS).is_file():
        return None
    without = read_json(beside / "model_card.json").get("without", concept)
    if without != concept:  # another name that is written alike in a path
        print(
            f"The folder {beside.name} was trained without {without!r}, not without {concept!r}; "
            "it is not compared with."
        )
        return None
    return replace(load_clip(str(beside), clip.device.type), source=clip.source)
