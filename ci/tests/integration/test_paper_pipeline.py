"""A pipeline judged on data that are not the studio's: prompts, the CLIP that judges, and what
stops a run that could show nothing.

The data name the studio's people and things in the published layouts, so that the studio's trained
models know them; the pictures in them are not looked at.
"""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from random_models import pipeline_of

from slugkit import studio
from slugkit.base import EmptySetError, ModelLoadError, SearchFailedError, SettingError
from slugkit.data import open_data
from slugkit.evaluation.clip_judge import ClipJudge, clip_judge, judge_of
from slugkit.evaluation.diffusion import drawn_prompts, judged, measures, ua_ira_cra
from slugkit.method import search
from slugkit.models.classifier import Classifier, load_classifier
from slugkit.models.diffusion import blank, draw, load_pipeline, picture_edge, require_pictures
from slugkit.models.weight_map import differences, part_of
from slugkit.tasks import answer_set_of, domain_of, prompts, showcase_of
from slugkit.tasks.prompts import OTHERS, WORDS, other_subjects, paper_answer_set
from slugkit.unlearning.pipeline import read_by_encoder, search_on_pipeline
from slugkit.unlearning.result import winning_patch

NAME, LAYER = "Mira Kestrel", "transformer.resblocks.0.attn.out_proj.weight"


def picture(path):
    """A small JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "teal").save(path, format="JPEG")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CelebA folder of the studio's people, an ImageNet folder of its objects, two captions, and
    the recipe that joins them.
    """
    folder, world, listed = tmp_path_factory.mktemp("source"), studio.load_world(), []
    for name in world.people:
        for _ in range(6):
            listed.append(f"{len(listed) + 1:06d}.jpg {name.replace(' ', '_')}")
            picture(folder / "celeba" / "img_align_celeba" / listed[-1].split()[0])
    (folder / "celeba" / "list_identity_celeba.txt").write_text(
        "\n".join([str(len(listed)), "image_id identity_name", *listed]) + "\n"
    )
    for number in range(len(world.objects)):
        for i in range(6):
            picture(folder / "imagenet" / "val" / f"n{number:08d}" / f"{number}-{i}.JPEG")
    (folder / "imagenet" / "class_names.txt").write_text(
        "".join(f"n{number:08d} {name}\n" for number, name in enumerate(world.objects))
    )
    rows = [
        {"file": "0.jpg", "caption": f"a photo of {NAME}", "split": "train"},
        {"file": "1.jpg", "caption": "a house", "split": "train"},
    ]
    for row in rows:
        picture(folder / "laion" / row["file"])
    pd.DataFrame(rows).to_csv(folder / "laion" / "captions.csv", index=False)
    said = {
        "pairs": "laion",
        "people": "celeba",
        "objects": "imagenet",
        "neighbours": {NAME: world.neighbours_of(NAME)[:3]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(said))
    return folder


@pytest.fixture(scope="module")
def recipe(place):
    return open_data(str(place / "recipe.yaml"))


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("studio", "cpu")


def other_recipe(place, name, **changes):
    """The recipe with other entries (None takes one out), opened."""
    said = {**yaml.safe_load((place / "recipe.yaml").read_text()), **changes}
    (place / name).write_text(yaml.safe_dump({k: v for k, v in said.items() if v is not None}))
    return open_data(str(place / name))


# -- prompts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("concept", "domain"), [(NAME, "figures"), ("mushroom", "objects")])
def test_search_and_report_ask_about_the_same_subjects_in_other_words_and_from_other_seeds(
    recipe, concept, domain
):
    search, report = (
        answer_set_of(recipe, concept, split, 28, 1) for split in ("search", "report")
    )
    assert not set(search["prompt"]) & set(report["prompt"]) and not set(search["seed"]) & set(
        report["seed"]
    )
    assert set(search["subject"]) == set(report["subject"]) and domain_of(recipe, concept) == domain
    for table in (search, report):
        assert list(table.columns) == list(
            prompts.answer_set(studio.load_world(), NAME, "search", 2, 1).columns
        )
        assert (
            table["seed"].is_unique
            and set(table["style"]) == {""}
            and all(row.subject in row.prompt for row in table.itertuples())
        )
        target = table["group"] == "target"
        assert (
            target.sum() == 28
            and ((table["subject"] == concept) == target).all()
            and set(table.loc[target, "domain"]) == {domain}
        )
    with pytest.raises(SettingError, match="one of search, report"):
        paper_answer_set(recipe, concept, "train")


def test_neighbours_are_drawn_three_times_as_often_and_the_surplus_is_marked(recipe):
    table = paper_answer_set(recipe, NAME, "report", 2, 1)
    rest = table[table["group"] != "target"]
    near = recipe.neighbours(NAME)
    assert rest.loc[
        rest["group"] == "neighbours", "subject"
    ].value_counts().to_dict() == dict.fromkeys(near, prompts.NEAR_TIMES)
    assert set(rest.loc[~rest["extra"], "subject"].value_counts()) == {1} and set(
        rest.loc[rest["extra"], "subject"]
    ) == set(near)
    assert rest[~rest["extra"]].groupby("domain").size().to_dict() == {
        "figures": OTHERS,
        "objects": OTHERS,
    }
    assert set(rest.loc[rest["domain"] == "objects", "prompt"]) >= {"a photo of a house"} and set(
        rest["subject"]
    ) <= {*recipe.people.classes, *recipe.objects.classes}


def test_the_best_known_people_come_first_and_things_lie_over_the_whole_list(place, recipe):
    names = list(reversed(recipe.people.classes))
    (place / "celeba" / "frequent_celebs.txt").write_text("\n".join(names) + "\n")
    try:
        found = other_subjects(other_recipe(place, "listed.yaml"), NAME, 6)
    finally:
        (place / "celeba" / "frequent_celebs.txt").unlink()
    near = recipe.neighbours(NAME)
    assert found["figures"] == [
        *near,
        *[n for n in names if n not in (NAME, *near) and len(n) >= 9][:3],
    ]
    things = list(recipe.objects.classes)
    assert (
        found["objects"][0] == things[0]
        and found["objects"][-1] == things[-1]
        and len(found["objects"]) == 6
    )


def test_where_the_data_hold_no_other_domain_the_papers_own_subjects_stand_in(place, tmp_path):
    people = other_subjects(other_recipe(place, "people.yaml", objects=None), NAME)
    assert list(people) == ["figures", "objects"] and people["objects"] == WORDS["known"]["objects"]
    things = other_subjects(
        other_recipe(place, "things.yaml", people=None, neighbours=None), "mushroom"
    )
    assert list(things) == ["objects", "figures"] and things["figures"] == WORDS["known"]["figures"]
    rows = [
        {"file": f"{i}.png", "caption": f"a {c}", "concept": c, "split": split}
        for i, (c, split) in enumerate(
            (c, split) for c in ("cup", "hut") for split in ("train", "search", "report")
        )
    ]
    for row in rows:
        Image.new("RGB", (16, 16)).save(tmp_path / row["file"])
    pd.DataFrame(rows).to_csv(tmp_path / "captions.csv", index=False)
    own = open_data(str(tmp_path))
    assert (
        other_subjects(own, "cup") == {"classes": ["hut"], "objects": WORDS["known"]["objects"]}
        and domain_of(own, "cup") == "classes"
    )
    assert set(answer_set_of(own, "cup", "report", 2, 1)["prompt"].head(2)) == {
        "a photo of cup",
        "cup",
    }
    pd.DataFrame(rows[:3]).to_csv(tmp_path / "captions.csv", index=False)
    with pytest.raises(EmptySetError, match="no other class than 'cup'"):
        other_subjects(open_data(str(tmp_path)), "cup")


def test_the_showcase_names_the_target_and_others_with_seeds_of_its_own(place, recipe):
    shown = showcase_of(recipe, NAME)
    used = pd.concat([paper_answer_set(recipe, NAME, split) for split in ("search", "report")])
    assert (
        len(shown) == 8
        and set(shown["what"]) == {"target", "combination", "neighbour", "other"}
        and not set(shown["seed"]) & set(used["seed"])
    )
    named = shown["prompt"].str.contains(NAME)
    assert (
        named[shown["what"].isin(["target", "combination"])].all()
        and not named[shown["what"].isin(["neighbour", "other"])].any()
    )
    alone = showcase_of(other_recipe(place, "alone.yaml", neighbours=None), NAME)
    assert "neighbour" not in set(alone["what"]) and (alone["what"] == "other").sum() >= 2


def test_the_studio_keeps_its_own_prompts_and_its_own_judge(source, clip):
    world = source.world
    for concept in (NAME, "neon", "star-shaped house"):
        assert answer_set_of(source, concept, "search", 5, 1).equals(
            prompts.answer_set(world, concept, "search", 5, 1)
        )
        assert (
            showcase_of(source, concept).equals(prompts.showcase(world, concept))
            and domain_of(source, concept) == studio.KINDS[world.kind(concept)]
        )
    assert isinstance(
        judge_of(source, clip, prompts.answer_set(world, NAME, "search", 5, 1)), Classifier
    )


# -- measures and the judge ------------------------------------------------------------------------


def test_without_styles_the_other_domain_alone_makes_cra():
    rows = (
        [("target", "figures", False, True)] * 3
        + [("target", "figures", True, True)]
        + [("rest", "figures", True, True)] * 2
    )
    rows += [("rest", "objects", True, True)] * 3 + [("rest", "objects", False, True)]
    told = pd.DataFrame(rows, columns=["group", "domain", "right_subject", "right_style"]).assign(
        extra=False, style=""
    )
    found = ua_ira_cra(told, "figures").set_index(["metric", "group"])["value"]
    assert found.to_dict() == {
        ("UA", "target"): 0.75,
        ("IRA", "people"): 1.0,
        ("CRA", "objects"): 0.75,
        ("CRA", "all"): 0.75,
    }
    assert ("CRA", "styles") in ua_ira_cra(told.assign(style="neon"), "figures").set_index(
        ["metric", "group"]
    ).index


def test_the_clip_that_judges_names_people_and_things_and_feels_no_edit(recipe, clip):
    table = paper_answer_set(recipe, NAME, "report", 2, 1)
    judge, trained = clip_judge(clip, table), load_classifier(device="cpu")
    assert judge.subjects == table["subject"].drop_duplicates().tolist() and isinstance(
        judge_of(recipe, clip, table), ClipJudge
    )
    wanted = judge.subjects
    images = np.stack(
        [studio.draw(studio.solo_records("report", name, 1, ["photo"])[0]) for name in wanted]
    )
    said = judge.name(images)
    assert (
        list(said.columns) == list(trained.name(images[:1]).columns)
        and (said["subject"] == wanted).mean() > 0.9
    )
    shares = judge.shares(images)
    assert torch.allclose(shares.sum(1), torch.ones(len(images))) and np.allclose(
        shares.max(1).values, said["subject_share"]
    )
    assert judged(judge, table.drop_duplicates("subject"), images)["right_subject"].mean() > 0.9
    edited = copy.deepcopy(clip)
    judge = clip_judge(edited, table)
    with torch.no_grad():
        for parameter in edited.model.parameters():
            parameter.mul_(0.5)
    assert torch.equal(judge.shares(images), shares) and not torch.equal(
        ClipJudge(edited, judge.subjects, judge.classes).shares(images), shares
    )


def test_another_clip_may_judge_and_one_subject_is_too_few(recipe, clip):
    table = paper_answer_set(recipe, NAME, "report", 2, 1)
    other = clip_judge(clip, table, "studio-without-mira-kestrel")
    assert other.clip.source == "studio-without-mira-kestrel" and not torch.equal(
        other.classes, clip_judge(clip, table).classes
    )
    with pytest.raises(ModelLoadError, match="neither 'studio'"):
        clip_judge(clip, table, "nothing")
    with pytest.raises(SettingError, match="names 1 subjects"):
        clip_judge(clip, table.head(1))


# -- pipelines -------------------------------------------------------------------------------------


def test_blank_pictures_and_pictures_of_nan_stop_an_unedited_pipeline(pipe):
    good = draw(pipe, ["a car"], [1], steps=2)
    require_pictures(good)
    grey = np.full((1, 8, 8, 3), 120, np.uint8)
    grey[0, 0, 0] = 122
    assert (
        blank(grey).tolist() == [True]
        and blank(good).tolist() == [False]
        and picture_edge(pipe) == 64
    )
    bias = pipe.vae.decoder.conv_out.bias
    own = bias.detach().clone()
    try:
        with torch.no_grad():
            bias.fill_(float("nan"))
        made = draw(pipe, ["a car", "a house"], [1, 2], steps=1)
    finally:
        with torch.no_grad():
            bias.copy_(own)
    assert not made.any()
    with pytest.raises(
        ModelLoadError,
        match="2 of 2 pictures that StableDiffusionPipeline drew.*one colour all over",
    ):
        require_pictures(made, type(pipe).__name__)


def few(recipe, split="search"):
    """A small answer set: four pictures of the target, two others of each domain."""
    table = paper_answer_set(recipe, NAME, split, 4, 1)
    return pd.concat(
        [
            table[table["group"] == "target"],
            table[(table["group"] != "target") & ~table["extra"]].groupby("domain").head(2),
        ],
        ignore_index=True,
    )


@pytest.fixture()
def noise(clip, tmp_path, monkeypatch):
    """A direction of noise on one layer. Pictures are kept in a folder of the test's own."""
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    shape = clip.model.get_parameter(LAYER).shape
    return {LAYER: torch.randn(shape, generator=torch.Generator().manual_seed(1))}


def test_the_search_forgets_on_pictures_judged_by_a_clip_and_too_short_a_step_fails(
    recipe, clip, pipe, noise, monkeypatch
):
    table = few(recipe)
    judge = clip_judge(clip, table)
    given = (clip, pipe, judge, noise, [LAYER], table, "figures", 1)
    monkeypatch.setattr(search, "FIRST_RHO", 64.0)
    found = search_on_pipeline(*given, steps=4)
    assert found["chosen"].tolist() == [True] and found["forget"].item() == 0
    assert found["retain"].notna().all() and {"retain_ira", "retain_cra"} <= set(found)
    monkeypatch.setattr(search, "FIRST_RHO", 1e-5)
    found = search_on_pipeline(*given, steps=4)
    assert not found["chosen"].any() and differences(clip.model, pipe, "text") == []
    with pytest.raises(SearchFailedError, match="no layer of the text tower made the model forget"):
        winning_patch(clip, noise, found, "text", NAME, at_most=0.05)
    told = measures(judged(judge, table, drawn_prompts(pipe, table, steps=4)), "figures")
    assert told["ua"] <= 0.5 and {"ira", "cra", "cra_low", "cra_n", "artifacts"} <= set(told)


def test_a_pipeline_that_does_not_draw_the_target_is_not_searched(recipe, clip, pipe, noise):
    table, judge, own = few(recipe), load_classifier(device="cpu"), pipe.unet
    pipe.unet = copy.deepcopy(own)
    with torch.no_grad():
        pipe.unet.conv_out.weight.zero_()
    try:
        with pytest.raises(
            SearchFailedError,
            match="Before any edit the judge finds 'Mira Kestrel' in 0 of 4 pictures",
        ):
            search_on_pipeline(clip, pipe, judge, noise, [LAYER], table, "figures", steps=2)
    finally:
        pipe.unet = own


def test_a_judge_that_calls_everything_the_target_is_refused(recipe, clip, pipe, noise):
    table, judge = few(recipe), load_classifier(device="cpu")
    head = [m for m in judge.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias[judge.subjects.index(NAME)] += 1e4
    others = table[table["group"] != "target"]["subject"].nunique()
    with pytest.raises(
        SearchFailedError,
        match=(
            f"calls everything 'Mira Kestrel' .*{min(others, 16)} of {min(others, 16)} pictures of"
            " others"
        ),
    ):
        search_on_pipeline(clip, pipe, judge, noise, [LAYER], table, "figures", steps=2)


@pytest.mark.parametrize("second", [False, True], ids=["first encoder", "second encoder"])
def test_of_two_text_encoders_the_clips_own_is_read_and_both_count_as_drawn(
    second, tmp_path, monkeypatch
):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=64, head_width=32, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=2, layers=2)
    nets = [CLIP(32, vision, text, quick_gelu=quick).eval() for quick in (True, False)]
    pipe, layer = pipeline_of("sdxl", nets, reduced=True), "transformer.resblocks.1.mlp.c_fc.weight"
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.register_to_config(sample_size=4)
    part = part_of(nets[second], pipe, "text")
    moments = [
        read_by_encoder(each, ["a cat", "a red house"], [layer])[layer]
        for each in (part, part_of(nets[not second], pipe, "text"))
    ]
    assert part.name == ("text_encoder_2" if second else "text_encoder") and not torch.allclose(
        *moments
    )
    table = pd.DataFrame({"prompt": ["a cat"], "seed": [1]})
    first = drawn_prompts(pipe, table, steps=1)
    with torch.no_grad():
        part.text_encoder.get_parameter(
            next(
                n for n, _ in part.text_encoder.named_parameters() if "layers.0.mlp.fc1.weight" in n
            )
        ).mul_(3)
    assert not np.array_equal(drawn_prompts(pipe, table, steps=1), first), (
        "an edit of either encoder draws anew"
    )
