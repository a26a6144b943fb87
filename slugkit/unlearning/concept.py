"""One concept from a loaded model to its patches and the numbers that are reported."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError, as_file_name, look_for
from slugkit.data import Exam, Source
from slugkit.evaluation.clip import evaluate_clip
from slugkit.evaluation.statistics import above_chance, wilson
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import EXCLUDE, candidates, layer_table, weight_of
from slugkit.method.ranking import cosine_noise, front_share, rank_layers
from slugkit.method.search import Criterion, search_front
from slugkit.models import Clip, load_clip, model_folder
from slugkit.models.clip import WEIGHTS
from slugkit.models.hub import read_json
from slugkit.unlearning.objectives import FastMeasure, FixedFeatures
from slugkit.unlearning.result import Result, direction_of

METHODS = ("SLUG", "SLUG-R")
"""The paper's method, and ours: the same but for the direction of the step (`retain_aware`) and
MARGIN.
"""
DAMPING = 0.01
"""SLUG-R's damping; `ci/damping.py` compares it with others on concepts that are no report
concepts.
"""
MARGIN = {"text": 1.25, "vision": 1.0}
"""How many times the step that its search found SLUG-R takes, by tower: an edit of the text tower
has to hold in words that no search asked.

`ci/damping.py` compares margins too.
"""


def score_layers(
    clip: Clip,
    g_forget: dict,
    g_retain: dict,
    exclude=EXCLUDE,
    layers=(),
    split_qkv: bool = False,
    parts=(),
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


def require_known(
    shares: dict[str, float],
    known: float,
    pictures: int,
    concept: str,
    criterion: Criterion,
    classes: int,
) -> None:
    """Raises SearchFailedError where the model as it stands does not know the concept, so that any
    step would seem to forget: it meets the criterion already, or tells the concept from the others
    no better than by chance. shares: fa1 and fa5 in their worst wording, 0..1. known: FA@1, mean
    over the wordings, 0..1, over `pictures`. classes: how many the concept stands among.
    """
    if criterion.forgotten(shares):
        raise SearchFailedError(
            f"Before any edit the model recognises {concept!r} in "
            f"{100 * criterion.value(shares):.1f} % of its {pictures} search pictures "
            f"({criterion.name}, in the wording in which it is largest); more than "
            f"{100 * criterion.at_most:g} % was expected, or there is nothing to forget. Choose a "
            "concept that the model knows, or a model that knows it; random weights know none."
        )
    hits = round(pictures * known)
    if not above_chance(hits, pictures, classes):
        raise SearchFailedError(
            f"Before any edit the model is right about {hits} of the {pictures} search pictures "
            f"of {concept!r}, which is no more than chance among {classes} "
            "classes (the 95 % interval begins at "
            f"{100 * wilson(hits, pictures)[0]:.1f} %, chance is "
            f"{100 / classes:.1f} %), so forgetting could not be "
            "told from guessing. Choose a concept that the model knows, "
            "a model that knows it, or add search pictures."
        )


def search_layers(
    clip: Clip,
    exam: Exam,
    directions: dict,
    layers: list[str],
    criterion: Criterion | None = None,
    lam_init: float = 0.0,
    max_trials: int = 10,
    make_measure=None,
    margins: dict[str, float] | None = None,
) -> pd.DataFrame:
    """Search the step on each layer with the fast measure on the search exam.

    Returns the table of all probes.

    directions: layer, or weight, -> what is stepped along. criterion: None takes `Criterion.among`
    the target's classes. margins: as of `search_front`. Raises SearchFailedError, before any step,
    where the unedited model does not know the concept (not looked at with a `make_measure` of one's
    own).
    """
    classes = len(exam.classes(exam.target_domain))
    criterion = criterion or Criterion.among(classes)
    if make_measure is None:
        fixed = FixedFeatures(clip, exam, layers)
        v, t, scorer = fixed.images, fixed.classes, fixed.scorer
        shares, known = scorer.forget(v, t), scorer.known(v, t)
        require_known(shares, known, len(scorer.target_rows), exam.concept, criterion, classes)
        make_measure = lambda layer: FastMeasure(fixed, layer)  # noqa: E731
    return search_front(
        layers,
        lambda layer: EditableLayer.of(clip.model, layer, direction_of(directions, layer)),
        make_measure,
        criterion,
        lam_init,
        max_trials,
        margins,
    )


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
        SettingError: results about several concepts, or about none of the data's.
    """
    found = [result] if isinstance(result, Result) else list(result)
    source = data
    concept = found[0].concept
    if {each.concept for each in found} != {concept} or "several" in {e.family for e in found}:
        raise SettingError(
            f"The results are about {', '.join(each.concept for each in found)}; results about one"
            " concept of the data were expected. Of several together"
            " slugkit.unlearning.several makes the table."
        )
    exam = source.exam(concept, "report", per_style)
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
