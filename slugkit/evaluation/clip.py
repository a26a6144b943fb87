"""Zero-shot evaluation of a CLIP about one concept or several: FA@1, FA@5 and what must stay, group
by group, with intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import EmptySetError, SettingError
from slugkit.data import Exam, Pairs, Source
from slugkit.data.recipe import joined
from slugkit.evaluation.statistics import COLUMNS, MEAN, WORST, over_wordings, share
from slugkit.method.layers import tower_of
from slugkit.method.search import Criterion
from slugkit.models import Clip
from slugkit.models.prefix_cache import CutImages

STEERING = ("neighbours", "people", "characters", "objects", "styles", "novel", "classes")
"""Groups whose accuracy steers the step search (those that the data have)."""
Classes = dict[str, torch.Tensor]
"""Domain -> (W, C, d) class features: one text feature a class in each of W wordings."""


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes score higher than the true one: 0 means right at top 1.

    scores (N, C), labels (N,) -> (N,) int64.
    """
    true = scores.gather(1, labels.to(scores.device)[:, None])
    return (scores > true).sum(1)


def accuracy_at_k(scores: torch.Tensor, labels: torch.Tensor, k: int = 1) -> float:
    """Share of rows whose true class is among the k best scores, 0..1."""
    return (ranks(scores, labels) < k).float().mean().item()


def _all_pictures(exams: dict[str, Exam]) -> Pairs:
    """The pictures of all exams one after the other. Raises SettingError where some are on disk."""
    parts = [exam.pairs for exam in exams.values()]
    apart = ", ".join(concept for concept, exam in exams.items() if not exam.pairs.on_disk)
    if not apart:
        return joined(parts)
    if any(part.on_disk for part in parts):
        raise SettingError(
            f"The exams about {apart} are drawn by the studio and the others read from this disk; "
            "pictures of one sort were expected. Forget them in two runs."
        )
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Pairs(np.concatenate([part.images for part in parts]), table)


def zero_shot_task(source: Source, concepts: list[str], split: str, per_style: int = 0) -> Exam:
    """One task about all the concepts, from any source; pictures on disk stay there.

    Args:
        split: search or report.
        per_style: as of `Source.exam`.

    Raises:
        SettingError: no or repeated concepts, or concepts that are examined in different places.
        EmptySetError: nothing else of a concept's domain would be left to lose.
    """
    if not concepts or len(set(concepts)) != len(concepts):
        raise SettingError(
            f"The concepts arrived as {concepts}; at least one, each of them once, was expected."
        )
    exams = {c: source.exam(c, split, per_style) for c in concepts}
    pairs, prompts = _all_pictures(exams), source.prompts(concepts, split)
    for concept, exam in exams.items():
        for domain in exam.prompts:
            asked = set(next(iter(prompts.get(domain, {}).values()), ()))
            if set(exam.classes(domain)) != asked:
                raise SettingError(
                    f"The exam about {concept} tells other {domain} apart than those about the "
                    "other concepts; the same classes were expected. Forget together what one "
                    "source examines."
                )
    held = pairs.table["key"].value_counts()
    pairs = pairs.where(~pairs.table["key"].duplicated())
    together = Exam(pairs, {c: exam.targets[c] for c, exam in exams.items()}, prompts, split)
    if len(concepts) > 1:
        own = np.any([together.shows(c) for c in concepts], axis=0)
        together.base = ~own | (pairs.table["key"].map(held) > 1).to_numpy()
    left = {domain for domain, _ in together.rest(concepts).values()}
    for domain in map(together.domain, concepts):
        if domain not in left:
            raise EmptySetError(
                f"Without {', '.join(concepts)} the {split} split shows nothing else that is asked "
                f"about among the {domain}; others were expected, or there is nothing to lose. "
                "Name fewer concepts, or add pictures of others."
            )
    return together


class Scorer:
    """A task, and the features of its pictures by one model, taken once: edits of the text tower
    leave them as they are. Asked in the wordings that the model reads to their end.

    Args:
        exam: a task, or an exam about one concept.
        v: (N, d) features of the pictures, where they are known.
        layers: those that will be searched; what an edit of them leaves as it is, is kept from the
            one pass over the pictures.

    Raises:
        SettingError: the model tells two classes not apart.
    """

    def __init__(
        self, clip: Clip, exam: Exam, v: torch.Tensor | None = None, layers: Iterable[str] = ()
    ):
        self.clip, self.exam, self.layers = clip, askable(clip, exam), list(layers)
        if v is None:
            images = exam.pairs.images
            v = self.pictures.features if self.layers else clip.image_features(images)
        self.v = v.to(clip.device)
        labels = {d: torch.from_numpy(exam.labels(d)) for d in exam.prompts}
        self.labels = {d: numbers.to(clip.device) for d, numbers in labels.items()}
        self._rows: dict[tuple[str, ...], dict[str, tuple[str, np.ndarray]]] = {}

    @cached_property
    def pictures(self) -> CutImages:
        """The pictures, encoded from the layer onwards that an edit of the vision tower moves."""
        seen = [layer for layer in self.layers if tower_of(layer) == "vision"]
        return CutImages(self.clip, self.exam.pairs.images, seen)

    @cached_property
    def words(self) -> Classes:
        """The class features of the model as it was when they were first asked for."""
        return self.classes()

    def classes(self, domains: Iterable[str] = ()) -> Classes:
        """The class features of the model as it is now, of these domains or all."""
        asked = {d: self.exam.prompts[d] for d in domains} or self.exam.prompts
        return class_features(self.clip, replace(self.exam, prompts=asked))

    def criterion(self, target: str = "auto") -> Criterion:
        """The criterion among as many classes as the concept with the fewest stands among."""
        domains = map(self.exam.domain, self.exam.concepts)
        return Criterion.among(min(len(self.exam.classes(d)) for d in domains), target)

    def groups(self, forgotten: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
        """Every group of the exam but the target: see `Exam`; made once."""
        key = tuple(forgotten)
        if key not in self._rows:
            self._rows[key] = self.exam.rest(key)
        return self._rows[key]

    def ranks(
        self, domain: str, rows: np.ndarray, t: Classes, v: torch.Tensor | None = None
    ) -> np.ndarray:
        """How many classes of a domain score higher than the true one on these pictures, (W, n)."""
        rows = torch.from_numpy(rows).to(self.v.device)
        mine, labels = (self.v if v is None else v)[rows], self.labels[domain][rows]
        return torch.stack([ranks(mine @ classes.T, labels) for classes in t[domain]]).cpu().numpy()

    def of(self, concept: str, t: Classes, v: torch.Tensor | None = None) -> np.ndarray:
        """How many classes score higher than the concept on its own pictures, (W, n) int64.

        t: class features; v: features of all pictures, if not those of the unedited model.
        """
        rows = np.flatnonzero(self.exam.shows(concept))
        return self.ranks(self.exam.domain(concept), rows, t, v)

    def rest(
        self, forgotten: Iterable[str], t: Classes, v: torch.Tensor | None = None
    ) -> dict[str, np.ndarray]:
        """Group -> ranks on the pictures of what must stay, (W, n)."""
        return {g: self.ranks(d, rows, t, v) for g, (d, rows) in self.groups(forgotten).items()}

    def forget(
        self, concepts: Iterable[str], t: Classes, v: torch.Tensor | None = None
    ) -> dict[str, float]:
        """The largest FA@1 and FA@5 among these concepts and the wordings: keys fa1, fa5, 0..1."""
        found = [self.of(c, t, v) for c in concepts]
        return {f"fa{k}": max(float((r < k).mean(1).max()) for r in found) for k in (1, 5)}

    def retain(
        self, forgotten: Iterable[str], t: Classes, v: torch.Tensor | None = None
    ) -> dict[str, float]:
        """Top-1 accuracy by group, the mean over the wordings; their mean `retain`, in which each
        group weighs as many as its pictures; how many pictures these are, `pictures`.
        """
        found = {g: r for g, r in self.rest(forgotten, t, v).items() if g in STEERING}
        accuracy = {group: float((r < 1).mean()) for group, r in found.items()}
        sizes = [r.shape[1] for r in found.values()]
        mean = float(np.average(list(accuracy.values()), weights=sizes))
        return {"retain": mean, **accuracy, "pictures": sum(sizes)}

    def hits(
        self, forgotten: Iterable[str], t: Classes
    ) -> Iterator[tuple[dict[str, str], list[str], np.ndarray]]:
        """What is scored where `forgotten` should be gone: the columns concept ("" for a group),
        group and metric; the wordings; which answers are right, (W, n).
        """
        for c in forgotten:
            r, asked = self.of(c, t), list(self.exam.prompts[self.exam.domain(c)])
            for k in (1, 5):
                yield {"concept": c, "group": "target", "metric": f"FA@{k}"}, asked, r < k
        for group, r in self.rest(forgotten, t).items():
            asked = list(self.exam.prompts[self.groups(forgotten)[group][0]])
            yield {"concept": "", "group": group, "metric": "accuracy"}, asked, r < 1

    def table(self, forgotten: list[str], t: Classes | None = None) -> pd.DataFrame:
        """The scores of the model as it is now, where `forgotten` should be gone.

        Two rows for each of them (group target, metrics FA@1 and FA@5), then one a group
        (accuracy): concept ("" for a group), group, metric, value (0..1, mean over the wordings),
        low, high (`over_wordings`), n, worst (of the wordings: for a target the largest).
        """
        rows = []
        for about, _, right in self.hits(forgotten, self.classes() if t is None else t):
            worst = (max if about["group"] == "target" else min)(right.mean(1))
            rows.append({**about, **over_wordings(right), "worst": float(worst)})
        return pd.DataFrame(rows)


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
    domain, rows = exam.groups()[group]
    names = exam.classes(domain)
    classes = ensemble(class_features(clip, exam)[domain])
    best = (clip.image_features(exam.pairs.images[rows]) @ classes.T).max(1)
    return pd.DataFrame(
        {
            "true": [names[i] for i in exam.labels(domain)[rows]],
            "answer": [names[i] for i in best.indices.tolist()],
            "style": exam.pairs.table["style"].to_numpy()[rows],
            "score": best.values.cpu().numpy(),
        }
    )


def evaluate_clip(
    clip: Clip, exam: Exam, stage: str, method: str = "SLUG", v: torch.Tensor | None = None
) -> pd.DataFrame:
    """Tidy rows, with value, 95 % interval and denominator: every group in every wording, their
    mean, and the worst: for the target the wording in which it is recognised most.

    exam: the report exam for numbers that are reported. stage: before, after or oracle. v: (N, d)
    features of the exam's pictures, where they are known already (an edit of the text tower leaves
    them as they were).
    """
    scorer, rows = Scorer(clip, exam, v), []
    for about, asked, right in scorer.hits([exam.concept], scorer.classes()):
        each = [share(hits) for hits in right]
        worst = (max if about["group"] == "target" else min)(each, key=lambda row: row["value"])
        scores = dict(zip(asked, each, strict=True))
        scores |= {MEAN: over_wordings(right), WORST: worst}
        rows += [{**about, "wording": w, **row} for w, row in scores.items()]
    facts = {"family": "clip", "model": clip.source, "concept": exam.concept, "method": method}
    return pd.DataFrame(rows).assign(**facts, stage=stage, split=exam.split)[COLUMNS]


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
