"""The distance of a model's answers from the oracle's."""

from dataclasses import replace

import pytest
import torch

from slugkit import patch
from slugkit.data import open_data
from slugkit.evaluation.leftover import log_answers, mean_kl, oracle_distances
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.unlearning.concept import load_oracle

pytestmark = pytest.mark.slow


def test_kl_by_hand():
    p, q = (
        torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(),
        torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log(),
    )
    first = 0.5 * torch.log(torch.tensor(2.0)) + 0.5 * torch.log(torch.tensor(0.5 / 0.75))
    assert mean_kl(p, q) == pytest.approx(float(first) / 2, abs=1e-6)
    assert mean_kl(p, p) == 0 and mean_kl(q, p) > 0


def test_the_oracle_is_at_no_distance_from_itself_and_an_edit_moves_a_model():
    clip = load_clip("studio", "cpu")
    exam = open_data("studio", *clip.inputs).exam("Oskar Marlow", "report")
    table = exam.pairs.table
    few = exam.pairs.take([*table.index[table["concept"] == "Oskar Marlow"][:6], *range(6)])
    said = {d: dict(list(w.items())[:2]) for d, w in exam.prompts.items()}
    exam, oracle = replace(exam, pairs=few, prompts=said), load_oracle(clip, "Oskar Marlow")
    answers = log_answers(clip, exam)
    assert answers.shape[:2] == (2, int((few.table["concept"] == "Oskar Marlow").sum()))
    assert answers.exp().sum(-1).allclose(torch.ones(answers.shape[:2]), atol=1e-5)
    step = EditableLayer.of(
        clip.model, "text_projection", torch.randn(clip.model.text_projection.shape)
    )
    edit = patch.make(
        "text_projection", step, step.lam(0.5), "Oskar Marlow", tower="text", model=clip.model
    )
    far = oracle_distances(clip, oracle, exam, {"edit": edit})
    assert far["before"] > 1 and far["edit"] != far["before"]
    assert oracle_distances(oracle, oracle, exam, {})["before"] == 0
