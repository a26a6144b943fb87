"""How good the trained models are before anything is forgotten: the figures on their model
cards.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from slugkit.data import open_data
from slugkit.evaluation.clip import class_features, ensemble
from slugkit.evaluation.diffusion import told_by
from slugkit.evaluation.statistics import share
from slugkit.models import load_clip
from slugkit.models.classifier import Classifier
from slugkit.studio import load_world
from slugkit.tasks.prompts import FIRST_SEED, in_style, subject_domains

WHAT = {
    "figures": "people and characters",
    "objects": "objects",
    "styles": "styles",
    "classes": "classes",
}


def score_model(folder: Path | str, data: str = "studio", device: str = "auto") -> list[dict]:
    """Zero-shot top-1 on the report split, by domain: on photos and over all styles.

    One dict a row: what, value (0..1), low, high, n.
    """
    clip = load_clip(str(folder), device)
    source = open_data(data, *clip.inputs)
    exam = source.exam(source.concepts()[0], "report")
    v, classes = clip.image_features(exam.pairs.images), class_features(clip, exam)
    photo = torch.tensor((exam.pairs.table["style"] == "photo").tolist())
    # the concept in question has more pictures of each style than the others: count as many as they
    # have
    common = torch.ones_like(photo)
    if photo.any():
        order = exam.pairs.table.groupby(["concept", "style"]).cumcount()
        most = order[exam.pairs.table["concept"] != exam.concept].max()
        common = torch.tensor((order <= most).tolist())
    rows = []
    for domain in exam.prompts:
        labels = torch.from_numpy(exam.labels(domain))
        right = (v @ ensemble(classes[domain]).T).argmax(1).cpu() == labels
        kinds = exam.pairs.table.get("kind")
        for name, mask in (("photos", photo), ("all styles", torch.ones_like(photo))):
            if name == "photos" and not photo.any():
                continue
            rows.append(_row(f"{WHAT[domain]}, {name}", right, mask & common & (labels >= 0)))
            if domain == "figures" and kinds is not None:
                people = torch.tensor((kinds == "person").tolist())
                rows.append(_row(f"people, {name}", right, mask & common & people))
    return rows


def _row(what: str, right: torch.Tensor, mask: torch.Tensor) -> dict:
    return {"what": what, **share(right[mask].numpy())}


def score_pipeline(pipe, judge: Classifier) -> list[dict]:
    """Whether the judge recognises every subject in every style, in report words, one picture each:
    dicts of what (people, characters, objects, odd combinations, styles), value (0..1), low, high,
    n.
    """
    world, rows = load_world(), []
    for subject, domain in subject_domains(world).items():
        about = {"subject": subject, "domain": domain, "kind": world.kind(subject)}
        for number, style in enumerate(world.styles):
            said = in_style(world, subject, style, "report", number)
            rows.append({**about, "style": style, "prompt": said})
    table = pd.DataFrame(rows).assign(seed=lambda t: FIRST_SEED["report"] + 50_000 + t.index)
    told = told_by(pipe, judge, table)
    names = {"person": "people", "novel": "odd combinations"}
    kinds = {names.get(k, f"{k}s"): part for k, part in told.groupby("kind", sort=False)}
    found = [{"what": what, **share(part["right_subject"])} for what, part in kinds.items()]
    return [*found, {"what": "styles", **share(told["right_style"])}]
