"""Several concepts and one model: one exam about all of them, what a search along it measures, and
the table of who pays for whom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import EmptySetError, SearchFailedError, SettingError
from slugkit.data import Pairs, Source
from slugkit.data.pictures import Pictures
from slugkit.data.recipe import joined
from slugkit.data.source import Exam, Prompts, groups_of
from slugkit.evaluation.clip import STEERING, class_features, ranks, retain_score
from slugkit.evaluation.statistics import (
    LEAST_FOR_AN_INTERVAL,
    above_chance,
    bootstrap_mean,
    over_wordings,
    share,
)
from slugkit.method.layers import tower_of
from slugkit.method.search import Criterion
from slugkit.models import Clip
from slugkit.patch import Patch
from slugkit.unlearning.objectives import CutClasses

TARGETS = ("targets, FA@1", "targets, FA@5", "worst target", "worst wording")
"""Groups of `curve_rows` that are about what is forgotten."""


@dataclass
class SeveralExam:
    """The exams about several concepts as one. Pictures that all of them hold occur once.

    exams: one a concept, without its pictures. pairs: N pictures, in memory or on disk. prompts: as
    of an exam, in the wordings that name none of the concepts. base: (N,) bool; false for the
    additional pictures of a concept, which no other concept's exam holds and which count for it
    alone. split: search or report.
    """

    exams: dict[str, Exam]
    pairs: Pairs
    prompts: Prompts
    base: np.ndarray
    split: str

    @property
    def concepts(self) -> list[str]:
        """The concepts, in the order given."""
        return list(self.exams)

    def domain(self, concept: str) -> str:
        """Domain in which the concept is a class."""
        return self.exams[concept].target_domain

    def shows(self, concept: str) -> np.ndarray:
        """(N,) bool: the pictures that show the concept."""
        return (self.pairs.table[self._column(self.domain(concept))] == concept).to_numpy()

    @staticmethod
    def _column(domain: str) -> str:
        return "style" if domain == "styles" else "concept"

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain, in the order in which they are numbered."""
        return list(next(iter(self.prompts[domain].values())))

    def labels(self, domain: str) -> np.ndarray:
        """(N,) int64: number of the class that each picture shows in a domain; -1 for none."""
        any_exam = next(iter(self.exams.values()))
        return replace(any_exam, pairs=self.pairs, prompts=self.prompts).labels(domain)

    def groups(self, forgotten: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
        """What must stay when these are forgotten: group -> (domain, rows). neighbours: of any of
        them, and not forgotten; then by domain, characters apart from people.
        """
        forgotten, out = list(forgotten), {}
        nothing = np.zeros(len(self.pairs), bool)
        gone = np.any([nothing, *(self.shows(c) for c in forgotten)], axis=0)
        near = {n for c in forgotten for n in self.exams[c].neighbours} - set(forgotten)
        for domain in dict.fromkeys(self.domain(c) for c in forgotten):
            names = self.pairs.table[self._column(domain)]
            mine = names.isin(near & set(self.classes(domain))).to_numpy()
            group = "neighbours" if "neighbours" not in out else f"neighbours, {domain}"
            out[group] = (domain, np.flatnonzero(mine & self.base & ~gone))
        for domain in self.prompts:
            rows = np.flatnonzero(self.base & ~gone & (self.labels(domain) >= 0))
            found = groups_of(self.pairs.table, domain, rows)
            out |= {group: (domain, rows) for group, rows in found.items()}
        return {group: (domain, rows) for group, (domain, rows) in out.items() if len(rows)}


def _all_pictures(exams: dict[str, Exam]) -> Pairs:
    """The pictures of all exams one after the other. Raises SettingError where some are on disk."""
    parts = [exam.pairs for exam in exams.values()]
    on_disk = [isinstance(part.images, Pictures) for part in parts]
    if all(on_disk):
        return joined(parts)
    if any(on_disk):
        apart = ", ".join(concept for concept, here in zip(exams, on_disk, strict=True) if not here)
        raise SettingError(
            f"The exams about {apart} are drawn by the studio and the others read from this disk; "
            "pictures of one sort were expected. Forget them in two runs."
        )
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Pairs(np.concatenate([part.images for part in parts]), table)


def _require_one_place(exams: dict[str, Exam], prompts: Prompts) -> None:
    """Raises SettingError where the exams do not tell the same classes apart."""
    for concept, exam in exams.items():
        for domain in exam.prompts:
            asked = set(next(iter(prompts.get(domain, {}).values()), ()))
            if set(exam.classes(domain)) != asked:
                raise SettingError(
                    f"The exam about {concept} tells other {domain} apart than those about the "
                    "other concepts; the same classes were expected. Forget together what one "
                    "source examines."
                )


def several_exam(
    source: Source, concepts: list[str], split: str, per_style: int = 0
) -> SeveralExam:
    """One exam about all the concepts, from any source; pictures on disk stay there.

    split: search or report; per_style: as of `Source.exam`. Raises SettingError for no or repeated
    concepts or for concepts that are examined in different places, EmptySetError where nothing else
    of a concept's domain would be left to lose, and what `Source.exam` raises.
    """
    if not concepts or len(set(concepts)) != len(concepts):
        raise SettingError(
            f"The concepts arrived as {concepts}; at least one, each of them once, was expected."
        )
    exams = {c: source.exam(c, split, per_style) for c in concepts}
    pairs, prompts = _all_pictures(exams), source.prompts(concepts, split)
    _require_one_place(exams, prompts)
    held = pairs.table["key"].value_counts()
    pairs = pairs.where(~pairs.table["key"].duplicated())
    exams = {c: replace(exam, pairs=exam.pairs.take([])) for c, exam in exams.items()}
    several = SeveralExam(exams, pairs, prompts, np.ones(len(pairs), bool), split)
    own = np.any([several.shows(c) for c in concepts], axis=0)
    shared = (pairs.table["key"].map(held) > 1).to_numpy()
    several.base = ~own | shared | (len(concepts) == 1)
    left = {domain for domain, _ in several.groups(concepts).values()}
    for concept in concepts:
        if several.domain(concept) not in left:
            raise EmptySetError(
                f"Without {', '.join(concepts)} the {split} split shows nothing else that is asked "
                f"about among the {several.domain(concept)}; others were expected, or there is "
                "nothing to lose. Name fewer concepts, or add pictures of others."
            )
    return several


class SeveralScorer:
    """The exam with the features of its pictures by one model, taken once: edits of the text tower
    leave them as they are.

    On a search exam the model is to know every concept; raises SearchFailedError for one whose
    pictures it gets right no more often than by chance.
    """

    def __init__(self, clip: Clip, exam: SeveralExam):
        prompts = {domain: clip.wordings(said) for domain, said in exam.prompts.items()}
        self.clip, self.exam = clip, replace(exam, prompts=prompts)
        self.v = clip.image_features(exam.pairs.images)
        self.labels = {d: torch.from_numpy(exam.labels(d)).to(self.v.device) for d in exam.prompts}
        if exam.split == "search":
            t = self.classes()
            for concept in exam.concepts:
                self._require_known(concept, t)

    def _require_known(self, concept: str, t: dict[str, torch.Tensor]) -> None:
        right, classes = self.of(concept, t) < 1, len(self.exam.classes(self.exam.domain(concept)))
        hits, n = round(float(right.mean(0).sum())), right.shape[1]
        if not above_chance(hits, n, classes):
            raise SearchFailedError(
                f"Before any edit the model is right about {hits} of the {n} search pictures of "
                f"{concept!r}, which is no more than chance among {classes} classes; more was "
                "expected of every concept, or there is nothing to forget. Leave it out, take a "
                "model that knows it, or add search pictures."
            )

    def criterion(self, target: str = "auto") -> Criterion:
        """The criterion among as many classes as the concept with the fewest stands among."""
        exam = self.exam
        domains = {exam.domain(concept) for concept in exam.concepts}
        return Criterion.among(min(len(exam.classes(domain)) for domain in domains), target)

    def ranks(self, domain: str, rows: np.ndarray, t: torch.Tensor) -> np.ndarray:
        """How many classes of the domain score higher than the true one, for these rows.

        t: (W, C, d) class features. Returns (W, n) int64.
        """
        rows = torch.from_numpy(rows).to(self.v.device)
        v, labels = self.v[rows], self.labels[domain][rows]
        return torch.stack([ranks(v @ classes.T, labels) for classes in t]).cpu().numpy()

    @cached_property
    def _target_rows(self) -> dict[str, np.ndarray]:
        return {c: np.flatnonzero(self.exam.shows(c)) for c in self.exam.concepts}

    def of(self, concept: str, t: dict[str, torch.Tensor]) -> np.ndarray:
        """Ranks on the pictures of one concept, (W, n)."""
        domain = self.exam.domain(concept)
        return self.ranks(domain, self._target_rows[concept], t[domain])

    def forget(self, concepts: Iterable[str], t: dict[str, torch.Tensor]) -> dict[str, float]:
        """The largest FA@1 and FA@5 among these concepts and the wordings: keys fa1, fa5, 0..1."""
        found = [self.of(c, t) for c in concepts]
        return {f"fa{k}": max(float((r < k).mean(1).max()) for r in found) for k in (1, 5)}

    def rest(self, forgotten: Iterable[str], t: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Group -> ranks on the pictures of what must stay, (W, n)."""
        return {
            group: self.ranks(domain, rows, t[domain])
            for group, (domain, rows) in self.exam.groups(forgotten).items()
        }

    def classes(self, domains: Iterable[str] = ()) -> dict[str, torch.Tensor]:
        """Domain -> (W, C, d) class features of the model as it is now, of these domains or all."""
        asked = {d: self.exam.prompts[d] for d in domains} or self.exam.prompts
        return class_features(self.clip, replace(self.exam, prompts=asked))

    def table(self, forgotten: list[str], t: dict[str, torch.Tensor] | None = None) -> pd.DataFrame:
        """The scores of the model as it is now, where `forgotten` should be gone.

        Two rows for each of them (group target, metrics FA@1 and FA@5), then one a group
        (accuracy): concept ("" for a group), group, metric, value (0..1, mean over the wordings),
        low, high (`over_wordings`), n, worst (of the wordings: for a target the largest).
        """
        t = self.classes() if t is None else t
        rows = []
        for concept in forgotten:
            r = self.of(concept, t)
            for k in (1, 5):
                worst = float((r < k).mean(1).max())
                named = {"concept": concept, "group": "target", "metric": f"FA@{k}"}
                rows.append({**named, **over_wordings(r < k), "worst": worst})
        for group, r in self.rest(forgotten, t).items():
            worst = float((r < 1).mean(1).min())
            named = {"concept": "", "group": group, "metric": "accuracy"}
            rows.append({**named, **over_wordings(r < 1), "worst": worst})
        return pd.DataFrame(rows)


class SeveralMeasure:
    """What a probe of the step search measures where several concepts are to go: the worst of them.
    Edits of the text tower; search split only.

    layer: the one that moves. asked: the concepts whose forget accuracy counts; gone: those that
    need not stay (by default the same). classes: class features that were cut at this layer
    already. Raises SettingError for a report exam or a layer of the vision tower.
    """

    def __init__(
        self,
        scorer: SeveralScorer,
        layer: str,
        asked: list[str],
        gone: list[str] | None = None,
        classes: CutClasses | None = None,
    ):
        if scorer.exam.split != "search":
            raise SettingError(
                f"The step search was handed the {scorer.exam.split} split; expected the search "
                "split. Report pictures must not steer the search."
            )
        if tower_of(layer) != "text":
            raise SettingError(
                f"{layer} is a layer of the vision tower; one of the text tower was expected, "
                "which leaves the pictures' features as they are."
            )
        self.scorer, self.layer = scorer, layer
        self.asked, self.gone = list(asked), list(asked if gone is None else gone)
        self._classes = classes or CutClasses(scorer.clip, scorer.exam.prompts, layer)

    def about(self, asked: list[str], gone: list[str] | None = None) -> SeveralMeasure:
        """The same layer, other concepts; what lies before the layer is not computed again."""
        return SeveralMeasure(self.scorer, self.layer, asked, gone, self._classes)

    def forget(self) -> dict[str, float]:
        """See `SeveralScorer.forget`, of the concepts asked about."""
        self._now = {
            d: self._classes(d)
            for d in dict.fromkeys(self.scorer.exam.domain(c) for c in self.asked)
        }
        return self.scorer.forget(self.asked, self._now)

    def retain(self) -> dict[str, float]:
        """See `retain_score`; ask after `forget` at the same step."""
        t = {
            d: self._now[d] if d in self._now else self._classes(d)
            for d in self.scorer.exam.prompts
        }
        return retain_score(
            {g: r for g, r in self.scorer.rest(self.gone, t).items() if g in STEERING}
        )


def interference(scorer: SeveralScorer, edits: dict[str, list[Patch]]) -> pd.DataFrame:
    """Who pays for whom: every concept's accuracy, and that of the groups, without an edit and with
    each one.

    edits: what is forgotten -> its patches. Columns forgotten ("nothing" first), measured (a
    concept or a group of what is none of the exam's concepts), group (target or the group), value
    (top-1, mean over the wordings), low, high, n. The model is left as it was.
    """
    frames = []
    for name, patches in {"nothing": [], **edits}.items():
        with patch.all_applied(patches, scorer.clip.model):
            found = scorer.table(scorer.exam.concepts)
        found = found[found["metric"] != "FA@5"]
        measured = found["concept"].where(found["concept"] != "", found["group"])
        frames.append(found.assign(forgotten=name, measured=measured))
    columns = ["forgotten", "measured", "group", "value", "low", "high", "n"]
    return pd.concat(frames, ignore_index=True)[columns]


def curve_rows(
    scorer: SeveralScorer, forgotten: list[str], patches: list[Patch], **labels
) -> pd.DataFrame:
    """One point of the curve over the number of concepts: the targets taken together, the one that
    is recognised most, the wording in which they are recognised most, and the groups.

    labels: further columns, such as way="sum". Columns count, group (targets, FA@1; targets, FA@5;
    worst target and worst wording, both FA@5; then the groups), of (whose, or which, the worst is),
    value, low, high, n. Means over the wordings but for the worst one; from five concepts up the
    intervals of the targets taken together cover the spread over concepts too.
    """
    with patch.all_applied(patches, scorer.clip.model):
        t = scorer.classes()
    found, numbers = scorer.table(forgotten, t), ["value", "low", "high", "n"]
    rest = found[found["group"] != "target"]
    rows = _target_rows(scorer, found, t) if forgotten else []
    rows += rest[["group", *numbers]].assign(of="").to_dict("records")
    return pd.DataFrame(rows).assign(count=len(forgotten), **labels)


def _target_rows(
    scorer: SeveralScorer, found: pd.DataFrame, t: dict[str, torch.Tensor]
) -> list[dict]:
    """The rows of `curve_rows` about what is forgotten. found: of `SeveralScorer.table`."""
    numbers, rows, asked = ["value", "low", "high", "n"], [], {}
    targets = found[found["group"] == "target"]
    domains = {c: scorer.exam.domain(c) for c in targets["concept"].unique()}
    together = {
        d: np.concatenate([scorer.of(c, t) for c in domains if domains[c] == d], axis=1)
        for d in dict.fromkeys(domains.values())
    }
    for k in (1, 5):
        parts = [over_wordings(r < k) for r in together.values()]
        n = [part["n"] for part in parts]
        mean = {key: np.average([part[key] for part in parts], weights=n) for key in numbers[:3]}
        each = targets.loc[targets["metric"] == f"FA@{k}", "value"]
        if len(each) >= LEAST_FOR_AN_INTERVAL:
            less, more = bootstrap_mean(each)
            mean |= {"low": min(mean["low"], less), "high": max(mean["high"], more)}
        rows.append({"group": f"targets, FA@{k}", "of": "", **mean, "n": sum(n)})
    for d, r in together.items():
        asked |= {w: share(hits) for w, hits in zip(scorer.exam.prompts[d], r < 5, strict=True)}
    five = targets[targets["metric"] == "FA@5"]
    worst = five.loc[five["value"].idxmax()]
    wording = max(asked, key=lambda w: asked[w]["value"])
    rows.append({"group": "worst target", "of": worst["concept"], **worst[numbers]})
    rows.append({"group": "worst wording", "of": wording, **asked[wording]})
    return rows


def as_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `curve_rows` with a column `way` as a table to read: one line a way, accuracies in
    percent, the targets first.
    """
    table = rows.pivot_table(index="way", columns="group", values="value", sort=False)
    first = [g for g in (*TARGETS, "neighbours") if g in table]
    others = [group for group in table if group not in first]
    return table[[*first, *others]].mul(100).round(1).rename_axis(columns=None)
