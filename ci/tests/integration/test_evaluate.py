"""Evaluation about one concept: formulas, groups, the fast measure against the plain one, and a
whole small search.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from plain_measure import PlainMeasure

from slugkit import patch
from slugkit.base import SearchFailedError, SettingError
from slugkit.evaluation.clip import Scorer, class_features, evaluate_clip, ranks
from slugkit.evaluation.leftover import recognised_from_pictures
from slugkit.evaluation.statistics import headline
from slugkit.experiments.sweep import kept_rows, summarise, sweep, table_row
from slugkit.method.edit import EditableLayer
from slugkit.method.search import Criterion
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import load_oracle, score_layers, search_layers
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.objectives import CachedMeasure, step_curve
from slugkit.unlearning.result import Result, front_layers, winning_patch
from slugkit.unlearning.retain import RetainSide


@pytest.fixture(scope="module")
def exam(source):
    return source.exam("Mira Kestrel", "search", per_style=1)


@pytest.fixture(scope="module")
def gradient(clip, source):
    return forget_gradient(clip, source.forget_set("Mira Kestrel", 40, 0))


def test_ranks_by_hand():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.3, 0.8], [0.4, 0.6, 0.5]])
    labels = torch.tensor([0, 1, 0])
    assert ranks(scores, labels).tolist() == [0, 1, 2]


def test_every_group_is_classified_among_its_own_domain(clip, exam):
    scorer, classes = Scorer(clip, exam), class_features(clip, exam)
    assert {d: x.shape[1] for d, x in classes.items()} == {
        "figures": 44,
        "objects": 24,
        "styles": 7,
    }
    assert {d: len(x) for d, x in classes.items()} == {d: len(w) for d, w in exam.prompts.items()}
    v, labels = clip.image_features(exam.pairs.images), exam.labels("objects")
    inside = np.flatnonzero(labels >= 0)
    right = [(v[inside] @ t.T).argmax(1).numpy() == labels[inside] for t in classes["objects"]]
    kept = scorer.retain(["Mira Kestrel"], classes)
    assert kept["objects"] == pytest.approx(np.mean(right))
    sizes = {g: len(rows) for g, (_, rows) in exam.groups().items() if g != "target"}
    assert kept["pictures"] == sum(sizes.values())
    assert kept["retain"] == pytest.approx(
        sum(kept[g] * n for g, n in sizes.items()) / kept["pictures"]
    )


def test_a_targets_score_counts_its_own_pictures_in_the_wording_in_which_it_is_known_best(
    clip, exam
):
    """Scores made by hand: nobody but the target's pictures may move FA@k, and no mean hides a
    wording.
    """
    mine = (exam.pairs.table["concept"] == "Mira Kestrel").to_numpy()
    v = torch.zeros(len(mine), 44)
    scorer, classes, who = Scorer(clip, exam, v), exam.classes("figures"), ["Mira Kestrel"]
    assert (scorer.exam.shows(*who) == mine).all()
    mira, other = classes.index("Mira Kestrel"), classes.index("Inka Tarrow")
    named, silent = torch.zeros(44, 44), torch.zeros(44, 44)
    named[mira, mira] = silent[other, mira] = 1
    silent[torch.arange(44) != mira, mira] = 1
    t = {"figures": torch.stack([silent, named])}
    v[torch.from_numpy(mine), mira] = 1
    assert scorer.forget(who, t, v) == {"fa1": 1.0, "fa5": 1.0}
    first = (scorer.of(*who, t, v) < 1).mean(1).tolist()
    assert first == [0, 1] and scorer.of(*who, t, v).shape[1] == mine.sum()
    assert scorer.forget(who, {"figures": silent[None]}, v)["fa5"] == 0
    v[torch.from_numpy(~mine)] = torch.rand(int((~mine).sum()), 44)
    assert scorer.forget(who, t, v) == {"fa1": 1.0, "fa5": 1.0}


def test_metric_rows_hold_intervals_and_denominators(clip, exam):
    rows = evaluate_clip(clip, exam, "before")
    assert (
        (rows["low"] <= rows["value"]).all()
        and (rows["value"] <= rows["high"]).all()
        and (rows["n"] > 0).all()
    )
    assert set(rows[rows["group"] == "target"]["metric"]) == {"FA@1", "FA@5"} and set(
        rows["split"]
    ) == {"search"}


@pytest.mark.parametrize(
    "layer",
    [
        "text_projection",
        "transformer.resblocks.2.mlp.c_proj.weight",
        "visual.proj",
        "visual.conv1.weight",
        "visual.transformer.resblocks.4.attn.out_proj.weight",
    ],
)
def test_the_fast_measure_equals_the_plain_one(clip, exam, gradient, layer):
    fast, plain = CachedMeasure(Scorer(clip, exam), layer), PlainMeasure(clip, exam)
    with EditableLayer.of(clip.model, layer, gradient[layer]) as editable:
        for rho in (0.05, 0.3):
            editable.set(editable.lam(rho))
            assert fast.forget() == plain.forget()
            assert fast.retain() == pytest.approx(plain.retain(), abs=0.004)


def test_report_pictures_cannot_steer_a_search(clip, source):
    with pytest.raises(SettingError, match="report split"):
        CachedMeasure(Scorer(clip, source.exam("car", "report", per_style=1)), "visual.proj")


def test_a_small_search_forgets_and_leaves_no_trace(clip, source, exam, gradient):
    """Check (d) on the real model: only the chosen layer moves, and it comes back bit for bit."""
    before = {n: p.detach().clone() for n, p in clip.model.named_parameters()}
    probes = search_layers(
        clip, exam, gradient, ["text_projection"], Criterion("fa1"), max_trials=8
    )
    assert all(torch.equal(p.detach(), before[n]) for n, p in clip.model.named_parameters())
    edit = winning_patch(clip, gradient, probes, "text", "Mira Kestrel")
    with patch.applied(edit, clip.model):
        moved = [
            n for n, p in clip.model.named_parameters() if not torch.equal(p.detach(), before[n])
        ]
        scorer = Scorer(clip, exam)
        assert scorer.forget(["Mira Kestrel"], scorer.words)["fa1"] == 0
        with pytest.raises(SearchFailedError, match="Before any edit .*'Mira Kestrel' in 0.0 %"):
            search_layers(clip, exam, gradient, ["text_projection"], Criterion("fa1"))
    assert moved == ["text_projection"] and edit.metrics["split"] == "search"
    assert torch.equal(
        clip.model.get_parameter("text_projection").detach(), before["text_projection"]
    )


def test_a_tower_in_which_nothing_forgets_says_so(clip, exam, gradient):
    probes = search_layers(
        clip, exam, gradient, ["text_projection"], Criterion(), lam_init=1e-9, max_trials=2
    )
    with pytest.raises(SearchFailedError, match="text"):
        winning_patch(clip, gradient, probes, "text", "Mira Kestrel")


def test_a_sweep_leaves_out_what_the_model_does_not_know(tmp_path, monkeypatch, capsys):
    def unknown(*_, **__):
        raise SearchFailedError("It knows no such thing.")

    monkeypatch.setattr("slugkit.experiments.sweep.unlearn", unknown)
    with pytest.raises(SearchFailedError, match="knows none"):
        sweep(concepts=["car"], out=tmp_path / "table.csv")
    assert "car is left out. It knows no such thing." in capsys.readouterr().err


def test_the_layer_table_scores_candidates_only(clip, gradient):
    table = score_layers(clip, gradient, gradient)
    assert (
        table.loc[~table["candidate"], "importance"].isna().all()
        and not table.loc[~table["candidate"], "front"].any()
    )
    assert np.allclose(table.loc[table["candidate"], "alignment"], 1)


def test_the_curve_starts_at_the_unedited_model(clip, exam, gradient):
    editable = EditableLayer.of(clip.model, "text_projection", gradient["text_projection"])
    edit = patch.make("text_projection", editable, editable.lam(0.1), "Mira Kestrel", tower="text")
    curve = step_curve(clip, exam, edit, steps=3)
    start = curve[curve["lam"] == 0].set_index("group")["value"]
    rows = (
        evaluate_clip(clip, exam, "before")
        .query("metric != 'FA@5'")
        .set_index(["group", "wording"])["value"]
    )
    assert start["target"] == pytest.approx(rows["target", "worst"])
    assert start["people"] == pytest.approx(rows["people", "mean"])
    assert curve["rho"].max() == pytest.approx(0.25)


def test_a_text_edit_leaves_the_picture_features(clip, source, exam, gradient):
    editable = EditableLayer.of(clip.model, "text_projection", gradient["text_projection"])
    edit = patch.make("text_projection", editable, editable.lam(0.3), "Mira Kestrel", tower="text")
    left = recognised_from_pictures(clip, source, exam, {"text": edit}, per_class=2).set_index(
        "model"
    )["value"]
    assert left["text"] == left["before"]


def test_a_concept_without_an_oracle_has_none(clip):
    assert load_oracle(clip, "umbrella") is None


def test_an_oracle_does_not_know_the_name_and_stands_beside_the_model(clip, exam):
    oracle = load_oracle(clip, "Mira Kestrel")
    known, never = (
        headline(evaluate_clip(m, exam, stage)).set_index(["group", "metric"])
        for m, stage in ((clip, "before"), (oracle, "oracle"))
    )
    assert (
        known.loc[("target", "FA@1"), "value"] > 0.5
        and never.loc[("target", "FA@1"), "value"] < 0.1
    )
    people = [rows.loc[("people", "accuracy"), "value"] for rows in (known, never)]
    assert abs(people[0] - people[1]) < 0.05
    assert set(never["model"]) == set(known["model"]) == {"studio"}


def test_one_concept_from_model_to_patches(clip, source):
    side = RetainSide(clip, source, ["neon"], 64, 32)
    found = unlearn(clip, source, "neon", forget_size=40, max_trials=4, shared=side)
    assert set(found.seconds) == {"data", "gradients", "ranking", "direction", "search"}
    assert set(found.patches) | set(found.failed) == {"text", "vision"}
    assert all(edit.concept == "neon" and edit.rho > 0 for edit in found.patches.values())
    assert set(found.table["layer"]) == set(front_layers(found.layers))
    assert found.costs["pairs"] == 40 + 64 and found.costs["probes"] == len(found.table)


def test_front_and_all_candidates_differ_and_neither_holds_the_others_rows():
    """By hand: the front's winner, that of all candidates, and what each row of the table says it
    searched.
    """
    layers = pd.DataFrame(
        {
            "layer": ["a", "b", "c"],
            "tower": "text",
            "candidate": [True, True, True],
            "front": [True, False, True],
        }
    )
    assert front_layers(layers) == ["a", "c"] and front_layers(layers, which="all") == [
        "a",
        "b",
        "c",
    ]
    with pytest.raises(KeyError):
        front_layers(layers.drop(columns="candidate"), which="all")
    model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.eye(3)) for name in "abc"})
    g = {name: torch.eye(3) for name in "abc"}
    probes = pd.DataFrame(
        {
            "layer": ["a", "b", "c"],
            "tower": "text",
            "probe": 1,
            "lam": [1.0, 2.0, 3.0],
            "rho": [1.0, 2.0, 3.0],
            "fa1": 0.0,
            "fa5": 0.0,
            "forget": 0.0,
            "forgotten": True,
            "retain": [0.8, 0.9, 0.7],
            "pictures": 100,
            "chosen": True,
        }
    )
    clip = SimpleNamespace(model=model)
    whole = Result(
        "x",
        "SLUG",
        layers,
        probes,
        costs={"probes": 3, "pairs": 5, "seconds": 1.0},
        directions=g,
        which="all",
    ).choose(clip)
    front = whole.on_front(clip)
    assert (whole.patches["text"].layer, front.patches["text"].layer) == ("b", "a")
    assert (whole.which, front.which, front.costs["probes"], front.costs["pairs"]) == (
        "all",
        "front",
        2,
        5,
    )
    rows = [
        {
            "stage": "after",
            "tower": "text",
            "method": "SLUG",
            "layers": which,
            "group": "target",
            "metric": metric,
            "wording": w,
            "value": value,
            "low": 0,
            "high": 1,
            "n": 9,
        }
        for which, value in (("front", 0.1), ("all", 0.2))
        for metric in ("FA@1", "FA@5")
        for w in ("mean", "worst")
    ]
    table = [table_row(found, pd.DataFrame(rows), "text", "person") for found in (front, whole)]
    assert [
        (row["layers"], row["winner"], row["fa5_after"], row["fa1_after_worst"]) for row in table
    ] == [("front", "a", 0.1, 0.1), ("all", "b", 0.2, 0.2)]


def test_means_over_concepts_by_hand():
    both = []
    for method, change in (("SLUG", -0.1), ("SLUG-R", -0.02)):
        both.append(
            pd.DataFrame(
                {
                    "concept": list("abcde"),
                    "kind": ["person"] * 4 + ["style"],
                    "tower": "text",
                    "layers": "all",
                    "method": method,
                    "fa1_after": 0.0,
                    "fa1_after_worst": 0.1,
                    "fa5_after": [0.0, 0.02, 0.04, 0, 0],
                    "fa5_after_worst": 0.5,
                    "people_before": 1.0,
                    "people_after": [1.0, 1 + change, 1.0, 1.0, 1 + 2 * change],
                }
            )
        )
    found = summarise(pd.concat(both, ignore_index=True)).set_index(["method", "kind", "measure"])
    assert found.loc[
        ("SLUG", "all", "FA@5 after"), ["mean", "worst", "of", "n"]
    ].tolist() == pytest.approx([1.5, 4.0, "c", 4])
    change = found.loc[("SLUG", "all", "people change")]
    assert (change["mean"], change["median"], change["worst"], change["of"]) == (
        pytest.approx(-6.0),
        0,
        pytest.approx(-20.0),
        "e",
    )
    assert change["low"] <= change["mean"] <= change["high"] and np.isnan(
        found.loc[("SLUG", "person", "people change"), "low"]
    )
    paired = found.loc[("SLUG-R minus SLUG", "all", "people change")]
    assert (paired["mean"], paired["n"]) == (pytest.approx(4.8), 5) and paired[
        "worst"
    ] == pytest.approx(0)


def test_a_sweep_keeps_the_rows_of_the_same_weights(tmp_path):
    path = tmp_path / "t.csv"
    assert kept_rows(path, "aa").empty
    pd.DataFrame(
        {"concept": ["car", "star", "star"], "weights": ["aa", "aa", "bb"], "rho": [1, 2, 3]}
    ).to_csv(path, index=False)
    assert kept_rows(path, "aa")["rho"].tolist() == [1, 2] and kept_rows(path, "cc").empty
    pd.DataFrame({"concept": ["car"]}).to_csv(path, index=False)
    assert kept_rows(path, "aa").empty
