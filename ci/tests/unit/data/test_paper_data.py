"""CelebA, ImageNet and the recipe that joins them, from small folders in the real layouts."""

import json

import numpy as np
import open_clip
import pandas as pd
import pytest
import scipy.io
import yaml
from paper_folders import FACES, THINGS, make_celeba, make_imagenet, make_paper_folder, picture

from slugkit.base import EmptySetError, MissingArtefactError, SettingError, UnknownConceptError
from slugkit.data import open_data
from slugkit.data.published import class_names, read_celeba, read_imagenet
from slugkit.data.recipe import read_recipe, thirds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with CelebA, ImageNet, captioned pictures and a recipe."""
    return make_paper_folder(tmp_path_factory.mktemp("paper"))


def write(place, name="other.yaml", **changes):
    """A recipe beside the first one, with other entries."""
    recipe = {**yaml.safe_load((place / "recipe.yaml").read_text()), **changes}
    (place / name).write_text(yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}))
    return place / name


# -- CelebA ----------------------------------------------------------------------------------------


def test_faces_get_their_names_and_stay_on_disk(place):
    faces = read_celeba(place / "celeba", 16)
    assert (
        len(faces.pairs) == sum(FACES.values())
        and faces.pairs.table["concept"].value_counts().to_dict() == FACES
    )
    assert faces.classes == sorted([*FACES, "Zed Nopicture"]) and faces.pairs.images[3].shape == (
        16,
        16,
        3,
    )
    assert faces.pairs.captions[0] == "Ada Example."


def test_frequent_people_come_from_the_list_or_by_pictures_and_the_table_says_which(
    place, tmp_path
):
    table = read_celeba(place / "celeba").frequent(2)
    assert (
        table["name"].tolist() == ["Ada Example", "Bo Placeholder"]
        and table["source"].str.contains("most pictures").all()
    )
    assert "Ed Short" not in set(read_celeba(place / "celeba").frequent()["name"]), (
        "eight characters are too few"
    )
    folder = make_celeba(tmp_path)
    (folder / "frequent_celebs.txt").write_text(
        "Cy Sampleton\nEd Short\nNobody Known\nAda_Example\n"
    )
    table = read_celeba(folder).frequent(2)
    assert (
        table["name"].tolist() == ["Cy Sampleton", "Ada Example"]
        and table["pictures"].tolist() == [7, 12]
        and table["source"].str.startswith("frequent_celebs.txt").all()
    )


def test_one_error_names_every_missing_piece_who_gives_it_and_what_to_use_instead(place, tmp_path):
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 5\n")
    with pytest.raises(MissingArtefactError) as raised:
        read_celeba(tmp_path)
    for words in (
        "img_align_celeba",
        "list_identity_celeba.txt",
        "on request",
        "identity_CelebA.txt, which is there, holds numbers",
        "captions.csv",
    ):
        assert words in str(raised.value)
    (tmp_path / "img_align_celeba").mkdir()
    with pytest.raises(MissingArtefactError) as raised:
        read_celeba(tmp_path)
    assert "img_align_celeba" not in str(raised.value)


def test_a_list_that_cannot_be_read_and_an_empty_folder_say_so(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    names = tmp_path / "list_identity_celeba.txt"
    names.write_text("1\nimage_id identity_name\n000001.jpg Ada Example\n")
    with pytest.raises(SettingError, match="line 3"):
        read_celeba(tmp_path)
    names.write_text("1\nimage_id identity_name\n000001.jpg Ada_Example\n")
    with pytest.raises(EmptySetError, match="None of the 1 faces"):
        read_celeba(tmp_path)


# -- ImageNet --------------------------------------------------------------------------------------


def test_a_subset_goes_by_its_own_class_names_and_the_seven_templates(place):
    things = read_imagenet(place / "imagenet", 16)
    assert list(things.classes) == list(THINGS.values()) and len(things.pairs) == 120
    assert (
        things.classes["tench"] == [t("tench") for t in open_clip.SIMPLE_IMAGENET_TEMPLATES]
        and len(things.classes["tench"]) == 7
    )
    assert things.pairs.table.groupby("wnid")["concept"].first().to_dict() == THINGS


def test_the_subset_is_the_papers_draw(place):
    things = read_imagenet(place / "imagenet")
    expected = sorted(np.random.RandomState(0).choice(120, 6, replace=False))
    assert (
        things.subset().table["key"].tolist() == things.pairs.table["key"].iloc[expected].tolist()
    )


def test_sorted_wnids_are_the_class_index_and_a_name_that_occurs_twice_is_told_apart():
    from timm.data import ImageNetInfo

    wnids = ImageNetInfo("imagenet-1k").label_names()
    named = class_names(sorted(wnids), {})
    assert (
        len(set(named.values())) == 1000
        and named["n01440764"] == "tench"
        and named["n02102040"] == "English Springer Spaniel"
    )
    plain = [name.split(" (n")[0] for name in named.values()]
    assert (
        plain == list(open_clip.IMAGENET_CLASSNAMES)
        and sum(" (n" in name for name in named.values()) == 2
    )
    info = ImageNetInfo("imagenet-1k")
    for word in ("basketball", "castle", "revolver", "school bus"):
        wnid = next(w for w, n in named.items() if n == word)
        assert word in info.label_name_to_description(wnid)
    with pytest.raises(SettingError, match="999 classes of ImageNet were found and 1000"):
        class_names(sorted(wnids)[1:], {})


def flat(folder, count=6):
    """Six pictures without folders, two a class."""
    for i in range(count):
        picture(folder / "val" / f"ILSVRC2012_val_{i + 1:08d}.JPEG", i)
    (folder / "class_names.txt").write_text(
        "".join(f"{wnid} {name}\n" for wnid, name in THINGS.items())
    )
    return list(THINGS) * 2


def test_flat_pictures_are_labelled_by_either_ground_truth(tmp_path):
    wnids = flat(tmp_path)
    with pytest.raises(MissingArtefactError, match="LOC_val_solution.csv"):
        read_imagenet(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text(
        "".join(f"{[30, 10, 20][list(THINGS).index(w)]}\n" for w in wnids)
    )
    with pytest.raises(MissingArtefactError, match="meta.mat"):
        read_imagenet(tmp_path)
    kit = np.array(
        [(30, "n01440764", "tench"), (10, "n02102040", "springer"), (20, "n03000684", "saw")],
        dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O"), ("words", "O")],
    )
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": kit})
    by_kit = read_imagenet(tmp_path).pairs.table
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": kit[:2]})
    with pytest.raises(SettingError, match="do not belong together"):
        read_imagenet(tmp_path)
    lines = [f"ILSVRC2012_val_{i + 1:08d},{w} 1 2 3 4" for i, w in enumerate(wnids)]
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n" + "\n".join(reversed(lines)) + "\n"
    )
    by_solution = read_imagenet(tmp_path).pairs.table
    assert by_kit.equals(by_solution)
    assert by_kit.set_index("key")["wnid"].to_dict() == {
        f"imagenet/ILSVRC2012_val_{i + 1:08d}.JPEG": w for i, w in enumerate(wnids)
    }
    (tmp_path / "LOC_val_solution.csv").write_text("file,label\na,b\n")
    with pytest.raises(SettingError, match="do not belong together.*ImageId, PredictionString"):
        read_imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n" + "\n".join(lines[1:]) + "\n"
    )
    with pytest.raises(SettingError, match="6 pictures .*do not belong together.*val_00000001"):
        read_imagenet(tmp_path)


def test_an_imagenet_folder_that_is_none_says_what_was_expected(tmp_path):
    with pytest.raises(MissingArtefactError, match="no folder val/"):
        read_imagenet(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(MissingArtefactError, match="image-net.org"):
        read_imagenet(tmp_path / "val")
    make_imagenet(tmp_path, 1)
    (tmp_path / "class_names.txt").write_text("n01440764 tench\nn01440764 tench\n")
    with pytest.raises(SettingError, match="each wnid once"):
        read_imagenet(tmp_path)
    (tmp_path / "class_names.txt").unlink()
    with pytest.raises(
        SettingError, match="3 classes of ImageNet were found and 1000 were expected"
    ):
        read_imagenet(tmp_path)


# -- the recipe ------------------------------------------------------------------------------------


def test_a_third_of_each_persons_pictures_is_for_the_search_wherever_the_rows_stand(place):
    table = read_celeba(place / "celeba").pairs.table
    split = pd.Series(thirds(table), index=table["key"])
    assert {c: (split[table["concept"].to_numpy() == c] == "search").sum() for c in FACES} == {
        c: -(-n // 3) for c, n in FACES.items()
    }
    mixed = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert pd.Series(thirds(mixed), index=mixed["key"]).sort_index().equals(split.sort_index())


def test_search_and_report_exams_are_disjoint_and_hold_the_papers_groups(place):
    source = open_data(str(place / "recipe.yaml"), 16)
    search, report = source.exam("Ada Example", "search"), source.exam("Ada Example", "report")
    assert not set(search.pairs.table["key"]) & set(report.pairs.table["key"])
    groups = {g: len(rows) for g, (_, rows) in report.groups().items()}
    assert (
        groups
        == {"target": 8, "neighbours": 3 + 5, "people": 3 + 5 + 6 + 4, "objects": groups["objects"]}
        and len(search.groups()["target"][1]) == 4
    )
    assert groups["objects"] + len(search.groups()["objects"][1]) == 120, (
        "all of a set that is smaller than the paper's 2,500"
    )
    assert (
        report.prompts["figures"]["{}."]["Zed Nopicture"] == ["Zed Nopicture."]
        and len(report.classes("figures")) == 6
    )
    asked = {split: source.prompts("Ada Example", split) for split in ("search", "report")}
    for domain in ("figures", "objects"):
        said = [
            {
                t
                for classes in asked[s][domain].values()
                for texts in classes.values()
                for t in texts
            }
            for s in asked
        ]
        assert not said[0] & said[1] and not set(asked["search"][domain]) & set(
            asked["report"][domain]
        )
    templates = {t("tench") for t in open_clip.SIMPLE_IMAGENET_TEMPLATES}
    assert {
        classes["tench"][0] for s in asked for classes in asked[s]["objects"].values()
    } == templates
    assert (
        report.pairs.images[:2].shape == (2, 16, 16, 3)
        and report.target_domain == "figures"
        and report.kind == "person"
    )
    few = source.exam("Ada Example", "report", per_style=1).pairs.table["concept"].value_counts()
    assert few["Ada Example"] == 8 and few.drop("Ada Example").max() == 1


def test_sets_come_from_the_pool_and_leave_the_concept_out(place):
    source = read_recipe(place / "recipe.yaml", 16)
    forget, retain = source.forget_set("Ada Example", 99), source.retain_set("Ada Example", 99)
    assert (
        len(forget) == 10
        and len(retain) == 30
        and source.concepts() == ["Ada Example"]
        and source.neighbours("Ada Example") == ["Di Fewpics", "Ed Short"]
    )
    assert source.neighbours("Bo Placeholder") == [] and source.path == place / "recipe.yaml"
    assert source.prompts("Ada Example", "report")["figures"]["{}."]["Ed Short"] == ["Ed Short."]


def test_a_forget_set_may_lie_in_a_place_of_its_own(place):
    own = place / "ada"
    picture(own / "x.jpg", 9)
    (own / "captions.csv").write_text("file,caption,split\nx.jpg,Ada Example alone,train\n")
    source = read_recipe(write(place, forget="ada"), 16)
    assert (
        source.forget_set("Ada Example", 99).captions == ["Ada Example alone"]
        and len(source.retain_set("Ada Example", 99)) == 30
    )
    (own / "captions.csv").write_text("file,caption,split\nx.jpg,an avocado chair,train\n")
    source = read_recipe(
        write(place, forget="ada", concepts=["avocado chair"], neighbours=None), 16
    )
    assert (
        source.kind("avocado chair") == "name"
        and len(source.forget_set("avocado chair", 9)) == 1
        and len(source.retain_set("avocado chair", 99)) == 40
    )
    assert len(source.forget_set("Ada Example", 99)) == 10, (
        "what `forget` does not hold comes from the pairs"
    )


def test_a_class_of_imagenet_is_examined_on_all_its_pictures(place):
    source = read_recipe(write(place, concepts=["tench"], neighbours={"tench": ["chain saw"]}), 16)
    exam = source.exam("tench", "report")
    groups = {g: len(rows) for g, (_, rows) in exam.groups().items()}
    assert (
        exam.kind == "object"
        and exam.target_domain == "objects"
        and groups["target"] == groups["neighbours"] == 26
        and "people" in groups
    )


def test_a_target_with_few_pictures_is_refused(place):
    with pytest.raises(
        EmptySetError, match="'Di Fewpics' has 5 pictures to be examined on; 6 or more"
    ):
        read_recipe(place / "recipe.yaml").exam("Di Fewpics", "report")


def test_without_people_and_objects_the_pool_is_examined(place):
    source = read_recipe(
        write(place, people=None, objects=None, concepts=None, neighbours=None), 16
    )
    assert (
        source.kind("Ada Example") == source.pool.kind("Ada Example")
        and source.concepts() == source.pool.concepts()
    )
    with pytest.raises(EmptySetError):
        source.exam("Ada Example", "report")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (dict(persons="celeba"), SettingError, "one of pairs, forget, people"),
        (dict(concepts="Ada Example"), SettingError, "`concepts`"),
        (dict(pairs=None), SettingError, "`pairs`"),
        (dict(people=["celeba"]), SettingError, "`people`"),
        (dict(pairs="recipe.yaml"), SettingError, "another recipe"),
        (dict(pairs="pipe:echo x.tar"), SettingError, "shards are missing"),
        (dict(concepts=["Ada Exampel"]), UnknownConceptError, "'Ada Example'"),
        (
            dict(neighbours={"Ada Example": ["Bo Placeholdr"]}),
            UnknownConceptError,
            "'Bo Placeholder'",
        ),
        (dict(people="laion"), MissingArtefactError, "list_identity_celeba.txt"),
    ],
)
def test_a_wrong_entry_says_which_and_what_to_do(place, changes, error, words):
    with pytest.raises(error, match=words):
        read_recipe(write(place, "wrong.yaml", **changes), 16)


def test_a_recipe_is_yaml_or_json_and_never_code(place):
    (place / "same.json").write_text(
        json.dumps(yaml.safe_load((place / "recipe.yaml").read_text()))
    )
    assert (
        read_recipe(place / "same.json", 16).recipe == read_recipe(place / "recipe.yaml", 16).recipe
    )
    bad = place / "bad.yaml"
    for text, words in (
        ("pairs: !!python/object/apply:os.getcwd []\n", "cannot be read"),
        ("- a\n", "list at its top"),
        ("{", "cannot be read"),
    ):
        bad.write_text(text)
        with pytest.raises(SettingError, match=words):
            read_recipe(bad)


def test_a_clip_takes_the_exam_and_its_figures_stand_beside_the_published(place, clip):
    from slugkit.evaluation.clip import answers, evaluate_clip
    from slugkit.experiments.published import beside, mean_over_names, paper_rows

    source = read_recipe(place / "recipe.yaml", clip.image_size)
    exam = source.exam("Ada Example", "report")
    found = evaluate_clip(clip, exam, "after")
    both = beside(paper_rows(found), "table1_clip")
    ours = both[both["origin"] == "ours"].set_index("metric")
    assert ours["n"].to_dict() == {
        "FA@1": 8,
        "FA@5": 8,
        "TA_CA@1": 18,
        "TA_IN@1": len(exam.groups()["objects"][1]),
    }
    assert (
        ours["value"].between(0, 100).all() and (both["origin"] == "published").sum() == 6 * 7 - 3
    )
    told = answers(clip, exam, "people")
    assert mean_over_names(told, source.people.frequent()["name"].tolist())["n"] == 3, (
        "those of the 100 who are not the target; Ed Short is a neighbour only"
    )


def test_an_exam_is_kept_by_its_places(place, tmp_path):
    from slugkit.data import load_pairs

    pairs = read_recipe(place / "recipe.yaml", 16).exam("Ada Example", "search").pairs
    pairs.save(tmp_path, "search")
    again = load_pairs(tmp_path, "search")
    assert again.sha256 == pairs.sha256 and again.table.equals(pairs.table)
