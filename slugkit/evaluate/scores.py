"""How good a trained CLIP is before anything is forgotten: the figures on its model card."""

from __future__ import annotations

from pathlib import Path

import torch

from slugkit.data import open_data
from slugkit.evaluate.clip import ExamScorer, class_features
from slugkit.evaluate.statistics import wilson
from slugkit.models import load_clip

WHAT = {"figures": "people and characters", "objects": "objects", "styles": "styles", "classes": "classes"}


def score_model(folder: Path | str, data: str = "studio", device: str = "auto") -> list[dict]:
    """Zero-shot top-1 on the report split, by domain: on photos and over all styles. One dict a row: what, value (0..1), low, high, n."""
    clip, source = load_clip(str(folder), device), open_data(data)
    exam = source.exam(source.concepts()[0], "report")
    scorer = ExamScorer(exam)
    v, classes = clip.image_features(exam.pairs.images), class_features(clip, exam)
    photo = torch.tensor((exam.pairs.table["style"] == "photo").tolist())
    # the concept in question has more pictures of each style than the others: count as many as they have
    common = torch.ones_like(photo)
    if photo.any():
        order = exam.pairs.table.groupby(["concept", "style"]).cumcount()
        common = torch.tensor((order <= order[exam.pairs.table["concept"] != exam.concept].max()).tolist())
    rows = []
    for domain in exam.prompts:
        labels = scorer.labels[domain]
        right = (v @ classes[domain].T).argmax(1).cpu() == labels
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
    hits, n = int((right & mask).sum()), int(mask.sum())
    low, high = wilson(hits, n)
    return {"what": what, "value": hits / n, "low": low, "high": high, "n": n}
