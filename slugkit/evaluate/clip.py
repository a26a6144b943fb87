"""Zero-shot evaluation of CLIP about one concept: FA@1, FA@5 and what must stay, group by group, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from slugkit.data import Exam
from slugkit.evaluate.statistics import wilson
from slugkit.models import Clip

STEERING = ("neighbours", "people", "objects", "styles", "novel", "classes")
"""Groups whose mean accuracy steers the step search (those that the data have)."""


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes score higher than the true one: 0 means right at top 1. scores (N, C), labels (N,) -> (N,) int64."""
    true = scores.gather(1, labels.to(scores.device)[:, None])
    return (scores > true).sum(1)


def accuracy_at_k(scores: torch.Tensor, labels: torch.Tensor, k: int = 1) -> float:
    """Share of rows whose true class is among the k best scores. Returns 0..1."""
    return (ranks(scores, labels) < k).float().mean().item()


class ExamScorer:
    """An exam turned into questions about features: which rows belong to which group, and what the right answers are.

    `forget` and `retain` take image features (N, d) in the exam's order and class features by domain (C, d).
    """

    def __init__(self, exam: Exam):
        self.exam = exam
        self.groups = exam.groups()
        self.rows = {g: torch.from_numpy(rows) for g, (_, rows) in self.groups.items()}
        self.labels = {d: torch.from_numpy(exam.labels(d)) for d in exam.prompts}

    @property
    def target_rows(self) -> np.ndarray:
        """Rows of the target's pictures."""
        return self.groups["target"][1]

    @property
    def rest_rows(self) -> np.ndarray:
        """Rows of every picture that some other group needs."""
        return np.unique(np.concatenate([rows for g, (_, rows) in self.groups.items() if g != "target"]))

    def group_ranks(self, group: str, v: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
        """Rank of the true class for every picture of a group; v holds the features of all rows of the exam."""
        domain, rows = self.groups[group][0], self.rows[group]
        return ranks(v[rows] @ t[domain].T, self.labels[domain][rows])

    def forget(self, v: torch.Tensor, t: dict[str, torch.Tensor]) -> dict[str, float]:
        """FA@1 and FA@5 of the target among all classes of its domain, 0..1, and the number of pictures."""
        r = self.group_ranks("target", v, t)
        return {"fa1": (r < 1).float().mean().item(), "fa5": (r < 5).float().mean().item(), "n": len(r)}

    def retain(self, v: torch.Tensor, t: dict[str, torch.Tensor]) -> dict[str, float]:
        """Top-1 accuracy by group, and `retain`: the plain mean over the steering groups."""
        found = {g: (self.group_ranks(g, v, t) < 1).float().mean().item() for g in self.groups if g in STEERING}
        return {"retain": float(np.mean(list(found.values()))), **found}


def class_features(clip: Clip, exam: Exam) -> dict[str, torch.Tensor]:
    """Domain -> (C, d) class features of unit length, in the order of the exam's prompts."""
    return {d: clip.class_features(list(classes.values())) for d, classes in exam.prompts.items()}


def answers(clip: Clip, exam: Exam, group: str = "target") -> pd.DataFrame:
    """What the model calls each picture of a group: columns true, answer, style, score (cosine of the answer)."""
    scorer = ExamScorer(exam)
    domain, rows = scorer.groups[group]
    names = list(exam.prompts[domain])
    scores = clip.image_features(exam.pairs.images[rows]) @ class_features(clip, exam)[domain].T
    best = scores.max(1)
    return pd.DataFrame({"true": [names[i] for i in scorer.labels[domain][rows]], "answer": [names[i] for i in best.indices.tolist()],
                         "style": exam.pairs.table["style"].to_numpy()[rows], "score": best.values.cpu().numpy()})


def rows_from_ranks(found: dict[str, np.ndarray], exam: Exam, stage: str, method: str = "SLUG", model: str = "studio") -> pd.DataFrame:
    """Metric rows (the columns of metrics.parquet) from the ranks of every group: top-1 everywhere, top-5 for the target."""
    rows = []
    for group, r in found.items():
        for k in (1, 5) if group == "target" else (1,):
            hits, n = int((r < k).sum()), len(r)
            low, high = wilson(hits, n)
            metric = f"FA@{k}" if group == "target" else "accuracy"
            rows.append({"family": "clip", "model": model, "concept": exam.concept, "method": method, "stage": stage, "group": group,
                         "metric": metric, "split": exam.split, "value": hits / n, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows)


def evaluate_clip(clip: Clip, exam: Exam, stage: str, method: str = "SLUG", v: torch.Tensor | None = None) -> pd.DataFrame:
    """One tidy row per group with value, 95 % Wilson interval and denominator.

    exam: the report exam for numbers that are reported. stage: before, after or oracle. v: (N, d) features of the exam's
    pictures, where they are known already (an edit of the text tower leaves them as they were).
    """
    scorer = ExamScorer(exam)
    v = (clip.image_features(exam.pairs.images) if v is None else v).cpu()
    t = {d: x.cpu() for d, x in class_features(clip, exam).items()}
    found = {g: scorer.group_ranks(g, v, t).numpy() for g in scorer.groups}
    return rows_from_ranks(found, exam, stage, method, clip.source)


def cosine_matrix(clip: Clip, images: np.ndarray, prompts: list[list[str]]) -> np.ndarray:
    """Mean-prompt text features against pictures: (T, I) cosines, as in the paper's image-text matrices."""
    return (clip.class_features(prompts) @ clip.image_features(images).T).cpu().numpy()
