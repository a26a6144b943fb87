"""What a sweep measures on a LLaVA: the table behind data/studio/vlm_concepts.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slugkit.base import data_dir
from slugkit.data import Source, open_data
from slugkit.evaluation.vlm import answered, measures
from slugkit.experiments.sweep import family_rows, made_by, sweep_concepts
from slugkit.models import Clip, load_clip
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.vlm import Vlm, load_vlm
from slugkit.tasks.questions import question_set, stranger_set
from slugkit.unlearning.families import OnVlm


def vlm_rows(
    clip: Clip,
    vlm: Vlm,
    source: Source,
    concept: str,
    size: int = 4,
    words: str = "paper",
    max_trials: int = 10,
    **settings,
) -> list[dict]:
    """One row a method and set of layers ("front" is `paper_layer`).

    Args:
        size: pictures of every other subject, of search and report.
        words, max_trials: as of `OnVlm`.
        settings: as of `unlearn`.
    """
    report = question_set(source.world, concept, "report", 28 * size, size)
    strangers = stranger_set(source.world)

    def now() -> dict[str, float]:
        unknown = answered(vlm, strangers)["outcome"] == "no name"
        return measures(answered(vlm, report)) | {"strangers": float(unknown.mean())}

    on = OnVlm(vlm, words, size, max_trials)
    return family_rows(clip, vlm.model, source, concept, on, now, **settings)


def vlm_sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    vlm: str = "studio",
    clip: str = "studio",
    device: str = "auto",
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods, and ask; goes on as
    `slugkit.experiments.sweep.sweep` does.

    concepts: None takes the ten report people. out: None writes data/studio/vlm_concepts.csv.
    settings: as of `vlm_rows`. Raises UnknownConceptError, SearchFailedError for a concept that the
    model does not name.
    """
    net, llava, source = load_clip(clip, device), load_vlm(vlm, device), open_data("studio")
    return sweep_concepts(
        lambda concept: vlm_rows(net, llava, source, concept, **settings),
        source,
        concepts,
        source.world.report["person"],
        out or data_dir() / "studio" / "vlm_concepts.csv",
        made_by(weights_sha256(llava.model), settings),
        measures_of,
    )


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
