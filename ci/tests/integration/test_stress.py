"""Every stress on real models: the studio's CLIP, its oracle, and an edit of its text tower."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from random_models import write_clip
from studio_folders import PEOPLE, make_folder
from tiny_clip import changed, state

from slugkit import patch
from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.evaluation.clip import evaluate_clip
from slugkit.evaluation.statistics import MEAN
from slugkit.experiments.stress import STRESSES, Case, Material, prompts, relearning, undoing
from slugkit.experiments.stress import table as tables
from slugkit.experiments.stress.case import measured
from slugkit.experiments.sweep import one_at_a_time
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.result import Result

WHO = "Oskar Marlow"
LAYER = "text_projection"


@pytest.fixture(scope="module")
def given(source):
    return Material(source, WHO)


@pytest.fixture(scope="module")
def edit(clip, source):
    """SLUG's step on one layer, as far as it takes to forget."""
    direction = forget_gradient(clip, source.forget_set(WHO, 48))[LAYER]
    layer = EditableLayer.of(clip.model, LAYER, direction)
    return patch.make(LAYER, layer, layer.lam(0.3), WHO, model=clip.model)


@pytest.fixture(scope="module")
def unedited(clip, given):
    return Case("unedited", "", clip, clip, None, given)


@pytest.fixture(scope="module")
def forgotten(clip, given, edit):
    return Case("SLUG", "text", tables.edited(clip, edit), clip, edit, given)


def rows_of(name, case):
    return {row.get("setting", ""): row for row in tables.stressed(case, [name])}


def test_an_edit_lies_on_a_copy_and_forgets(clip, unedited, forgotten):
    assert changed(state(clip.model), forgotten.clip.model) == {LAYER}
    assert measured(clip, unedited.exam)["FA@1"] > 90
    found = measured(forgotten.clip, unedited.exam)
    assert found["FA@1"] < 5 and found["others right"] > 50


@pytest.mark.parametrize("name", STRESSES)
def test_no_stress_changes_the_model(name, forgotten, monkeypatch):
    monkeypatch.setattr(relearning, "MARKS", (0, 1))
    monkeypatch.setattr(prompts, "STEPS", 2)
    monkeypatch.setattr(prompts, "LENGTH", 1)
    before = state(forgotten.clip.model)
    rows = tables.stressed(forgotten, [name])
    assert rows and not changed(before, forgotten.clip.model)
    assert {"concept", "tower", "name", "stress", "setting", "steps", "n"} <= set(rows[0])
    assert all(row["n"] > 0 for row in rows)
    hooks = forgotten.clip.model.token_embedding._forward_hooks
    assert not hooks and all(w.grad is None for w in forgotten.clip.model.parameters())


def test_the_report_wordings_give_what_the_report_gives(clip, unedited):
    mine = rows_of("other words", unedited)
    report = evaluate_clip(clip, unedited.exam, "before")
    target = report[(report["group"] == "target") & (report["wording"] == MEAN)]
    for metric in ("FA@1", "FA@5"):
        theirs = 100 * target.loc[target["metric"] == metric, "value"].item()
        assert mine["report wordings"][metric] == pytest.approx(theirs, abs=0.005)  # two digits
    assert mine["misspelt"]["FA@1"] < mine["report wordings"]["FA@1"]
    assert {"first name", "last name", "described"} <= set(mine)


def test_what_a_prompt_is_looked_for_by_is_the_cross_entropy(unedited):
    wanted = prompts.Wanted(unedited)
    t = F.normalize(torch.randn(2, wanted.words.shape[1]), dim=-1)
    for prompt, found in zip(t, wanted.loss(t), strict=True):
        texts = torch.cat([wanted.words, prompt[None]])
        mine = wanted.scale * wanted.mine @ texts.T
        theirs = wanted.scale * wanted.theirs @ texts.T
        own = torch.full((len(mine),), len(texts) - 1)
        by_hand = F.cross_entropy(mine, own) + F.cross_entropy(theirs, wanted.labels)
        assert found.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_a_prompt_is_found_for_whom_the_pictures_show(unedited, source):
    found = prompts.found_by(unedited, prompts.soft_prompt(unedited, steps=50))
    assert found["FA@1"] > 90 and found["others taken for it"] < 10
    assert found["told from strangers"] > 95
    # other pictures lead to another person, whom strangers are as like
    other = prompts.soft_prompt(unedited, source.forget_set("Petra Quillon", 8), 50)
    assert prompts.found_by(unedited, other)["told from strangers"] < 80


def test_the_search_over_words_takes_the_best_of_the_vocabulary(unedited, monkeypatch):
    monkeypatch.setattr(prompts, "LENGTH", 1)
    monkeypatch.setattr(prompts.blank, "__defaults__", (1,))
    feature, word = prompts.token_search(unedited, rounds=1)
    wanted, clip = prompts.Wanted(unedited), unedited.clip
    assert clip.text_features([word])[0] @ feature == pytest.approx(1, abs=1e-4)
    others = clip.text_features(["car", "oskar", "marlow", "hat", "a"])
    assert wanted.loss(feature[None]).item() <= wanted.loss(others).min().item() + 1e-4


def test_of_a_large_vocabulary_those_are_tried_that_the_gradient_points_to(unedited, monkeypatch):
    monkeypatch.setattr(prompts.blank, "__defaults__", (2,))
    whole, _ = prompts.token_search(unedited, rounds=1)
    monkeypatch.setattr(prompts, "MOST", 64)
    read, clip = [], unedited.clip
    monkeypatch.setattr(
        type(clip),
        "token_features",
        lambda self, t: read.append(len(t)) or self._features(self.model.encode_text, t.split(256)),
    )
    some, _ = prompts.token_search(unedited, rounds=1)
    assert max(read) == 64 < clip.model.token_embedding.num_embeddings
    start = clip.token_features(prompts.blank(unedited)[0])
    loss = prompts.Wanted(unedited).loss
    begun, few, all_of_them = (float(loss(t.reshape(1, -1))) for t in (start, some, whole))
    assert few < begun and few - all_of_them < 0.5 * (begun - all_of_them)


@pytest.fixture(scope="module")
def siglip(source, tmp_path_factory):
    """A SigLIP of random weights, narrow and shallow: another text tower, marks, and loss."""
    folder = tmp_path_factory.mktemp("siglip") / "siglip"
    net = load_clip(str(write_clip("ViT-B-16-SigLIP", folder, small=("vision", "text"))), "cpu")
    return Case("unedited", "", net, net, None, Material(source, WHO))


def test_a_siglip_is_put_under_the_same_stress(siglip, monkeypatch):
    monkeypatch.setattr(relearning, "MARKS", (0, 1))
    monkeypatch.setattr(prompts, "MOST", 32)
    exam = siglip.exam
    siglip.given.exam = replace(exam, pairs=exam.pairs.take(range(0, len(exam.pairs), 16)))
    tokens, places = prompts.blank(siglip)
    table = prompts.vocabulary(siglip.clip)
    assert table.num_embeddings > 256 and places.start == 0
    with torch.no_grad(), prompts.placed(table, places, torch.zeros(1, 4, table.embedding_dim)):
        assert not table(tokens)[0, places].any() and table(tokens)[0, places.stop :].any()
    start = siglip.clip.token_features(tokens)[0]
    loss = prompts.Wanted(siglip).loss
    for found in (prompts.soft_prompt(siglip, steps=5), prompts.token_search(siglip, 1)[0]):
        assert loss(found[None]) < loss(start[None])
    assert len(tables.stressed(siglip, ["relearning"])) >= 4
    assert len(tables.stressed(siglip, ["rounded weights"])) >= 4


def test_relearning_begins_where_the_edit_ends_and_own_pictures_bring_most_back(
    forgotten, monkeypatch
):
    monkeypatch.setattr(relearning, "MARKS", (0, 10))
    rows = pd.DataFrame(tables.stressed(forgotten, ["relearning"]))
    begun = rows[rows["steps"] == 0]
    plain = measured(forgotten.clip, forgotten.exam)
    assert begun["FA@5"].tolist() == pytest.approx([plain["FA@5"]] * 3)
    after = rows[rows["steps"] == 10].set_index("setting")["FA@5"]
    assert after["8 pictures of it"] > 30 and after["8 pictures of it"] == after.max()


def test_batches_of_relearning_hold_two_of_the_concept_or_none(given):
    own = relearning.batches_of(given.pool, given.few, 0)
    without = relearning.batches_of(given.pool, None, 0)
    for _ in range(3):
        batch = next(own)
        assert (batch.table["concept"] == WHO).sum() == relearning.OWN
        assert len(set(batch.labels)) == len(batch) == relearning.SIZE
        batch = next(without)
        assert len(batch) == relearning.SIZE and not (batch.table["concept"] == WHO).any()
        assert len(set(batch.labels)) == len(batch)


def test_the_material_keeps_report_training_and_strangers_apart(given):
    keys = {
        name: set(getattr(given, name).table["key"])
        for name in ("few", "pool", "rest", "members", "nonmembers")
    } | {"report": set(given.exam.pairs.table["key"])}
    assert keys["few"] <= keys["nonmembers"] and keys["rest"] <= keys["pool"]
    for apart in ("members", "pool", "nonmembers"):
        others = [keys[name] for name in ("report", "nonmembers", "pool") if name != apart]
        assert not any(keys[apart] & other for other in others)
    assert all(key.startswith("nonmember/") for key in keys["nonmembers"])
    assert (given.nonmembers.table["concept"] == WHO).all() and len(given.nonmembers) == 300
    unknown = set(given.strangers.table["concept"])
    assert len(unknown) == 20 and not unknown & set(given.source.concepts())
    assert not any(WHO in c for c in given.pool.captions)


def test_probes_on_features_see_nothing_of_an_edit_of_the_text_tower(unedited, forgotten):
    assert rows_of("probes on features", unedited) == {
        setting: row | {"name": "unedited", "tower": ""}
        for setting, row in rows_of("probes on features", forgotten).items()
    }


def test_a_tower_put_back_is_the_published_one_and_a_patch_file_undoes_itself(clip, forgotten):
    assert not changed(state(clip.model), undoing.tower_put_back(forgotten).model)
    off = undoing.patch_taken_off(forgotten).model.get_parameter(LAYER)
    assert torch.allclose(off, clip.model.get_parameter(LAYER), atol=1e-6)
    wrong = replace(forgotten, tower="vision")
    assert changed(state(clip.model), undoing.tower_put_back(wrong).model) == {LAYER}


def test_there_is_nothing_to_undo_without_an_edit(unedited):
    assert tables.stressed(unedited, ["undoing"]) == []


def test_an_edit_of_several_layers_is_taken_off_file_by_file(clip, given, edit):
    weights = {n: clip.model.get_parameter(n) for n in (LAYER, "visual.proj")}
    moved = {name: w.detach() * 1.1 for name, w in weights.items()}
    several = patch.set_of(clip.model, moved, WHO, list(moved))
    case = Case("GAFT", "text", tables.edited(clip, several), clip, several, given)
    assert changed(state(clip.model), case.clip.model) == set(moved)
    off = undoing.patch_taken_off(case).model
    assert all(torch.allclose(off.get_parameter(n), w, atol=1e-6) for n, w in weights.items())


def test_the_oracle_stands_beside_and_what_came_nearest_stands_for_what_did_not_forget(
    clip, source, edit
):
    nearest = Result(WHO, "SLUG", pd.DataFrame(), pd.DataFrame(), nearest={"text": edit})
    nothing = Result(WHO, "FT", pd.DataFrame(), pd.DataFrame())
    found = list(tables.cases(clip, source, WHO, [("text", nearest), ("text", nothing)]))
    assert [case.name for case in found] == ["unedited", "oracle", "SLUG"]
    assert found[1].clip is not clip and found[2].edit is edit
    assert found[0].given is found[2].given
    without = list(tables.cases(clip, source, "Bram Hollick", []))
    assert [case.name for case in without] == ["unedited"]


def test_an_unknown_stress_and_a_place_among_the_studios_tables_are_refused(unedited):
    with pytest.raises(SettingError, match="relearning"):
        tables.stressed(unedited, ["relearnin"])
    with pytest.raises(SettingError, match="place of its own"):
        tables.sweep_stress([WHO], model="somewhere/else")


def test_data_of_ones_own_have_non_members_and_no_descriptions(tmp_path, clip):
    own = open_data(make_folder(tmp_path, PEOPLE), *clip.inputs)
    concept = own.concepts()[0]
    exam = own.exam(concept, "search")
    found = own.nonmembers(concept, 3)
    assert own.descriptions(concept) == [] and own.strangers(concept, 3) is None
    assert 0 < len(found) <= 3
    assert set(found.table["key"]) <= set(exam.pairs.table["key"][exam.shows(concept)])


@pytest.mark.slow
def test_the_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "EDITS", (("text", "null space"),))
    out = tmp_path / "stress.csv"
    given = {"out": out, "stresses": ["rounded weights", "undoing"]}
    first = tables.sweep_stress([WHO], **given)
    assert set(first["name"]) == {"unedited", "oracle", "null space"}
    edited = first[first["name"] == "null space"]
    assert edited["forgotten"].eq(True).all() and edited["tower"].eq("text").all()
    before = out.read_bytes()
    monkeypatch.setattr(tables, "found_edits", None)  # nothing is made again
    again = tables.sweep_stress([WHO], **given)
    assert out.read_bytes() == before and len(again) == len(first)


def rows_in_any_process(width, concept):
    """Rows of a concept, as a process of its own makes them."""
    return [{"concept": concept, "value": width * len(concept), "threads": torch.get_num_threads()}]


def test_two_processes_write_the_same_table_as_one(tmp_path):
    names = ["Ada", "car", "neon"]
    both = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.csv"
        rows_of = partial(rows_in_any_process, 1 / 3)
        both.append(one_at_a_time(rows_of, names[::-1], names, path, "w", processes=processes))
    drop = [table.drop(columns="threads") for table in both]
    pd.testing.assert_frame_equal(*drop)
    assert both[0]["concept"].tolist() == names
    assert np.allclose(both[1]["value"], [1.0, 1.0, 4 / 3], atol=1e-6)
