"""Evaluation about one concept: formulas, groups, the fast measure against the plain one, and a whole small search."""

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError
from slugkit.evaluate.clip import ExamScorer, accuracy_at_k, class_features, evaluate_clip, ranks
from slugkit.evaluate.concept import forget_concept, front_layers, load_oracle, score_layers, search_layers, winning_patch
from slugkit.evaluate.leftover import recognised_from_pictures
from slugkit.evaluate.measure import FastMeasure, FixedFeatures, PlainMeasure
from slugkit.evaluate.curve import step_curve
from slugkit.evaluate.sweep import kept_rows, summarise, sweep
from slugkit.gradients import forget_gradient
from slugkit.search import Criterion, EditableLayer


@pytest.fixture(scope="module")
def exam(source):
    return source.exam("Mira Kestrel", "search", per_style=1)


@pytest.fixture(scope="module")
def gradient(clip, source):
    return forget_gradient(clip, source.forget_set("Mira Kestrel", 40, 0))


def test_accuracy_at_k_by_hand():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.3, 0.8], [0.4, 0.6, 0.5]])
    labels = torch.tensor([0, 1, 0])
    assert ranks(scores, labels).tolist() == [0, 1, 2]
    assert accuracy_at_k(scores, labels, 1) == pytest.approx(1 / 3) and accuracy_at_k(scores, labels, 2) == pytest.approx(2 / 3)


def test_every_group_is_classified_among_its_own_domain(clip, exam):
    scorer, classes = ExamScorer(exam), class_features(clip, exam)
    assert {d: len(x) for d, x in classes.items()} == {"figures": 44, "objects": 24, "styles": 7}
    v = clip.image_features(exam.pairs.images)
    labels = exam.labels("objects")
    inside = np.flatnonzero(labels >= 0)
    by_hand = (v[inside] @ classes["objects"].T).argmax(1).numpy() == labels[inside]
    assert scorer.retain(v, classes)["objects"] == pytest.approx(by_hand.mean())


def test_metric_rows_hold_intervals_and_denominators(clip, exam):
    rows = evaluate_clip(clip, exam, "before")
    assert (rows["low"] <= rows["value"]).all() and (rows["value"] <= rows["high"]).all() and (rows["n"] > 0).all()
    assert set(rows[rows["group"] == "target"]["metric"]) == {"FA@1", "FA@5"} and set(rows["split"]) == {"search"}


@pytest.mark.parametrize("layer", ["text_projection", "transformer.resblocks.2.mlp.c_proj.weight", "visual.proj",
                                   "visual.conv1.weight", "visual.transformer.resblocks.4.attn.out_proj.weight"])
def test_the_fast_measure_equals_the_plain_one(clip, exam, gradient, layer):
    fast, plain = FastMeasure(FixedFeatures(clip, exam), layer), PlainMeasure(clip, exam)
    with EditableLayer.of(clip.model, layer, gradient[layer]) as editable:
        for rho in (0.05, 0.3):
            editable.set(editable.lam(rho))
            assert fast.forget() == plain.forget()
            assert fast.retain() == pytest.approx(plain.retain(), abs=0.004)


def test_report_pictures_cannot_steer_a_search(clip, source):
    with pytest.raises(SettingError, match="report split"):
        FixedFeatures(clip, source.exam("car", "report", per_style=1))


def test_a_small_search_forgets_and_leaves_no_trace(clip, source, exam, gradient):
    """Check (d) on the real model: only the chosen layer moves, and it comes back bit for bit."""
    before = {n: p.detach().clone() for n, p in clip.model.named_parameters()}
    probes = search_layers(clip, exam, gradient, ["text_projection"], Criterion(), max_trials=8)
    assert all(torch.equal(p.detach(), before[n]) for n, p in clip.model.named_parameters())
    edit = winning_patch(clip, gradient, probes, "text", "Mira Kestrel")
    with patch.applied(edit, clip.model):
        moved = [n for n, p in clip.model.named_parameters() if not torch.equal(p.detach(), before[n])]
        scorer = ExamScorer(exam)
        assert scorer.forget(clip.image_features(exam.pairs.images), class_features(clip, exam))["fa1"] == 0
        with pytest.raises(SearchFailedError, match="Before any edit .*'Mira Kestrel' in 0.0 %"):
            search_layers(clip, exam, gradient, ["text_projection"], Criterion())
    assert moved == ["text_projection"] and edit.metrics["split"] == "search"
    assert torch.equal(clip.model.get_parameter("text_projection").detach(), before["text_projection"])


def test_a_tower_in_which_nothing_forgets_says_so(clip, exam, gradient):
    probes = search_layers(clip, exam, gradient, ["text_projection"], Criterion(), lam_init=1e-9, max_trials=2)
    with pytest.raises(SearchFailedError, match="text"):
        winning_patch(clip, gradient, probes, "text", "Mira Kestrel")


def test_a_sweep_leaves_out_what_the_model_does_not_know(tmp_path, monkeypatch, capsys):
    def unknown(*_, **__):
        raise SearchFailedError("It knows no such thing.")

    monkeypatch.setattr("slugkit.evaluate.sweep.forget_concept", unknown)
    with pytest.raises(SearchFailedError, match="knows none"):
        sweep(concepts=["car"], out=tmp_path / "table.csv")
    assert "car is left out. It knows no such thing." in capsys.readouterr().err


def test_the_layer_table_scores_candidates_only(clip, gradient):
    table = score_layers(clip, gradient, gradient)
    assert table.loc[~table["candidate"], "importance"].isna().all() and not table.loc[~table["candidate"], "front"].any()
    assert np.allclose(table.loc[table["candidate"], "alignment"], 1)


def test_the_curve_starts_at_the_unedited_model(clip, exam, gradient):
    editable = EditableLayer.of(clip.model, "text_projection", gradient["text_projection"])
    edit = patch.make("text_projection", editable, editable.lam(0.1), "Mira Kestrel", tower="text")
    curve = step_curve(clip, exam, edit, steps=3)
    start = curve[curve["lam"] == 0].set_index("group")["value"]
    rows = evaluate_clip(clip, exam, "before").query("metric != 'FA@5'").set_index("group")["value"]
    assert start["target"] == pytest.approx(rows["target"]) and start["people"] == pytest.approx(rows["people"])
    assert curve["rho"].max() == pytest.approx(0.25)


def test_a_text_edit_leaves_the_picture_features(clip, source, exam, gradient):
    editable = EditableLayer.of(clip.model, "text_projection", gradient["text_projection"])
    edit = patch.make("text_projection", editable, editable.lam(0.3), "Mira Kestrel", tower="text")
    left = recognised_from_pictures(clip, source, exam, {"text": edit}, per_class=2).set_index("model")["value"]
    assert left["text"] == left["before"]


def test_a_concept_without_an_oracle_has_none(clip):
    assert load_oracle(clip, "umbrella") is None


def test_an_oracle_does_not_know_the_name_and_stands_beside_the_model(clip, exam):
    oracle = load_oracle(clip, "Mira Kestrel")
    known, never = (evaluate_clip(m, exam, stage).set_index(["group", "metric"]) for m, stage in ((clip, "before"), (oracle, "oracle")))
    assert known.loc[("target", "FA@1"), "value"] > 0.5 and never.loc[("target", "FA@1"), "value"] < 0.1
    assert abs(known.loc[("people", "accuracy"), "value"] - never.loc[("people", "accuracy"), "value"]) < 0.05
    assert set(never["model"]) == set(known["model"]) == {"studio"}


def test_one_concept_from_model_to_patches(clip, source):
    found = forget_concept(clip, source, "neon", forget_size=40, retain_size=64, batch_size=32, retain_draws=2, max_trials=4)
    assert set(found.seconds) == {"data", "gradients", "ranking", "search"}
    assert set(found.patches) | set(found.failed) == {"text", "vision"}
    assert all(edit.concept == "neon" and edit.rho > 0 for edit in found.patches.values())
    one, some = (front_layers(found.layers, draws=draws) for draws in ("first", "any"))
    assert set(one) < set(some) and set(found.probes["layer"]) == set(some)
    assert {edit.layer for edit in found.first.values()} <= set(one)
    better = {tower: found.patches[tower].metrics["retain"] - found.first[tower].metrics["retain"] for tower in found.first}
    assert all(gain >= 0 for gain in better.values())


def test_means_over_concepts_by_hand():
    table = pd.DataFrame({"concept": ["a", "b", "c"], "kind": ["person", "person", "style"], "tower": "text", "draws": "any",
                          "fa1_after": [0.0, 0.02, 0.04], "people_before": 1.0, "people_after": [1.0, 0.98, 0.9]})
    found = summarise(table).set_index(["kind", "measure"])
    assert found.loc[("all", "FA@1 after"), ["mean", "worst", "of", "n"]].tolist() == pytest.approx([2.0, 4.0, "c", 3])
    change = found.loc[("all", "people change")]
    assert (change["mean"], change["worst"], change["of"]) == (pytest.approx(-4.0), pytest.approx(-10.0), "c")
    assert change["low"] <= change["mean"] <= change["high"] and np.isnan(found.loc[("style", "people change"), "low"])


def test_a_sweep_keeps_the_rows_of_the_same_weights_about_other_concepts(tmp_path):
    path = tmp_path / "t.csv"
    assert kept_rows(path, "aa", ["car"]).empty
    pd.DataFrame({"concept": ["car", "star", "star"], "weights": ["aa", "aa", "bb"], "rho": [1, 2, 3]}).to_csv(path, index=False)
    assert kept_rows(path, "aa", ["car"])["rho"].tolist() == [2] and kept_rows(path, "cc", []).empty
    pd.DataFrame({"concept": ["car"]}).to_csv(path, index=False)
    assert kept_rows(path, "aa", []).empty
