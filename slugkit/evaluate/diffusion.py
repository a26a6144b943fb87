"""Generated pictures before and after an edit, judged: UA, IRA and CRA in the sense of UnlearnCanvas (its paper, section 4).

UA, unlearning accuracy: share of the target's pictures that the judge does not call the target. IRA, in-domain retain
accuracy: share of the pictures of other classes of the target's domain that are called right. CRA, cross-domain retain
accuracy: the same in the other domains, averaged over them. Domains here: figures, objects, styles, novel. Pictures for
CRA are those of IRA and of the other domains; the target's own are left out, since they are meant to change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from slugkit.base import SettingError, cache_dir, sha256_json, sha256_tensor, write_tensors
from slugkit.evaluate.statistics import wilson
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS, draw
from slugkit.studio import World
from slugkit.studio.captions import IN_STYLE, article

TEMPLATES = {"search": (2,), "report": (0, 1)}
"""Which of a style's ways of saying it make the prompts of a split: the search never sees a report prompt."""
FIRST_SEED = {"search": 100_000, "report": 200_000}


def subject_domains(world: World) -> dict[str, str]:
    """Every subject that can be drawn -> its domain: figures, objects or novel."""
    return ({n: "figures" for n in (*world.people, *world.characters)} | {n: "objects" for n in world.objects}
            | {f"{shape}-shaped {body}": "novel" for shape, body in world.novel})


def phrase(subject: str, domain: str) -> str:
    """The subject as a prompt names it: a figure by name, a thing with its article."""
    return subject if domain == "figures" else article(subject)


def answer_set(world: World, concept: str, split: str, target_size: int = 28, size: int = 2) -> pd.DataFrame:
    """The prompts of one concept's evaluation, one row a picture: prompt, seed, subject, style, domain, group.

    concept: a subject or a style. split: "search" or "report"; their prompts and seeds are disjoint. target_size: pictures of
    the target, spread over all styles (for a style: over subjects). size: pictures of every other figure and object (and, for a
    novel concept, of every other novel one), each in another style. group: target, neighbours or rest. Raises SettingError.
    """
    domains = subject_domains(world)
    if split not in TEMPLATES:
        raise SettingError(f"split is {split!r}; 'search' or 'report' was expected.")
    if concept not in domains and concept not in world.styles:
        raise SettingError(f"{concept!r} is neither a subject nor a style of the studio; a name as in data/studio/world.json was expected.")
    styled, near = concept in world.styles, world.neighbours.get(concept, [])
    wanted = {"figures", "objects"} | ({domains[concept]} if not styled else set())
    subjects = [s for s, d in domains.items() if d in wanted and s != concept]
    looks = [s for s in world.styles if s != concept]
    if styled:
        plan = [(subjects[i * 7 % len(subjects)], concept, "target") for i in range(target_size)]
    else:
        plan = [(concept, looks[i % len(looks)], "target") for i in range(target_size)]
    for number, subject in enumerate(subjects):
        for k in range(size):
            style = looks[(number + k) % len(looks)]
            plan.append((subject, style, "neighbours" if (style if styled else subject) in near else "rest"))
    rows = []
    for number, (subject, style, group) in enumerate(plan):
        template = IN_STYLE[style][TEMPLATES[split][number % len(TEMPLATES[split])]]
        rows.append({"prompt": template.format(phrase(subject, domains[subject])), "seed": FIRST_SEED[split] + number, "subject": subject,
                     "style": style, "domain": domains[subject], "group": group})
    return pd.DataFrame(rows)


def drawn_prompts(pipe, table: pd.DataFrame, steps: int = STEPS, guidance: float = GUIDANCE, batch_size: int = 16) -> np.ndarray:
    """The pictures of an answer set, (N, H, W, 3) uint8, kept under cache_dir(): the same pipeline and prompts cost nothing again."""
    from safetensors.torch import load_file
    weights = [sha256_tensor(p) for part in (pipe.text_encoder, pipe.unet, pipe.vae) for p in part.parameters()]
    key = sha256_json([weights, table["prompt"].tolist(), table["seed"].tolist(), steps, guidance, dict(pipe.scheduler.config.items())])
    path = cache_dir() / f"generated-{key[:20]}.safetensors"
    if path.is_file():
        return load_file(path)["images"].numpy()
    images = draw(pipe, table["prompt"].tolist(), table["seed"].tolist(), steps, guidance, batch_size)
    write_tensors(path, {"images": torch.from_numpy(images)})
    return images


def judged(judge: Classifier, table: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """The answer set with what the judge says: called, called_style, right_subject and right_style (bool)."""
    said = judge.name(images)
    return table.assign(called=said["subject"].to_numpy(), called_style=said["style"].to_numpy(),
                        right_subject=said["subject"].to_numpy() == table["subject"].to_numpy(),
                        right_style=said["style"].to_numpy() == table["style"].to_numpy())


def _row(metric: str, group: str, hits) -> dict:
    hits = np.asarray(hits, bool)
    low, high = wilson(int(hits.sum()), len(hits))
    return {"metric": metric, "group": group, "value": float(hits.mean()), "low": low, "high": high, "n": len(hits)}


def ua_ira_cra(told: pd.DataFrame, domain: str) -> pd.DataFrame:
    """UA, IRA and CRA from a judged answer set. domain: the target's, "figures", "objects", "styles" or "novel".

    Rows metric, group, value (0..1), low, high (Wilson 95 %), n: UA of the target; IRA of all others of the domain and of the
    neighbours alone; CRA by domain, and CRA as the mean over domains, whose interval is the mean of the domains' intervals.
    """
    target, rest = told[told["group"] == "target"], told[told["group"] != "target"]
    own = "right_style" if domain == "styles" else "right_subject"
    rows = [_row("UA", "target", ~target[own])]
    same = rest if domain == "styles" else rest[rest["domain"] == domain]
    if len(same):
        rows.append(_row("IRA", domain, same[own]))
    near = same[same["group"] == "neighbours"]
    if len(near):
        rows.append(_row("IRA", "neighbours", near[own]))
    cross = {d: part["right_subject"] for d, part in rest.groupby("domain", sort=False) if d != domain}
    if domain != "styles":
        cross["styles"] = rest["right_style"]
    found = [_row("CRA", d, hits) for d, hits in cross.items()]
    mean = {k: float(np.mean([r[k] for r in found])) for k in ("value", "low", "high")}
    return pd.DataFrame([*rows, *found, {"metric": "CRA", "group": "all", **mean, "n": sum(r["n"] for r in found)}])


class PipelineMeasure:
    """What a probe of the step search measures on the pipeline's pictures; search prompts only.

    again: copies the CLIP's present weight into the pipeline (`slugkit.models.names.carried` yields it). domain: the target's.
    The forget measure is 1 - UA, under both keys fa1 and fa5, since the judge gives one answer. The retain measure is the mean
    of IRA and CRA. Raises SettingError for a table of report prompts.
    """

    def __init__(self, pipe, judge: Classifier, table: pd.DataFrame, domain: str, again: Callable[[], None], steps: int = STEPS,
                 guidance: float = GUIDANCE):
        if (table["seed"] >= FIRST_SEED["report"]).any():
            raise SettingError("The step search was handed report prompts; search prompts were expected. Report pictures must not steer the search.")
        self.pipe, self.judge, self.table, self.domain, self.again, self.sampling = pipe, judge, table, domain, again, (steps, guidance)
        self._target: pd.DataFrame | None = None

    def _told(self, target: bool) -> pd.DataFrame:
        part = self.table[(self.table["group"] == "target") == target]
        return judged(self.judge, part, draw(self.pipe, part["prompt"].tolist(), part["seed"].tolist(), *self.sampling))

    def forget(self) -> dict[str, float]:
        """Share of the target's search pictures that the judge still calls the target."""
        self.again()
        self._target = self._told(True)
        still = float(self._target["right_style" if self.domain == "styles" else "right_subject"].mean())
        return {"fa1": still, "fa5": still}

    def retain(self) -> dict[str, float]:
        """IRA, CRA and their mean; ask after `forget` at the same step."""
        found = ua_ira_cra(pd.concat([self._target, self._told(False)]), self.domain).set_index(["metric", "group"])["value"]
        kept = {"ira": float(found["IRA", self.domain]), "cra": float(found["CRA", "all"])}
        return {"retain": (kept["ira"] + kept["cra"]) / 2, **kept}
