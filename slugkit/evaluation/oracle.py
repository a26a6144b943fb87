"""How far a model's answers about a concept lie from those of its oracle, which never saw it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from slugkit import patch
from slugkit.data import Exam
from slugkit.evaluation.clip import askable, class_features
from slugkit.models import Clip


@torch.no_grad()
def log_answers(clip: Clip, exam: Exam) -> torch.Tensor:
    """Log probabilities of the classes for the target's pictures, of softmax(exp(logit scale) *
    cosine): (wordings, pictures, classes), float32 on the CPU.
    """
    exam = askable(clip, exam)
    domain, rows = exam.groups()["target"]
    classes = class_features(clip, exam)[domain]
    v = clip.image_features(exam.pairs.images[rows])
    scores = clip.model.logit_scale.exp() * v @ classes.mT
    return F.log_softmax(scores.float(), dim=-1).cpu()


def mean_kl(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    """KL(p || q) in nats, the mean over all but the last axis, which holds the classes."""
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def oracle_distances(
    clip: Clip, oracle: Clip, exam: Exam, edits: dict[str, patch.Patch]
) -> dict[str, float]:
    """Mean KL(oracle || model) of the zero-shot distributions on the target's report pictures, in
    nats: "before", and one number for each patch by its name.
    """
    wanted = log_answers(oracle, exam)
    found = {"before": mean_kl(wanted, log_answers(clip, exam))}
    for name, edit in edits.items():
        with patch.applied(edit, clip.model):
            found[name] = mean_kl(wanted, log_answers(clip, exam))
    return found
