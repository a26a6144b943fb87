"""One concept from a loaded model to a reported result, and the same for a list of concepts: the table of the workbook."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, data_dir, progress, write_csv
from slugkit.data import Exam, Pairs, Source, open_data
from slugkit.evaluate.clip import evaluate_clip
from slugkit.evaluate.measure import FastMeasure, FixedFeatures
from slugkit.gradients import forget_gradient, retain_gradient
from slugkit.models import Clip, load_clip, model_folder
from slugkit.models.layers import EXCLUDE, candidates, layer_table, weight_of
from slugkit.ranking import rank_layers, short
from slugkit.search import Criterion, EditableLayer, search_front, winner


@dataclass
class Forgetting:
    """What SLUG found for one concept: the ranked layers, every probe, the winning patch of each tower, and the seconds."""

    concept: str
    layers: pd.DataFrame
    probes: pd.DataFrame
    patches: dict[str, patch.Patch] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def score_layers(clip: Clip, g_forget: dict, g_retain: dict, exclude=EXCLUDE, layers=(), split_qkv: bool = False) -> pd.DataFrame:
    """The whole layer table with importance, cosine, alignment and front; layers that are no candidates have NaN there."""
    table = layer_table(clip.model, exclude, layers, split_qkv)
    names = candidates(table)
    weights = {n: p.detach() for n, p in clip.model.named_parameters()}
    towers = dict(zip(table["layer"], table["tower"]))
    pick = [{n: weight_of(tensors, n) for n in names} for tensors in (weights, g_forget, g_retain)]
    scores = rank_layers(*pick, towers)[["layer", "importance", "cosine", "alignment", "front"]]
    table = table.merge(scores, on="layer", how="left")
    table["front"] = table["front"].eq(True)
    return table


def front_layers(table: pd.DataFrame, tower: str | None = None) -> list[str]:
    """Names of the layers on the Pareto front, of one tower or of both."""
    keep = table["front"] & ((table["tower"] == tower) if tower else True)
    return table.loc[keep, "layer"].tolist()


def search_layers(clip: Clip, exam: Exam, g_forget: dict, layers: list[str], criterion: Criterion, lam_init: float = 0.0,
                  max_trials: int = 10, make_measure=None) -> pd.DataFrame:
    """Search the step on each layer with the fast measure on the search exam. Returns the table of all probes."""
    if make_measure is None:
        fixed = FixedFeatures(clip, exam, layers)
        make_measure = lambda layer: FastMeasure(fixed, layer)  # noqa: E731
    return search_front(layers, lambda layer: EditableLayer.of(clip.model, layer, weight_of(g_forget, layer)), make_measure,
                        criterion, lam_init, max_trials)


def winning_patch(clip: Clip, g_forget: dict, probes: pd.DataFrame, tower: str, concept: str, provenance: dict | None = None) -> patch.Patch:
    """The patch of a tower's winner. Raises SearchFailedError when no layer of the tower forgot."""
    best = winner(probes, tower)
    editable = EditableLayer.of(clip.model, best["layer"], weight_of(g_forget, best["layer"]))
    metrics = {k: float(best[k]) for k in best.index if k in ("forget", "retain") or k.startswith("retain_")
               if np.isfinite(best[k])}
    return patch.make(best["layer"], editable, float(best["lam"]), concept, tower=tower,
                      metrics={"split": "search", **metrics}, provenance=provenance or {})


def forget_concept(clip: Clip, source: Source, concept: str, *, forget_size: int = 120, retain_size: int = 512, batch_size: int = 128,
                   seed: int = 0, target: str = "fa1", max_trials: int = 10, g_retain: dict | None = None) -> Forgetting:
    """Gradients, ranking and search over both fronts for one concept. Nothing is reported here; the model is left as it was."""
    started = perf_counter()
    exam = source.exam(concept, "search")
    forget: Pairs = source.forget_set(concept, forget_size, seed)
    retain: Pairs = source.retain_set(concept, retain_size, seed)
    seconds = {"data": perf_counter() - started}
    started = perf_counter()
    g_forget = forget_gradient(clip, forget, batch_size)
    g_retain = g_retain or retain_gradient(clip, retain, batch_size, seed)
    seconds["gradients"] = perf_counter() - started
    started = perf_counter()
    layers = score_layers(clip, g_forget, g_retain)
    seconds["ranking"] = perf_counter() - started
    started = perf_counter()
    probes = search_layers(clip, exam, g_forget, front_layers(layers), Criterion(target), max_trials=max_trials)
    seconds["search"] = perf_counter() - started
    result = Forgetting(concept, layers, probes, seconds=seconds)
    for tower in ("text", "vision"):
        try:
            result.patches[tower] = winning_patch(clip, g_forget, probes, tower, concept)
        except SearchFailedError as error:
            result.failed[tower] = str(error)
    return result


def report_metrics(clip: Clip, source: Source, found: Forgetting, per_style: int = 0) -> pd.DataFrame:
    """Report-split rows before and after each tower's patch, with a column `tower`; the oracle's where one was trained."""
    exam = source.exam(found.concept, "report", per_style)
    v = clip.image_features(exam.pairs.images)
    parts = [evaluate_clip(clip, exam, "before", v=v).assign(tower="")]
    for tower, edit in found.patches.items():
        with patch.applied(edit, clip.model):
            parts.append(evaluate_clip(clip, exam, "after", v=v if tower == "text" else None).assign(tower=tower))
    oracle = load_oracle(clip, found.concept)
    if oracle is not None:
        parts.append(evaluate_clip(oracle, exam, "oracle").assign(tower=""))
    return pd.concat(parts, ignore_index=True)


def load_oracle(clip: Clip, concept: str) -> Clip | None:
    """The same recipe trained without the concept, if there is one beside the model's own folder; else None."""
    folder = model_folder(clip.source)
    if folder is None:
        return None
    beside = folder.with_name(f"{folder.name}-without-{concept.lower().replace(' ', '-')}")
    return load_clip(str(beside), clip.device.type) if (beside / "open_clip_model.safetensors").is_file() else None


def table_row(found: Forgetting, metrics: pd.DataFrame, tower: str, kind: str) -> dict:
    """One line of the table of concepts: winner, rho, front, and every group before, after and for the oracle."""
    row = {"concept": found.concept, "kind": kind, "tower": tower, "front": " ".join(short(n) for n in front_layers(found.layers, tower))}
    edit = found.patches.get(tower)
    row |= {"winner": short(edit.layer) if edit else "none forgets", "rho": edit.rho if edit else np.nan, "lam": edit.lam if edit else np.nan}
    for stage, rows in (("before", metrics[metrics["stage"] == "before"]), ("after", metrics[(metrics["stage"] == "after") & (metrics["tower"] == tower)]),
                        ("oracle", metrics[metrics["stage"] == "oracle"])):
        for _, m in rows.iterrows():
            name = m["metric"].replace("@", "").lower() if m["group"] == "target" else m["group"]
            row |= {f"{name}_{stage}": m["value"], f"{name}_{stage}_low": m["low"], f"{name}_{stage}_high": m["high"], f"{name}_n": m["n"]}
    return row


def sweep(concepts: list[str] | None = None, out: str | Path | None = None, model: str = "studio", data: str = "studio",
          seed: int = 0, device: str = "auto") -> pd.DataFrame:
    """Forget each concept on its own, both towers, and report it. Writes a CSV after every concept and returns the table.

    concepts: None takes the world's report concepts. out: None writes data/studio/report_concepts.csv.
    """
    clip, source = load_clip(model, device), open_data(data)
    if concepts is None:
        concepts = [c for names in source.world.report.values() for c in names]
    for concept in concepts:
        source.kind(concept)
    path = Path(out) if out else data_dir() / "studio" / "report_concepts.csv"
    rows = []
    for concept in progress(concepts, "forgetting each concept"):
        found = forget_concept(clip, source, concept, seed=seed)
        metrics = report_metrics(clip, source, found)
        rows += [table_row(found, metrics, tower, source.kind(concept)) for tower in ("text", "vision")]
        write_csv(path, pd.DataFrame(rows).round(6))
    return pd.DataFrame(rows)
