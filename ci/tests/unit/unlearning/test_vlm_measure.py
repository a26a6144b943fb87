"""The step search on answers, on a LLaVA that has learned eight pictures by heart."""

import numpy as np
import pandas as pd
import pytest
import torch
from narrow_clip import a_clip, wrapped
from random_models import VLMS, vlm_of
from tiny_questions import asked_about

from slugkit.base import PatchError, SearchFailedError, SettingError
from slugkit.evaluation.vlm import answered, own_words
from slugkit.models import load_clip
from slugkit.models.activations import watched
from slugkit.models.convert import vision_tower
from slugkit.models.prefix_cache import Seen
from slugkit.models.vlm import Vlm
from slugkit.models.weight_map import differences, locate
from slugkit.tasks.questions import Asked
from slugkit.unlearning import vlm as measure
from slugkit.unlearning.result import winning_patch

pytestmark = pytest.mark.slow

LAYER = "visual.transformer.resblocks.2.mlp.c_proj.weight"
PACKED = "visual.transformer.resblocks.1.attn.in_proj_weight"


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def asked(few_records):
    return asked_about(few_records)


def test_a_forward_pass_tells_what_greedy_decoding_would_answer(tiny_vlm, asked):
    said = tiny_vlm.ask(asked.images, asked.table["text"].tolist())
    assert (
        measure.Script(tiny_vlm, asked, batch_size=3).given()
        == [s == w for s, w in zip(said, asked.table["wanted"])]
    ).all()
    wrong = Asked(
        asked.table.assign(wanted="this is Kofi Okoye."), asked.images, asked.names, "search"
    )
    assert (
        measure.Script(tiny_vlm, wrong).given() == [s == "this is Kofi Okoye." for s in said]
    ).all()
    assert 0 < measure.Script(tiny_vlm, wrong).given().mean() < 1


def test_its_own_gradient_leads_away_from_the_name_and_is_the_loss_of_transformers(tiny_vlm, asked):
    mine = asked.take(asked.table["group"] == "target")
    found = measure.answer_gradient(tiny_vlm, mine, [LAYER, PACKED], batch_size=1)
    assert found[PACKED].shape == (384, 128)
    weight = locate(tiny_vlm.model, LAYER).tensors[0]
    kept, batch = weight.detach().clone(), measure.told_rows(tiny_vlm, mine, np.arange(2))
    with torch.no_grad():
        before = tiny_vlm.model(**batch).loss.item()
        weight.sub_(0.05 * weight.norm() / found[LAYER].norm() * found[LAYER])
        after = tiny_vlm.model(**batch).loss.item()
        weight.copy_(kept)
    assert after > before


def test_log_odds_are_those_of_the_whole_answer_whatever_else_is_in_the_batch(tiny_vlm, asked):
    batch = measure.told_rows(tiny_vlm, asked, np.arange(1))
    with torch.no_grad():
        log_p = -tiny_vlm.model(**batch).loss.double().item() * int((batch["labels"] != -100).sum())
        assert measure.log_odds(tiny_vlm, batch).item() == pytest.approx(
            log_p - np.log(-np.expm1(log_p)), rel=1e-2
        )
        together = measure.log_odds(tiny_vlm, measure.told_rows(tiny_vlm, asked, np.arange(5)))
        alone = [
            measure.log_odds(tiny_vlm, measure.told_rows(tiny_vlm, asked, np.array([i]))).item()
            for i in range(5)
        ]
    assert together.tolist() == pytest.approx(alone, rel=1e-2)


def test_the_search_makes_it_forget_and_leaves_both_models_as_they_were(clip, tiny_vlm, asked):
    mine = asked.take(asked.table["group"] == "target")
    directions = measure.answer_gradient(tiny_vlm, mine, [LAYER])
    found = measure.search_on_vlm(clip, tiny_vlm, directions, asked, [LAYER], max_trials=8)
    assert found["chosen"].sum() == 1 and found.loc[found["chosen"], "fa1"].item() == 0
    assert {"retain_own", "retain_battery", "retain_neighbours"} <= set(found)
    assert differences(clip.model, tiny_vlm.model, "vision") == []


def test_report_questions_and_layers_it_never_reads_are_refused(clip, tiny_vlm, asked, few_records):
    with pytest.raises(SettingError, match="search questions were expected"):
        measure.VlmMeasure(tiny_vlm, asked_about(few_records, "report"), LAYER, lambda: None)
    last = "visual.transformer.resblocks.5.mlp.c_proj.weight"
    with pytest.raises(PatchError, match="cannot act.*the same when the layer is changed"):
        measure.search_on_vlm(clip, tiny_vlm, {last: torch.ones(128, 512)}, asked, [last])
    assert differences(clip.model, tiny_vlm.model, "vision") == []


def test_the_layers_that_write_are_those_before_the_one_that_is_read(clip, tiny_vlm):
    found = measure.writing_layers(clip, tiny_vlm)
    assert (
        len(found) == 10
        and LAYER in found
        and PACKED not in found
        and not any(".5." in name for name in found)
    )


def test_a_probe_looks_again_only_from_the_block_that_changes(tiny_vlm, asked):
    """Twice the same pictures, with the layer's block cut off, give the answers of the whole tower,
    before and after a change.
    """
    both = asked.take([0, 1, 2, 0, 1, 2])
    for layer in (LAYER, PACKED, "visual.conv1.weight", None):
        script, weight = (
            measure.Script(tiny_vlm, both, layer, 4),
            locate(tiny_vlm.model, layer or LAYER).tensors[0],
        )
        kept = weight.detach().clone()
        for scale in (1.0, -1.0):
            with torch.no_grad():
                weight.copy_(kept * scale)
                seen = Seen(tiny_vlm, both.images, layer).features()
                pixels = tiny_vlm.processor.image_processor(list(both.images), return_tensors="pt")[
                    "pixel_values"
                ]
                whole = tiny_vlm.model.model.get_image_features(
                    pixels, return_dict=True
                ).pooler_output
            assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(seen, whole, strict=True))
            said = tiny_vlm.ask(both.images, both.table["text"].tolist())
            assert script.given().tolist() == [s == w for s, w in zip(said, both.table["wanted"])]
        with torch.no_grad():
            weight.copy_(kept)


def test_a_layer_without_a_module_of_its_own_is_refused(tiny_vlm):
    with (
        pytest.raises(PatchError, match="applies no weight"),
        watched(tiny_vlm.model.model.vision_tower, ["visual.proj"]),
    ):
        pass


def untaught(asked, wanted):
    """The questions as of a model that nobody taught its answers."""
    return Asked(
        asked.table.assign(wanted=wanted), asked.images, asked.names, "search", verbatim=False
    )


def test_an_answer_in_other_words_is_heard_out(tiny_vlm, asked):
    said = answered(tiny_vlm, asked)
    assert 0 < said["right"].sum()
    for wanted in (
        "this is Zeno Marsh.",
        said["answer"],
    ):  # never given, so all are decoded; given by all, so none is
        other = untaught(asked, wanted)
        assert measure.Script(tiny_vlm, other).right().tolist() == said["right"].tolist()
    assert (
        not measure.Script(
            tiny_vlm,
            Asked(
                asked.table.assign(wanted="this is Zeno Marsh."),
                asked.images,
                asked.names,
                "search",
            ),
        )
        .right()
        .any()
    )
    wrong = untaught(asked, said["answer"])
    wrong.table[["key", "name"]] = "Zeno Marsh"
    assert (
        measure.Script(tiny_vlm, wrong).given().all()
        and not measure.Script(tiny_vlm, wrong).right().any()
    ), "the wanted words do not make an answer right"


def test_where_the_target_is_never_named_there_is_nothing_to_forget(clip, tiny_vlm, asked):
    other = asked.table.assign(wanted="this is Zeno Marsh.", key="Zeno Marsh", name="Zeno Marsh")
    for verbatim in (True, False):
        with pytest.raises(SearchFailedError, match="right about 0 of the 4 search pictures"):
            measure.search_on_vlm(
                clip,
                tiny_vlm,
                {LAYER: torch.ones(128, 512)},
                Asked(other, asked.images, [], "search", verbatim),
                [LAYER],
            )
    with pytest.raises(SearchFailedError, match="no layer"):
        measure.search_on_vlm(clip, tiny_vlm, {}, asked, [])


@pytest.mark.parametrize("kind", list(VLMS))
def test_every_kind_of_llava_is_searched_on_its_answers(kind):
    """Of random weights; what it happens to say about a picture is the name it knows."""
    net = a_clip()
    model, processor = vlm_of(kind, vision_tower(net), reduced=True)
    processor.tokenizer.padding_side = "left"
    vlm, layer = Vlm(model, processor, kind), "visual.transformer.resblocks.9.mlp.c_proj.weight"
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 3), dtype=np.uint8)
    names = vlm.ask(images, ["who is this?"] * 4)
    table = pd.DataFrame(
        {
            "kind": "who",
            "text": "who is this?",
            "wanted": "",
            "key": names,
            "name": names,
            "style": "",
            "group": ["target", "target", "people", "people"],
            "extra": False,
        }
    )
    asked = own_words(vlm, Asked(table, images, names, "search", verbatim=False))
    assert asked.table["wanted"].tolist() == names
    direction = measure.answer_gradient(vlm, asked.take([0, 1]), [layer])[layer]
    assert all(p.requires_grad and p.grad is None for p in vlm.model.parameters())
    found = measure.search_on_vlm(
        wrapped(net), vlm, {layer: direction}, asked, [layer], max_trials=8
    )
    assert (
        found["chosen"].sum() == 1
        and found.loc[found["chosen"], "fa1"].item() == 0
        and found.loc[found["chosen"], "retain"].notna().all()
    )
    assert (
        winning_patch(wrapped(net), {layer: direction}, found, "vision", "somebody").layer == layer
        and differences(net, model, "vision") == []
    )
