"""Generated pictures before and after an edit, judged: UA, IRA and CRA in the sense of
UnlearnCanvas (its paper, section 4), and the artifact rate.

UA, unlearning accuracy: share of the target's pictures that the judge does not call the target.
IRA, in-domain retain accuracy: share of the pictures of other classes of the target's domain that
are called right. CRA, cross-domain retain accuracy: the same in the other domains, averaged over
them. Domains here: figures, objects, styles, novel, and classes for data that do not say what their
classes are. Pictures for CRA are those of IRA and of the other domains; the target's own are left
out, since they are meant to change. Data without styles have "" in the column style: then styles
are no domain.

Artifact rate: share of all pictures, the target's among them, that are blank (one colour all over,
as one of NaN comes out) or broken (the judge gives no subject half of its share). A picture may
count as forgotten because it shows nothing; the artifact rate says how many do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from slugkit.base import SettingError, cache_dir, cached_tensors, progress, sha256_json
from slugkit.data.source import GROUP_NAMES
from slugkit.evaluation.statistics import bootstrap_mean, share
from slugkit.method.search import PICTURES
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS, blank, draw
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.reading import reading_of
from slugkit.tasks.prompts import FIRST_SEED

COSINE = "text-image cosine"
ARTIFACTS, SURE = "artifacts", 0.5
"""Name of the artifact rate, and the share that the judge gives its answer, of a picture that shows
something, at least."""
FIRST_LOOK = 8
"""Pictures of the target that a probe draws before it asks whether the others can matter."""
KEPT_AT_ONCE = 128
"""Pictures of an answer set in one file of the cache; a multiple of every default batch size of
`draw`, so that batches are the same."""


def drawn_prompts(
    pipe, table: pd.DataFrame, steps: int = STEPS, guidance: float = GUIDANCE, batch_size: int = 0
) -> np.ndarray:
    """The pictures of an answer set, (N, H, W, 3) uint8, kept under cache_dir(): the same pipeline
    and prompts cost nothing again.

    They are kept by KEPT_AT_ONCE, so a drawing that was cut off goes on. batch_size: as of
    `slugkit.models.diffusion.draw`. Every network of the pipeline counts, so also the second text
    encoder of Stable Diffusion XL, and what is said to it
    (`slugkit.unlearning.steering.SpokenTo`).
    """
    weights = networks_sha256(pipe)
    scheduler = dict(pipe.scheduler.config.items())
    said = [pipe.said] if isinstance(getattr(pipe, "said", None), dict) else []

    def drawn(part: pd.DataFrame) -> np.ndarray:
        prompts, seeds = part["prompt"].tolist(), part["seed"].tolist()
        key = sha256_json([weights, prompts, seeds, steps, guidance, scheduler, *said])

        def made() -> dict[str, torch.Tensor]:
            images = draw(pipe, prompts, seeds, steps, guidance, batch_size)
            return {"images": torch.from_numpy(images)}

        path = cache_dir() / f"generated-{key[:20]}.safetensors"
        return cached_tensors(path, made)["images"].numpy()

    parts = [table.iloc[i : i + KEPT_AT_ONCE] for i in range(0, len(table), KEPT_AT_ONCE)]
    return np.concatenate(
        [drawn(part) for part in (progress(parts, "drawing") if len(parts) > 1 else parts)]
    )


def networks_sha256(pipe) -> list[str]:
    """The hash of each network of a pipeline, in the order of their names."""
    parts = (part for _, part in sorted(pipe.components.items()))
    return [weights_sha256(part) for part in parts if isinstance(part, torch.nn.Module)]


def judged(judge: Classifier, table: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """The answer set with what the judge says: called, called_style, and right_subject, right_style
    and artifact (bool).
    """
    said = judge.name(images)
    return table.assign(
        called=said["subject"].to_numpy(),
        called_style=said["style"].to_numpy(),
        right_subject=said["subject"].to_numpy() == table["subject"].to_numpy(),
        right_style=said["style"].to_numpy() == table["style"].to_numpy(),
        artifact=blank(images) | (said["subject_share"].to_numpy() < SURE),
    )


def _row(metric: str, group: str, hits) -> dict:
    return {"metric": metric, "group": GROUP_NAMES.get(group, group), **share(hits)}


def has_styles(table: pd.DataFrame) -> bool:
    """Whether an answer set asks for styles: not where its column style is "" throughout."""
    return "style" not in table or bool((table["style"] != "").any())


def ua_ira_cra(told: pd.DataFrame, domain: str) -> pd.DataFrame:
    """UA, IRA, CRA and the artifact rate from a judged answer set. domain: the target's, "figures",
    "objects", "styles", "novel" or "classes".

    Rows metric, group, value (0..1), low, high (Wilson 95 %), n: UA of the target; IRA of all
    others of the domain ("people" for figures, as in notebook 05; every class with the same number
    of pictures) and of the neighbours alone, on all their pictures; CRA by domain, and CRA as the
    mean over domains ("all"), whose interval is the mean of the domains' intervals; the artifact
    rate of all pictures, where the column artifact says which are.
    """
    target, others = told[told["group"] == "target"], told[told["group"] != "target"]
    rest = others[~others["extra"]]
    own = "right_style" if domain == "styles" else "right_subject"
    rows = [_row("UA", "target", ~target[own])]
    same = rest if domain == "styles" else rest[rest["domain"] == domain]
    if len(same):
        rows.append(_row("IRA", domain, same[own]))
    near = others[others["group"] == "neighbours"]
    if len(near):
        rows.append(_row("IRA", "neighbours", near[own]))
    cross = {
        d: part["right_subject"] for d, part in rest.groupby("domain", sort=False) if d != domain
    }
    if domain != "styles" and has_styles(rest):
        cross["styles"] = rest["right_style"]
    found = [_row("CRA", d, hits) for d, hits in cross.items()]
    mean = {k: float(np.mean([r[k] for r in found])) for k in ("value", "low", "high")}
    rows += [*found, {"metric": "CRA", "group": "all", **mean, "n": sum(r["n"] for r in found)}]
    return pd.DataFrame(
        rows + ([_row(ARTIFACTS, "all", told["artifact"])] if "artifact" in told else [])
    )


def measures(told: pd.DataFrame, domain: str) -> dict[str, float]:
    """UA, IRA, CRA and artifacts with bounds and denominators, flat: ua, ua_low, ua_high, ua_n, and
    so on; `near`: IRA of the neighbours.
    """
    found, flat = ua_ira_cra(told, domain), {}
    names = {"UA": "ua", "IRA": "ira", "CRA": "cra", ARTIFACTS: ARTIFACTS}
    for row in found.to_dict("records"):
        name = "near" if row["group"] == "neighbours" else names[row["metric"]]
        if row["metric"] != "CRA" or row["group"] == "all":  # of CRA the mean over the domains
            flat |= {name: row["value"]}
            flat |= {f"{name}_{column}": row[column] for column in ("low", "high", "n")}
    return flat


def text_image_cosines(clip: Clip, prompts: list[str], images: np.ndarray) -> np.ndarray:
    """(N,) cosines, -1..1, of N prompts and their pictures, (N, H, W, 3) uint8, by the unedited
    CLIP.
    """
    v, t = clip.image_features(images), clip.text_features(prompts)
    return (v * t).sum(1).cpu().numpy()


def fit_rows(told: pd.DataFrame) -> pd.DataFrame:
    """How near pictures are to their prompts: the mean of the column fit (`text_image_cosines`) for
    the target and for the rest. Rows as in `ua_ira_cra`, value in -1..1, 95 % bootstrap interval.
    """
    mine = told["group"] == "target"
    rows = []
    for group, part in (("target", told[mine]), ("rest", told[~mine & ~told["extra"]])):
        if len(part):
            low, high = bootstrap_mean(part["fit"].to_numpy())
            bounds = {"value": float(part["fit"].mean()), "low": low, "high": high}
            rows.append({"metric": COSINE, "group": group, **bounds, "n": len(part)})
    return pd.DataFrame(rows)


def require_askable(pipe, judge: Classifier, table: pd.DataFrame) -> None:
    """Raises SettingError where an answer set asks what cannot be answered: a subject or style that
    the judge does not tell apart, a prompt that the pipeline cuts.
    """
    for column, known in (("subject", judge.subjects), ("style", judge.styles)):
        strange = sorted(set(table[column]) - set(known))
        if strange and (column == "subject" or has_styles(table)):
            raise SettingError(
                f"The judge tells {len(known)} {column}s apart, and"
                f" {', '.join(map(repr, strange[:3]))} of the answer set"
                f" {'is' if len(strange) == 1 else 'are'} not among them. Take another judge_model,"
                " or a concept that this judge knows."
            )
    reading = reading_of(pipe.tokenizer)
    cut = [prompt for prompt in table["prompt"].unique() if not reading.fits(prompt)]
    if cut:
        raise SettingError(
            f"{len(cut)} prompts are longer than the {reading.context} tokens that"
            f" {type(pipe).__name__} reads, the first {cut[0][:120]!r}. Shorten the names."
        )


def told_by(
    pipe, judge: Classifier, table: pd.DataFrame, steps: int = STEPS, guidance: float = GUIDANCE
) -> pd.DataFrame:
    """The answer set drawn by the pipeline as it stands and judged, as `judged` gives it. Raises
    SettingError before drawing as `require_askable`.
    """
    require_askable(pipe, judge, table)
    return judged(judge, table, drawn_prompts(pipe, table, steps, guidance))


class PipelineMeasure:
    """What a probe of the step search measures on the pipeline's pictures; search prompts only.

    The forget measure is 1 - UA, under both keys fa1 and fa5, since the judge gives one answer; the
    retain measure is the mean of IRA and CRA.

    Args:
        again: writes the step into the pipeline (of `slugkit.models.reachability.movable`).
        domain: the target's.
        at_most: share of the target that counts as forgotten; where the first eight pictures of a
            single target hold more than all of them may, the others are not drawn, and the share is
            that of the eight.

    Attributes:
        drawn: pictures asked for so far.

    Raises:
        SettingError: the table holds report prompts.
    """

    def __init__(
        self,
        pipe,
        judge: Classifier,
        table: pd.DataFrame,
        domain: str,
        again: Callable[[], None],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        at_most: float = 1.0,
    ):
        if not table["seed"].between(FIRST_SEED["search"], FIRST_SEED["report"] - 1).all():
            raise SettingError(
                "The step search was handed report prompts; search prompts were expected."
            )
        self.pipe, self.judge, self.table, self.domain = pipe, judge, table, domain
        self.again, self.sampling, self.at_most = again, (steps, guidance), at_most
        self._target: pd.DataFrame | None = None
        self.drawn = 0

    def _part(self, target: bool) -> pd.DataFrame:
        return self.table[((self.table["group"] == "target") == target) & ~self.table["extra"]]

    def _told(self, part: pd.DataFrame) -> pd.DataFrame:
        self.drawn += len(part)
        return told_by(self.pipe, self.judge, part, *self.sampling)

    def _told_target(self, own: str) -> pd.DataFrame:
        part = self._part(True)
        if part[own].nunique() > 1 or len(part) <= FIRST_LOOK:
            return self._told(part)
        told = self._told(part.iloc[:FIRST_LOOK])
        if told[f"right_{own}"].sum() > self.at_most * len(part):
            return told
        return pd.concat([told, self._told(part.iloc[FIRST_LOOK:])])

    def forget(self) -> dict[str, float]:
        """Share of the target's search pictures that the judge still calls the target; of several
        targets the largest.
        """
        self.again()
        own = "style" if self.domain == "styles" else "subject"
        self._target = self._told_target(own)
        still = float(self._target.groupby(own)[f"right_{own}"].mean().max())
        return {"fa1": still, "fa5": still}

    def retain(self) -> dict[str, float]:
        """IRA, CRA and their mean, and of how many pictures; the target's pictures of the last
        `forget` do not count in them.
        """
        self.again()
        rest = self._told(self._part(False))
        found = measures(pd.concat([self._target, rest]), self.domain)
        ira, cra = float(found["ira"]), float(found["cra"])
        return {"retain": (ira + cra) / 2, PICTURES: len(rest), "ira": ira, "cra": cra}
