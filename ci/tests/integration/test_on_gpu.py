"""Every flow of a CLIP on a GPU that is not there (`pretend_gpu`): CUDA, and Apple's."""

import numpy as np
import pytest
import torch
from on_gpu import *  # noqa: F403 - fixtures
from on_gpu import REAL, TEXT, TWO, VISION, WHO, close
from plain_measure import PlainMeasure
from pretend_gpu import on_gpu

from slugkit.data import Pairs
from slugkit.evaluation import clip as scoring
from slugkit.evaluation.leftover import recognised_from_pictures
from slugkit.evaluation.statistics import headline
from slugkit.method.directions import retain_aware_directions
from slugkit.method.layers import weight_of
from slugkit.method.ranking import cosine
from slugkit.method.search import Criterion
from slugkit.models import pick_device
from slugkit.models.activations import read_moments
from slugkit.models.memory import plan
from slugkit.unlearning import several as ways
from slugkit.unlearning import workers
from slugkit.unlearning.adding import curve_rows, interference
from slugkit.unlearning.concept import evaluate, score_layers, search_along, search_layers
from slugkit.unlearning.gradients import forget_gradient, retain_gradient
from slugkit.unlearning.objectives import step_curve
from slugkit.unlearning.result import winning_patch
from slugkit.unlearning.retain import RetainSide
from slugkit.workbook import plots


def test_auto_is_the_gpu_for_models_and_for_the_manifest(kind, clip, pipe, vlm, judge):
    from slugkit.workbook.run.folder import machine

    assert pick_device().type == machine("auto")["device"] == clip.device.type == kind
    nets = pipe.unet, pipe.vae, pipe.text_encoder, vlm.model, judge.model, clip.model
    assert all(on_gpu(w) for net in nets for w in net.parameters())
    assert pipe.text_encoder.dtype == vlm.model.dtype == torch.float16


def test_a_concept_is_forgotten_with_both_towers_and_reported(clip, there, few, found):
    assert set(found.patches) == {"text", "vision"}, found.failed
    for edit in found.patches.values():
        assert not on_gpu(edit.direction)
        edit.verify(there.model)
    rows = headline(evaluate(clip, few, [found])).query("metric == 'FA@1'")
    known = rows.groupby("stage")["value"].mean()
    assert max(known["after"], known["oracle"]) < known["before"] == 1


def at_1(scores, labels):
    return (scoring.ranks(scores, labels) < 1).float().mean().item()


def test_reports_are_those_of_the_cpu(clip, there, few, edits):
    exam, said = few.exam(WHO, "report"), []
    domain, mine = exam.groups()["target"]
    truth = torch.from_numpy(exam.labels(domain)[mine])
    for on in (clip, there):
        rows, told = scoring.evaluate_clip(on, exam, "before"), scoring.answers(on, exam)
        v, classes = on.image_features(exam.pairs.images), scoring.class_features(on, exam)
        each = [at_1(v[mine] @ t.T, truth) for t in classes[domain]]
        mean = headline(rows).query("metric == 'FA@1'")["value"].item()
        assert mean == pytest.approx(sum(each) / len(each))
        top = at_1(v[mine] @ scoring.ensemble(classes[domain]).T, truth)
        assert (told["answer"] == WHO).mean() == pytest.approx(top)
        left = recognised_from_pictures(on, few, exam, edits, per_class=4)
        curve = step_curve(on, few.exam(WHO, "search"), edits["vision"], 3)
        tables = rows["value"], told["answer"], left["value"], curve["value"]
        said.append([column.tolist() for column in tables])
    assert said[0] == said[1]


def test_the_plain_search_and_that_of_a_third_of_a_packed_layer_agree_with_the_fast_one(
    clip, few, found
):
    exam, layer = few.exam(WHO, "search"), f"{TEXT}[v]"
    table = score_layers(clip, found.g_forget, found.g_forget, layers=[layer], split_qkv=True)
    assert table.loc[table["candidate"], "cosine"].tolist() == pytest.approx([1.0])
    how = lambda _: PlainMeasure(clip, exam), Criterion("fa1"), 0, 7
    plain = search_along(clip, found.g_forget, [layer], *how)
    for g in (found.g_forget, {layer: weight_of(found.g_forget, layer)}):
        probes = search_layers(clip, exam, g, [layer], Criterion("fa1"), max_trials=7)
        assert probes["fa1"].tolist() == plain["fa1"].tolist()
    assert winning_patch(clip, found.g_forget, probes, "text", WHO).layer == layer


def test_gradients_are_those_of_the_cpu_in_every_precision_and_in_chunks(clip, there, few):
    forget, retain = few.forget_set(WHO, 3, 0), few.retain_set([WHO], 6, 0)
    wanted = forget_gradient(there, forget)[VISION], retain_gradient(there, retain, 6)[TEXT]
    for precision, chunk, within in (("fp32", 2, 1e-4), ("bf16", None, 0.1), ("fp16", 2, 0.1)):
        g_f = forget_gradient(clip, forget, 6, [VISION], precision)[VISION]
        g_r = retain_gradient(clip, retain, 6, 0, precision, chunk)[TEXT]
        for g, known in zip((g_f, g_r), wanted, strict=True):
            assert on_gpu(g) and g.dtype == torch.float32 and close(g, known, within), precision


def test_retain_gradients_from_a_file_rank_as_those_just_made(clip, few, found, tmp_path):
    kept = [RetainSide(clip, few, [WHO], 12, 6, folder=tmp_path) for _ in range(2)]
    first, second = (
        score_layers(clip, found.g_forget, side.gradient, parts=side.parts) for side in kept
    )
    assert first.equals(second)
    g = found.g_forget[VISION]
    assert cosine(g, g.cpu()) == pytest.approx(1) == cosine(g.cpu(), g)


def test_workers_leave_the_gradient_of_one_process(clip, few, tmp_path):
    from accelerate import PartialState
    from safetensors.torch import load_file

    pairs, out = few.forget_set(WHO, 4, 0), tmp_path / "g.safetensors"
    pairs = Pairs(np.asarray(pairs.images), pairs.table)
    pairs.save(tmp_path, "forget")
    given = dict(model="studio", folder=tmp_path, name="forget", out=out, kind="forget")
    PartialState._reset_state()
    try:
        assert workers.main([part for k, v in given.items() for part in (f"--{k}", str(v))]) == 0
    finally:
        PartialState._reset_state()
    assert close(load_file(out)[TEXT], forget_gradient(clip, pairs)[TEXT])


def test_the_memory_plan_counts_on_the_gpu(kind, clip, there):
    here, other = (plan(on, 8) for on in (clip, there))
    assert here.require().device == kind and here.picture == 0 and here.first_pass == 0
    assert here.weights == other.weights
    # a real GPU's attention keeps other tensors for its way back
    assert here.per_pair == pytest.approx(other.per_pair, rel=0.2 if REAL else 0)


def test_slug_r_directions_are_those_of_the_cpu(clip, there, few, found):
    pairs, g = few.retain_set([WHO], 12, 0), {n: found.g_forget[n] for n in (TEXT, VISION)}
    here, other = (
        retain_aware_directions(way, read_moments(on, pairs, [TEXT, VISION]), 0.1)
        for on, way in ((clip, g), (there, {n: w.cpu() for n, w in g.items()}))
    )
    assert all(on_gpu(here[n]) and close(here[n], other[n]) for n in g)


def test_several_concepts_in_every_way(clip, few):
    scorer = scoring.Scorer(clip, scoring.zero_shot_task(few, TWO, "search"))
    side, layers = RetainSide(clip, few, TWO, 12, 6), ways.text_layers(clip, False)[:4]
    forget = {c: few.forget_set(c, 4, 0) for c in TWO}
    own, _ = ways.slug_patches(clip, scorer, forget, side, max_trials=7)

    gs = [forget_gradient(clip, pairs, weights=layers) for pairs in forget.values()]
    moments = side.moments(layers)
    aware = retain_aware_directions(ways.joint_gradient(gs), moments, 0.1)
    [joint], _ = ways.joint_step(clip, scorer, TWO, aware, layers, max_trials=7)
    each = [retain_aware_directions(g, moments, 0.1)[joint.layer] for g in gs]
    steps, _ = ways.own_steps(
        clip, scorer, joint.layer, dict(zip(TWO, each, strict=True)), max_trials=7
    )
    assert own and [p.concept for p in steps] == TWO
    table = interference(scorer, {"own": own[0], "joint": joint})
    assert table.loc[table["forgotten"] == "nothing", "value"].mean() > 0.8
    found = curve_rows(scorer, TWO, [joint]).set_index("group")["value"]
    assert found["targets, FA@1"] == 0


def test_figures_take_what_lies_on_the_gpu(kind):
    images, matrix = torch.zeros(2, 8, 8, 3, dtype=torch.uint8).to(kind), torch.eye(2).to(kind)
    assert plots.cosine_matrix(matrix, matrix / 2, ["a", "b"], images)[0].axes
    assert plots.picture_grid(images, ["a", "b"])[0].axes
