"""Several concepts and one model: one exam about all of them, what a search along it measures, and the table of who pays for whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import EmptySetError, SearchFailedError, SettingError, UnknownConceptError
from slugkit.data import Pairs, Source
from slugkit.data.pictures import Pictures
from slugkit.data.recipe import joined
from slugkit.data.source import Exam, Prompts, groups_of
from slugkit.evaluate.clip import STEERING, answers, class_features, ranks, retain_score
from slugkit.evaluate.measure import CutClasses
from slugkit.evaluate.statistics import above_chance, over_wordings, share
from slugkit.models import Clip
from slugkit.models.layers import tower_of
from slugkit.patch import Patch
from slugkit.search import Criterion

TARGETS = ("targets, FA@1", "targets, FA@5", "worst target", "worst wording")
"""Groups of `curve_rows` that are about what is forgotten."""
TRIED = 100
"""Names that are looked at, at most, to find concepts that can be forgotten and examined: with many captions each look takes a while."""


@dataclass
class SeveralExam:
    """The exams about several concepts as one. Pictures that all of them hold occur once.

    exams: one a concept, without its pictures. pairs: N pictures, in memory or on disk. prompts: as
    of an exam, with the wordings and texts that every exam with the domain asks with (a concept
    stands in no text about another class, so none of them does). base: (N,) bool; false for the
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
        return (self.pairs.table["style" if self.domain(concept) == "styles" else "concept"] == concept).to_numpy()

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain, in the order in which they are numbered."""
        return list(next(iter(self.prompts[domain].values())))

    def labels(self, domain: str) -> np.ndarray:
        """(N,) int64: number of the class that each picture shows in a domain; -1 where it shows none."""
        first = next(exam for exam in self.exams.values() if domain in exam.prompts)
        whole = Exam(self.pairs, first.concept, first.kind, first.target_domain, self.prompts, first.neighbours, self.split)
        return whole.labels(domain)

    def groups(self, forgotten: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
        """What must stay when these are forgotten: group -> (domain, rows). neighbours: of any of them, and not forgotten; then by domain."""
        forgotten = list(forgotten)
        gone = np.any([self.shows(c) for c in forgotten], axis=0) if forgotten else np.zeros(len(self.pairs), bool)
        out = {}
        near = {n for c in forgotten for n in self.exams[c].neighbours} - set(forgotten)
        for domain in dict.fromkeys(self.domain(c) for c in forgotten):
            column = "style" if domain == "styles" else "concept"
            mine = self.pairs.table[column].isin(near & set(self.classes(domain))).to_numpy()
            rows = np.flatnonzero(mine & self.base & ~gone)
            out["neighbours" if "neighbours" not in out else f"neighbours, {domain}"] = (domain, rows)
        for domain in self.prompts:
            rows = np.flatnonzero(self.base & ~gone & (self.labels(domain) >= 0))
            found = groups_of(self.pairs.table, domain, rows)
            out |= {group: (domain, rows) for group, rows in found.items()}
        return {group: (domain, rows) for group, (domain, rows) in out.items() if len(rows)}


def _usable(source: Source, concept: str, clip: Clip | None) -> bool:
    """Whether a concept can be forgotten and examined: there is a training pair about it, both
    exams can be set, and the model, if one is given, knows it.
    """
    try:
        exam, _ = (source.exam(concept, split) for split in ("search", "report"))
        if not len(source.forget_set(concept, 1, 0)):
            return False
    except (EmptySetError, UnknownConceptError):
        return False
    return clip is None or _known(clip, exam)


def _known(clip: Clip, exam: Exam) -> bool:
    """Whether the model is right about the concept's pictures more often than by chance."""
    told = answers(clip, exam)
    hits = int((told["true"] == told["answer"]).sum())
    return above_chance(hits, len(told), len(exam.classes(exam.target_domain)))


def several_concepts(
    source: Source, concept: str, most: int = 10, clip: Clip | None = None
) -> list[str]:
    """The concept and others of its kind: at most a quarter of all, but two, so that enough is left to lose.

    The studio's report concepts come first, and of a recipe's people the best known. In data other than the studio's all of the kind are those whom the concept's
    report exam shows, and the others are taken, among the first 100 names, that have a training pair and pictures for both exams and that `clip`, if
    given, knows: they may be fewer, or none. The studio's are taken unasked.
    Raises UnknownConceptError; for data other than the studio's what `source.exam` raises.
    """
    kind, world, people = source.kind(concept), getattr(source, "world", None), getattr(source, "people", None)
    known = source.concepts()
    best = world.report.get(kind, []) if world else people.frequent()["name"].tolist() if people else []
    names = dict.fromkeys([*(name for name in best if name in set(known)), *known])
    alike = [name for name in names if name != concept and source.kind(name) == kind]
    if world:
        return [concept, *alike][:min(most, max(2, (len(alike) + 1) // 4))]
    exam = source.exam(concept, "report")
    shown = len(set(exam.labels(exam.target_domain)) - {-1})
    found = (name for name in alike[:TRIED] if _usable(source, name, clip))
    return [concept, *islice(found, min(most, max(2, shown // 4)) - 1)]


def concepts_to_forget(
    source: Source, named: list[str], concept: str, clip: Clip | None = None
) -> list[str]:
    """The concepts that the settings name or, where they name none, those of `several_concepts`.

    Raises UnknownConceptError for a name that the source does not know, SettingError for fewer than two, and what `several_concepts` raises.
    """
    concepts = list(named) or several_concepts(source, concept, clip=clip)
    for name in concepts:
        source.kind(name)
    if len(concepts) < 2:
        raise SettingError(f"There is one concept to forget, {concepts[0]!r}; two or more were expected. " + (
            "Name more in `concepts`." if named else f"No other of its kind in {source.name!r} was found that has training pairs and pictures for both exams"
                                                     f"{' and that the model knows' if clip else ''}; name them in `concepts`."))
    return concepts


def another_kind(source: Source, concept: str, clip: Clip | None = None) -> list[str]:
    """Concepts of another kind than this one's, as of `several_concepts`; none where the source has no other kind, or fewer than two of it that can be examined.

    On the studio objects, and people where the concept is an object. Raises UnknownConceptError.
    """
    kind, world = source.kind(concept), getattr(source, "world", None)
    if world:
        return several_concepts(source, world.report["person" if kind == "object" else "object"][0])
    others = islice((name for name in source.concepts() if source.kind(name) != kind), TRIED)
    first = next((name for name in others if _usable(source, name, clip)), None)
    found = several_concepts(source, first, clip=clip) if first else []
    return found if len(found) > 1 else []


def _all_pictures(exams: dict[str, Exam]) -> Pairs:
    """The pictures of all exams one after the other. Raises SettingError where only some are on disk."""
    parts = [exam.pairs for exam in exams.values()]
    on_disk = [isinstance(part.images, Pictures) for part in parts]
    if all(on_disk):
        return joined(parts)
    if any(on_disk):
        apart = ", ".join(concept for concept, here in zip(exams, on_disk) if not here)
        raise SettingError(f"The exams about {apart} are drawn by the studio and the others read from this disk; pictures of one sort were expected. "
                           "Forget them in two runs.")
    return Pairs(np.concatenate([part.images for part in parts]), pd.concat([part.table for part in parts], ignore_index=True))


def _shared_prompts(exams: dict[str, Exam]) -> Prompts:
    """The wordings that all exams with a domain have, each class with the texts that they share.

    Raises SettingError where they do not tell the same classes apart, or share no wording.
    """
    prompts: Prompts = {}
    for concept, exam in exams.items():
        for domain, asked in exam.prompts.items():
            known = prompts.setdefault(domain, asked)
            classes = exam.classes(domain)
            if set(next(iter(known.values()))) != set(classes):
                raise SettingError(
                    f"The exam about {concept} tells other {domain} apart than those about the "
                    "concepts before it; the same classes were expected. Forget together what one "
                    "source examines."
                )
            both = {
                w: {c: [text for text in known[w][c] if text in asked[w][c]] for c in known[w]}
                for w in known
                if w in asked
            }
            prompts[domain] = {w: said for w, said in both.items() if all(said.values())}
            if not prompts[domain]:
                raise SettingError(
                    f"Every wording that asks for {domain} names one of {', '.join(exams)}; one that "
                    "names none of them was expected. Name fewer concepts."
                )
    return prompts


def several_exam(source: Source, concepts: list[str], split: str, per_style: int = 0) -> SeveralExam:
    """One exam about all the concepts, from any source; pictures on disk stay there.

    split: search or report; per_style: as of `Source.exam`. Raises SettingError for no or repeated concepts or for concepts that are examined in different places,
    EmptySetError where nothing else of a concept's domain would be left to lose, and what `Source.exam` raises.
    """
    if not concepts or len(set(concepts)) != len(concepts):
        raise SettingError(f"The concepts arrived as {concepts}; at least one, each of them once, was expected.")
    exams = {c: source.exam(c, split, per_style) for c in concepts}
    pairs, prompts = _all_pictures(exams), _shared_prompts(exams)
    held = pairs.table["key"].value_counts()
    pairs = pairs.where(~pairs.table["key"].duplicated())
    exams = {c: replace(exam, pairs=exam.pairs.take([])) for c, exam in exams.items()}  # their pictures are in `pairs` now
    several = SeveralExam(exams, pairs, prompts, np.ones(len(pairs), bool), split)
    own = np.any([several.shows(c) for c in concepts], axis=0)
    several.base = ~own | (pairs.table["key"].map(held) > 1).to_numpy() | (len(concepts) == 1)
    left = {domain for domain, _ in several.groups(concepts).values()}
    for concept in concepts:
        if several.domain(concept) not in left:
            raise EmptySetError(f"Without {', '.join(concepts)} the {split} split shows nothing else that is asked about among the {several.domain(concept)}; "
                                "others were expected, or there is nothing to lose. Name fewer concepts, or add pictures of others.")
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
        """The criterion for names among as many classes as the first concept stands among."""
        exam = self.exam
        return Criterion.among(len(exam.classes(exam.domain(exam.concepts[0]))), target)

    def ranks(self, domain: str, rows: np.ndarray, t: torch.Tensor) -> np.ndarray:
        """How many classes of the domain score higher than the true one, for these rows. t: (W, C, d) class features. Returns (W, n) int64."""
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

    def rest(self, forgotten: Iterable[str], t: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Group -> ranks on the pictures of what must stay, (W, n)."""
        return {group: self.ranks(domain, rows, t[domain]) for group, (domain, rows) in self.exam.groups(forgotten).items()}

    def classes(self) -> dict[str, torch.Tensor]:
        """Domain -> (W, C, d) class features of the model as it is now."""
        return class_features(self.clip, self.exam)

    def table(self, forgotten: list[str], t: dict[str, torch.Tensor] | None = None) -> pd.DataFrame:
        """The scores of the model as it is now, with `forgotten` as the concepts that should be gone.

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
                rows.append({"concept": concept, "group": "target", "metric": f"FA@{k}", **over_wordings(r < k), "worst": worst})
        for group, r in self.rest(forgotten, t).items():
            worst = float((r < 1).mean(1).min())
            rows.append({"concept": "", "group": group, "metric": "accuracy", **over_wordings(r < 1), "worst": worst})
        return pd.DataFrame(rows)


class SeveralMeasure:
    """What a probe of the step search measures where several concepts are to go: the worst of them. Edits of the text tower; search split only.

    layer: the one that moves. asked: the concepts whose forget accuracy counts; gone: those that need not stay (by default the same). classes: class features that were cut at this layer already. Raises SettingError
    for a report exam or a layer of the vision tower.
    """

    def __init__(self, scorer: SeveralScorer, layer: str, asked: list[str], gone: list[str] | None = None, classes: CutClasses | None = None):
        if scorer.exam.split != "search":
            raise SettingError(f"The step search was handed the {scorer.exam.split} split; expected the search split. Report pictures must not steer the search.")
        if tower_of(layer) != "text":
            raise SettingError(f"{layer} is a layer of the vision tower; one of the text tower was expected, which leaves the pictures' features as they are.")
        self.scorer, self.layer, self.asked, self.gone = scorer, layer, list(asked), list(asked if gone is None else gone)
        self._classes = classes or CutClasses(scorer.clip, scorer.exam.prompts, layer)

    def about(self, asked: list[str], gone: list[str] | None = None) -> "SeveralMeasure":
        """The same layer, other concepts; what lies before the layer is not computed again."""
        return SeveralMeasure(self.scorer, self.layer, asked, gone, self._classes)

    def forget(self) -> dict[str, float]:
        """The largest FA@1 and FA@5 among the concepts asked about and the wordings."""
        self._now = {d: self._classes(d) for d in dict.fromkeys(self.scorer.exam.domain(c) for c in self.asked)}
        found = [self.scorer.of(c, self._now) for c in self.asked]
        return {f"fa{k}": max(float((r < k).mean(1).max()) for r in found) for k in (1, 5)}

    def retain(self) -> dict[str, float]:
        """See `retain_score`; ask after `forget` at the same step."""
        t = {d: self._now[d] if d in self._now else self._classes(d) for d in self.scorer.exam.prompts}
        return retain_score({g: r for g, r in self.scorer.rest(self.gone, t).items() if g in STEERING})


def interference(scorer: SeveralScorer, edits: dict[str, list[Patch]]) -> pd.DataFrame:
    """Who pays for whom: every concept's accuracy, and that of the groups, without an edit and with each one.

    edits: what is forgotten -> its patches. Columns forgotten ("nothing" first), measured (a concept or a group of what is none of the exam's concepts), group
    (target or the group), value, low, high, n. The model is left as it was.
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
    """One point of the curve over the number of concepts: the targets taken together, the one that is recognised most, and the groups.

    labels: further columns, such as way="sum". Columns count, group (targets, FA@1; targets, FA@5;
    worst target and worst wording, both FA@5; then the groups), of (whose, or which, the worst is),
    value, low, high, n. Means over the wordings but for the worst one.
    """
    with patch.all_applied(patches, scorer.clip.model):
        t = scorer.classes()
    found = scorer.table(forgotten, t)
    numbers = ["value", "low", "high", "n"]
    rest = found[found["group"] != "target"]
    rows = [{"group": g, "of": "", **row} for g, row in zip(rest["group"], rest[numbers].to_dict("records"))]
    if forgotten:
        five = found[found["metric"] == "FA@5"]
        worst = five.loc[five["value"].idxmax()]
        r = np.concatenate([scorer.of(c, t) for c in forgotten], axis=1)
        each = [share(hits) for hits in r < 5]
        most = max(range(len(each)), key=lambda k: each[k]["value"])
        wording = list(scorer.exam.prompts[scorer.exam.domain(forgotten[0])])[most]
        rows = [
            {"group": "targets, FA@1", "of": "", **over_wordings(r < 1)},
            {"group": "targets, FA@5", "of": "", **over_wordings(r < 5)},
            {"group": "worst target", "of": worst["concept"], **worst[numbers]},
            {"group": "worst wording", "of": wording, **each[most]},
            *rows,
        ]
    return pd.DataFrame(rows).assign(count=len(forgotten), **labels)


def as_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `curve_rows` with a column `way` as a table to read: one line a way, accuracies in percent, the targets first."""
    table = rows.pivot_table(index="way", columns="group", values="value", sort=False).mul(100).round(1).rename_axis(columns=None)
    first = [g for g in (*TARGETS, "neighbours") if g in table]
    return table[[*first, *[group for group in table if group not in first]]]
