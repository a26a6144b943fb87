"""Several concepts at once on data that are not the studio's: the exam about all of them, who is
chosen, in which words they are asked for, and what is drawn.

The data name the studio's people and things in the published layouts, so that the studio's trained
models know them.
"""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from studio_folders import make_folder

from slugkit import studio
from slugkit.base import EmptySetError, SettingError, UnknownConceptError
from slugkit.data import open_data
from slugkit.data.pictures import Pictures
from slugkit.data.unlearncanvas import STYLES, spoken
from slugkit.evaluation.clip import Scorer, zero_shot_task
from slugkit.unlearning.concepts import concepts_to_forget, several_concepts

MIRA, SELIN, OSKAR = THREE = ["Mira Kestrel", "Selin Drover", "Oskar Marlow"]


def picture(path, image=None, shade=0):
    """A PNG of these pixels, or of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (
        Image.new("RGB", (16, 16), (shade % 256, 60, 90))
        if image is None
        else Image.fromarray(image)
    ).save(path, format="PNG")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CelebA folder of 26 people of the studio, seven pictures each (of the three those that the
    studio draws), an ImageNet folder of eight of its objects, and captions.

    The list of frequent people leaves the three out.
    """
    folder, world, listed = tmp_path_factory.mktemp("files"), studio.load_world(), []
    records = [r for name in THREE for r in studio.solo_records("report", name, 2, world=world)[:7]]
    shown = {name: studio.draw_many(records[7 * i : 7 * i + 7]) for i, name in enumerate(THREE)}
    others = sorted({*world.people} - {*THREE, "Kofi Okoye", "Inka Tarrow"})[:21]
    for name in [*THREE, "Kofi Okoye", "Inka Tarrow", *others]:
        for i in range(7):
            listed.append(f"{len(listed) + 1:06d}.jpg {name.replace(' ', '_')}")
            picture(
                folder / "celeba" / "img_align_celeba" / listed[-1].split()[0],
                shown[name][i] if name in shown else None,
                len(listed),
            )
    (folder / "celeba" / "list_identity_celeba.txt").write_text(
        "\n".join([str(len(listed)), "image_id identity_name", *listed]) + "\n"
    )
    (folder / "celeba" / "frequent_celebs.txt").write_text("\n".join(others[:20]) + "\n")
    things = world.objects[:8]
    for number in range(len(things)):
        for i in range(7):
            picture(
                folder / "imagenet" / "val" / f"n{number:08d}" / f"{number}-{i}.JPEG", shade=10 * i
            )
    (folder / "imagenet" / "class_names.txt").write_text(
        "".join(f"n{number:08d} {name}\n" for number, name in enumerate(things))
    )
    rows = [
        {"file": f"{i}.jpg", "caption": f"a photo of {name}", "split": "train"}
        for i, name in enumerate([*THREE, "Kofi Okoye", *others, *things])
    ]
    for row in rows:
        picture(folder / "laion" / row["file"])
    pd.DataFrame(rows).to_csv(folder / "laion" / "captions.csv", index=False)
    (folder / "recipe.yaml").write_text("pairs: laion\npeople: celeba\nobjects: imagenet\n")
    return folder


def recipe(place, **changes):
    """The recipe with these entries instead (None takes one out), opened."""
    said = {
        **yaml.safe_load((place / "recipe.yaml").read_text()),
        "neighbours": {MIRA: [SELIN, "Kofi Okoye"]},
        **changes,
    }
    (place / "other.yaml").write_text(
        yaml.safe_dump({k: v for k, v in said.items() if v is not None})
    )
    return open_data(str(place / "other.yaml"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A plain folder of four classes; the class hat has no picture in the report split."""
    folder, rows = tmp_path_factory.mktemp("own"), []
    for number, (name, split) in enumerate(
        (n, s) for n in ("cup", "hat", "hut", "jar") for s in ("train", "search", "report")
    ):
        picture(folder / f"{number}.png", shade=number * 20)
        rows.append(
            {
                "file": f"{number}.png",
                "caption": f"a photo of the {name}",
                "concept": name,
                "split": "train" if name == "hat" else split,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
    return open_data(str(folder))


# -- the exam --------------------------------------------------------------------------------------


def test_the_exam_of_a_recipe_holds_every_picture_once_and_who_is_in_one_exam_counts_for_itself(
    place,
):
    source = recipe(place)
    exam = zero_shot_task(source, THREE, "report")
    table, single = exam.pairs.table, source.exam(SELIN, "report")
    assert (
        isinstance(exam.pairs.images, Pictures)
        and table["key"].is_unique
        and set(table["split"]) == {"report"}
    )
    at = table.index[table["key"] == single.pairs.table["key"].iloc[-1]][0]
    assert np.array_equal(exam.pairs.images[at], single.pairs.images[len(single.pairs) - 1])
    for concept in THREE:
        assert (
            exam.shows(concept).sum()
            == (source.people.pairs.table.query("split == 'report'")["concept"] == concept).sum()
            > 0
        )
    # the neighbour of another concept is in two of the exams, the person without a place in the
    # others' exams in one
    assert (
        exam.base[exam.shows(SELIN)].all()
        and not exam.base[exam.shows(OSKAR)].any()
        and not exam.base[exam.shows(MIRA)].any()
    )
    groups = exam.rest([MIRA])
    assert set(table["concept"].iloc[groups["neighbours"][1]]) == {
        SELIN,
        "Kofi Okoye",
    } and OSKAR not in set(table["concept"].iloc[groups["people"][1]])
    every = exam.rest(THREE)
    assert set(every) == {"neighbours", "people", "objects"} and not set(
        table["concept"].iloc[every["people"][1]]
    ) & set(THREE)
    assert "neighbours" not in zero_shot_task(recipe(place, neighbours=None), THREE, "search").rest(
        THREE
    )


def test_the_scores_on_a_recipe_are_those_of_the_answers_in_every_wording(place, clip):
    several = Scorer(clip, zero_shot_task(recipe(place), THREE, "report"))
    t, exam = several.classes(), several.exam
    rows, names = np.flatnonzero(exam.shows(OSKAR)), exam.classes("figures")
    v, right = clip.image_features(exam.pairs.images[rows]), []
    for said in exam.prompts["figures"].values():
        best = (v @ clip.text_features([said[name][0] for name in names]).T).argmax(1)
        right.append([names[i] == OSKAR for i in best])
    found = several.table(THREE, t).set_index(["group", "concept", "metric"])
    one = found.loc[("target", OSKAR, "FA@1")]
    assert one["value"] == pytest.approx(np.mean(right)) and one["value"] > 0.5
    assert one["n"] == len(rows) and one["worst"] == np.mean(right, axis=1).max()
    search = zero_shot_task(recipe(place), THREE, "search")
    for domain in ("figures", "objects"):
        assert not set(search.prompts[domain]) & set(exam.prompts[domain])
    assert list(exam.prompts["figures"]) == list(recipe(place).prompts(OSKAR, "report")["figures"])


def test_a_plain_folder_is_examined_among_its_classes_and_needs_others_to_lose(own):
    exam = zero_shot_task(own, ["cup", "jar"], "search")
    assert (
        exam.pairs.table["concept"].tolist() == ["cup", "hut", "jar"]
        and exam.base.all()
        and set(exam.rest(["cup", "jar"])) == {"neighbours", "classes"}
    )
    asked = {w: said["cup"] for w, said in exam.prompts["classes"].items()}
    assert all(texts == [w.replace("{}", "cup")] for w, texts in asked.items()) and len(asked) > 2
    with pytest.raises(EmptySetError, match="nothing else that is asked about among the classes"):
        zero_shot_task(own, ["cup", "hut", "jar"], "search")


def test_styles_are_asked_for_in_wordings_that_name_none_of_those_forgotten(tmp_path):
    for style in STYLES[:12]:
        for number in range(1, 5):
            for name in ("Cats", "Dogs"):
                picture(tmp_path / style / name / f"{number}.jpg", shade=number)
    source, ends = open_data(str(tmp_path)), [STYLES[0], STYLES[11]]
    exam = zero_shot_task(source, ends, "report")
    apart = [set(source.prompts(c, "report")["objects"]) for c in ends]
    asked = set(exam.prompts["objects"])
    assert not apart[0] & apart[1], "the two alone are asked about in different styles"
    assert asked and not any(f"in {c} style" in asked for c in ends)
    said = [text for classes in exam.prompts["objects"].values() for text in classes["Cats"]]
    assert len(said) == len(asked) and not any(spoken(c) in text for c in ends for text in said)
    assert set(exam.rest(ends)) == {"styles", "objects"}
    shown = exam.pairs.table["style"].iloc[exam.rest(ends)["objects"][1]]
    assert len(shown) and not shown.isin(ends).any()


def test_concepts_that_are_examined_in_different_places_are_refused(place):
    source = recipe(place, pairs="studio")
    with pytest.raises(SettingError, match="about Tin Wobble are drawn by the studio"):
        zero_shot_task(source, [MIRA, "Tin Wobble"], "search")
    with pytest.raises(EmptySetError, match="pictures to be examined on"):
        short = recipe(place)
        short.people.pairs = short.people.pairs.where(
            (short.people.pairs.table["concept"] != OSKAR)
            | (short.people.pairs.table.index % 3 == 0)
        )
        zero_shot_task(short, THREE, "search")


# -- who is chosen ---------------------------------------------------------------------------------


def test_by_default_only_those_are_chosen_who_can_be_forgotten_and_examined(place, own):
    source = recipe(place)
    best = source.people.frequent()["name"].tolist()
    quarter = several_concepts(source, MIRA)
    # of the 20 in the list, the concept and two neighbours
    assert quarter[:3] == [MIRA, *best[:2]] and len(quarter) == 5
    faces = source.people.pairs
    source.people.pairs = faces.where(
        (faces.table["concept"] != best[0]) | (faces.table.index % 3 == 0)
    )
    assert several_concepts(source, MIRA)[1] == best[1]
    captions = source.pool.pairs
    source.pool.pairs = captions.where(~captions.table["caption"].str.contains(best[1]))
    assert several_concepts(source, MIRA)[1] == best[2]
    assert (
        several_concepts(recipe(place, concepts=[OSKAR, SELIN, MIRA]), MIRA)
        == [MIRA, OSKAR, SELIN][: len(quarter)]
    )
    assert several_concepts(own, "cup") == ["cup", "hut"] and several_concepts(own, "jar") == [
        "jar",
        "cup",
    ]
    with pytest.raises(EmptySetError, match="no picture of 'hat'"):
        several_concepts(own, "hat")


def test_the_settings_names_are_taken_as_they_are_and_one_alone_is_refused(place):
    source = recipe(place, concepts=[MIRA, "umbrella"])
    assert concepts_to_forget(source, [OSKAR, SELIN], MIRA) == [OSKAR, SELIN]
    for named, says in (([OSKAR], "Name more"), ([], "No other of its kind")):
        with pytest.raises(SettingError, match=f"one concept to forget.*{says}"):
            concepts_to_forget(source, named, MIRA)
    with pytest.raises(UnknownConceptError, match="Mira Kestrel"):
        concepts_to_forget(source, [OSKAR, "Mira Kestrle"], MIRA)


@pytest.mark.parametrize("unknown", [[SELIN], [OSKAR], [SELIN, "Kofi Okoye"]])
def test_by_default_only_those_are_chosen_whom_the_model_knows(tmp_path, clip, unknown):
    names = [
        MIRA,
        SELIN,
        OSKAR,
        "Kofi Okoye",
        "Petra Quillon",
        "Bram Hollick",
        "Inka Tarrow",
        "Lotte Strand",
    ]
    source = open_data(
        make_folder(tmp_path, names, shown=["car" if n in unknown else n for n in names]),
        *clip.inputs,
    )
    unasked, chosen = several_concepts(source, MIRA, 4), several_concepts(source, MIRA, 4, clip)
    alike = [name for name in source.concepts() if name != MIRA]
    assert unasked == [MIRA, alike[0]] and chosen == [
        MIRA,
        next(n for n in alike if n not in unknown),
    ]
    assert concepts_to_forget(source, [], MIRA, clip) == chosen
    for split in ("search", "report"):
        assert Scorer(clip, zero_shot_task(source, chosen, split)).exam.concepts == chosen
