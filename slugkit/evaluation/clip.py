"""Zero-shot evaluation of CLIP about one concept: FA@1, FA@5 and what must stay, group by group,
with intervals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.data import Exam
from slugkit.evaluation.statistics import COLUMNS, MEAN, WORST, over_wordings, share
from slugkit.models import Clip

STEERING = ("neighbours", "people", "characters", "objects", "styles", "novel", "classes")
"""Groups whose accuracy steers the step search (those that the data have)."""


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes score higher than the true one: 0 means right at top 1.

    scores (N, C), labels (N,) -> (N,) int64.
    """
    true = scores.gather(1, labels.to(scores.device)[:, None])
    return (scores > true).sum(1)


def accuracy_at_k(scores: torch.Tensor, labels: torch.Tensor, k: int = 1) -> float:
    """Share of rows whose true class is among the k best scores. Returns 0..1."""
    return (ranks(scores, labels) < k).float().mean().item()


class ExamScorer:
    """An exam turned into questions about features: which rows belong to which group, and what the
    right answers are.

    `forget` and `retain` take image features (N, d) in the exam's order and class features by
    domain, (W, C, d): one text feature a class in each of W wordings.
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
        rest = [rows for group, (_, rows) in self.groups.items() if group != "target"]
        return np.unique(np.concatenate(rest))

    def group_ranks(self, group: str, v: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
        """Rank of the true class for every picture of a group, (W, n); v holds the features of all
        rows of the exam.
        """
        domain, rows = self.groups[group][0], self.rows[group]
        mine, labels = v[rows], self.labels[domain][rows]
        return torch.stack([ranks(mine @ classes.T, labels) for classes in t[domain]])

    def forget(self, v: torch.Tensor, t: dict[str, torch.Tensor]) -> dict[str, float]:
        """FA@1 and FA@5 of the target among all classes of its domain in the wording in which each
        is largest, 0..1, and the number of pictures.
        """
        r = self.group_ranks("target", v, t)
        worst = {f"fa{k}": (r < k).float().mean(1).max().item() for k in (1, 5)}
        return {**worst, "n": r.shape[1]}

    def known(self, v: torch.Tensor, t: dict[str, torch.Tensor]) -> float:
        """FA@1 of the target, the mean over the wordings, 0..1."""
        return (self.group_ranks("target", v, t) < 1).float().mean().item()

    def retain(self, v: torch.Tensor, t: dict[str, torch.Tensor]) -> dict[str, float]:
        """Top-1 accuracy by group, the mean over the wordings; see `retain_score`."""
        found = {g: self.group_ranks(g, v, t) for g in self.groups if g in STEERING}
        return retain_score(found)


def retain_score(found: dict[str, torch.Tensor | np.ndarray]) -> dict[str, float]:
    """Accuracy by group, their mean `retain`, in which each group weighs as many as its pictures,
    and how many pictures these are, `pictures`.

    found: group -> ranks, (W, n) for W wordings.
    """
    accuracy = {
        group: float((torch.as_tensor(r).cpu() < 1).double().mean()) for group, r in found.items()
    }
    sizes = [r.shape[-1] for r in found.values()]
    mean = float(np.average(list(accuracy.values()), weights=sizes))
    return {"retain": mean, **accuracy, "pictures": sum(sizes)}


def askable(clip: Clip, exam: Exam) -> Exam:
    """The exam in the wordings that the model reads to their end.

    Raises SettingError where it tells two classes not apart.
    """
    return replace(exam, prompts={d: clip.wordings(said) for d, said in exam.prompts.items()})


def text_groups(wordings: dict[str, dict[str, list[str]]]) -> list[list[str]]:
    """The texts of every class in every wording: wordings first, classes within."""
    return [texts for classes in wordings.values() for texts in classes.values()]


def group_means(flat: torch.Tensor, groups: list[list[str]], wordings: int) -> torch.Tensor:
    """(W, C, d) mean features of unit length, from those of all texts of `text_groups`."""
    means = torch.stack([g.mean(0) for g in torch.split(flat, [len(g) for g in groups])])
    return F.normalize(means, dim=-1).reshape(wordings, -1, flat.shape[-1])


def class_features(clip: Clip, exam: Exam) -> dict[str, torch.Tensor]:
    """Domain -> (W, C, d) class features of unit length, in the order of the exam's wordings and
    classes.
    """
    found = {}
    for domain, wordings in exam.prompts.items():
        groups = text_groups(wordings)
        flat = clip.text_features([text for texts in groups for text in texts])
        found[domain] = group_means(flat, groups, len(wordings))
    return found


def ensemble(classes: torch.Tensor) -> torch.Tensor:
    """One feature a class for all wordings: their mean, brought back to unit length.

    (W, C, d) -> (C, d).
    """
    return F.normalize(classes.mean(0), dim=-1)


def answers(clip: Clip, exam: Exam, group: str = "target") -> pd.DataFrame:
    """What the model calls each picture of a group, by the mean text of all wordings: columns true,
    answer, style, score (cosine of the answer).
    """
    scorer = ExamScorer(exam)
    domain, rows = scorer.groups[group]
    names = exam.classes(domain)
    classes = ensemble(class_features(clip, exam)[domain])
    best = (clip.image_features(exam.pairs.images[rows]) @ classes.T).max(1)
    return pd.DataFrame(
        {
            "true": [names[i] for i in scorer.labels[domain][rows]],
            "answer": [names[i] for i in best.indices.tolist()],
            "style": exam.pairs.table["style"].to_numpy()[rows],
            "score": best.values.cpu().numpy(),
        }
    )


def rows_from_ranks(
    found: dict[str, np.ndarray],
    exam: Exam,
    stage: str,
    method: str = "SLUG",
    model: str = "studio",
) -> pd.DataFrame:
    """Metric rows (the columns of metrics.parquet) from the ranks of every group: top-1 everywhere,
    top-5 for the target.

    found: group -> (W, n). One row a wording, then `mean` and `worst`: for the target the wording
    in which it is recognised most, for another group the one in which it is recognised least.
    """
    rows = []
    for group, r in found.items():
        domain = exam.groups()[group][0]
        for k in (1, 5) if group == "target" else (1,):
            each = [share(hits) for hits in r < k]
            least = (max if group == "target" else min)(each, key=lambda row: row["value"])
            scores = dict(zip(exam.prompts[domain], each, strict=True))
            scores |= {MEAN: over_wordings(r < k), WORST: least}
            metric = f"FA@{k}" if group == "target" else "accuracy"
            about = {"group": group, "metric": metric}
            rows += [{**about, "wording": w, **row} for w, row in scores.items()]
    facts = {"family": "clip", "model": model, "concept": exam.concept, "method": method}
    return pd.DataFrame(rows).assign(**facts, stage=stage, split=exam.split)[COLUMNS]


def evaluate_clip(
    clip: Clip, exam: Exam, stage: str, method: str = "SLUG", v: torch.Tensor | None = None
) -> pd.DataFrame:
    """Tidy rows: every group in every wording, their mean and the worst, with value, 95 % interval
    and denominator.

    exam: the report exam for numbers that are reported. stage: before, after or oracle. v: (N, d)
    features of the exam's pictures, where they are known already (an edit of the text tower leaves
    them as they were).
    """
    exam = askable(clip, exam)
    scorer = ExamScorer(exam)
    v = (clip.image_features(exam.pairs.images) if v is None else v).cpu()
    t = {d: x.cpu() for d, x in class_features(clip, exam).items()}
    found = {g: scorer.group_ranks(g, v, t).numpy() for g in scorer.groups}
    return rows_from_ranks(found, exam, stage, method, clip.source)


def portraits(exam: Exam, others: int = 3) -> tuple[list[str], np.ndarray, list[list[str]]]:
    """A plain picture and all texts of the target, of its two nearest classes, and of `others`.

    Returns:
        The names, the target's first; (N, H, W, 3) uint8 pictures; the texts of each class.
    """
    table = exam.pairs.table
    named = table["style" if exam.kind == "style" else "concept"]
    plain = table["style"].isin(["photo", ""]) & (exam.kind != "style")
    plain = plain if plain.any() else ~plain  # UnlearnCanvas has no plain pictures of a class
    seen = set(named[plain])  # a source may have more names than pictures
    near = exam.neighbours[:2]
    rest = [c for c in exam.classes(exam.target_domain) if c in seen - {exam.concept, *near}]
    names = [exam.concept, *near, *rest[:: max(1, len(rest) // others)][:others]]
    names = [name for name in names if name in seen]
    rows = [int(np.flatnonzero(((named == name) & plain).to_numpy())[0]) for name in names]
    asked = exam.prompts[exam.target_domain].values()
    texts = [[text for wording in asked for text in wording[name]] for name in names]
    return names, exam.pairs.images[rows], texts


def cosine_matrix(clip: Clip, images: np.ndarray, prompts: list[list[str]]) -> np.ndarray:
    """Mean-prompt text features against pictures: (T, I) cosines, as in the paper's image-text
    matrices.
    """
    return (clip.class_features(prompts) @ clip.image_features(images).T).cpu().numpy()
