"""An UnlearnCanvas folder as data: its sets and exams, its prompts in notebook 06, what judges its
pictures, and the two sides of its FID.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from slugkit.base import (
    EmptySetError,
    ModelLoadError,
    SettingError,
    UnknownConceptError,
    data_dir,
    write_tensors,
)
from slugkit.data import CanvasSource, names_concept, open_data
from slugkit.data.pictures import Pictures
from slugkit.data.reading import Reading
from slugkit.data.unlearncanvas import OBJECTS, STYLES
from slugkit.evaluation import unlearncanvas as canvas
from slugkit.evaluation.clip_judge import ClipJudge, judge_of
from slugkit.evaluation.diffusion import PipelineMeasure, judged, measures
from slugkit.evaluation.frechet import (
    INCEPTION_FILE,
    InceptionFeatures,
    frechet_distance,
    inception_features,
)
from slugkit.evaluation.unlearncanvas import frechet_sets
from slugkit.experiments.published import METRICS
from slugkit.tasks import answer_set_of, domain_of, showcase_of
from slugkit.tasks.canvas_prompts import canvas_answer_set

SMALL = "test_vit"
"""timm's smallest ViT."""
LOOKS, THINGS, NUMBERS = (
    ("Monet", "Artist_Sketch", "Sketch", "Van_Gogh", "Seed_Images"),
    ("Dogs", "Sea", "Towers"),
    8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four styles and the photographs, three objects, eight pictures each; a fourth object has two
    pictures only.
    """
    place = tmp_path_factory.mktemp("canvas")
    for style in LOOKS:
        for name in (*THINGS, "Cats"):
            (place / style / name).mkdir(parents=True)
            for number in range(1, (3 if name == "Cats" else NUMBERS + 1)):
                Image.new("RGB", (24, 20), (number * 20, 10, 10)).save(
                    place / style / name / f"{number}.jpg"
                )
    return place


@pytest.fixture(scope="module")
def source(folder):
    return open_data(str(folder), 16)


def photographs(pairs):
    """Object and number of every picture, whatever its style."""
    return {key.split("/", 1)[1] for key in pairs.table["key"]}


def test_a_folder_of_styles_and_objects_is_known_by_looking(source, tmp_path):
    assert isinstance(source, CanvasSource) and source.concepts() == [
        "Artist_Sketch",
        "Monet",
        "Sketch",
        "Van_Gogh",
        "Dogs",
        "Sea",
        "Towers",
    ]
    assert (source.kind("Sketch"), source.kind("Sea")) == ("style", "object") and (
        domain_of(source, "Sketch"),
        domain_of(source, "Sea"),
    ) == ("styles", "objects")
    assert isinstance(source.pairs.images, Pictures) and source.neighbours("Dogs") == []
    (tmp_path / "Monet").mkdir()
    with pytest.raises(SettingError, match="no style of UnlearnCanvas"):
        open_data(str(tmp_path))


def test_its_captions_are_taken_whole_as_the_page_about_names_says(source, folder):
    page = (data_dir().parent / "slugkit" / "data" / "pages" / "own_pictures.md").read_text("utf-8")
    assert "Not so in an\nUnlearnCanvas folder" in page.split("## Names in captions")[1]
    blind = open_data(str(folder), 16, "crop", Reading(lambda text: [0, *text.split(), 0], 3))
    for name in ("Sketch", "Monet", "Dogs"):
        assert blind.forget_set(name, 99).captions == source.forget_set(name, 99).captions
        assert blind.prompts(name, "search") == source.prompts(name, "search")


def test_no_photograph_is_in_two_splits_in_whatever_style(source):
    parts = {
        split: photographs(source.pairs.split(split)) for split in ("train", "search", "report")
    }
    assert {split: len(found) for split, found in parts.items()} == {
        "train": 3 * 4 + 1,
        "search": 3 * 2,
        "report": 3 * 2 + 1,
    }
    assert (
        not parts["train"] & parts["search"]
        and not parts["train"] & parts["report"]
        and not parts["search"] & parts["report"]
    )


@pytest.mark.parametrize(("concept", "column"), [("Van_Gogh", "style"), ("Dogs", "concept")])
def test_splits_share_no_photograph_and_the_retain_set_has_nothing_of_the_concept(
    source, concept, column
):
    forget, retain = source.forget_set(concept, 6), source.retain_set([concept, "Monet"], 500)
    search, report = source.exam(concept, "search"), source.exam(concept, "report")
    assert (
        len(forget) == 6
        and set(forget.table[column]) == {concept}
        and concept not in set(retain.table[column])
        and "Monet" not in set(retain.table["style"])
    )
    assert not forget.table["key"].equals(source.forget_set(concept, 6, 1).table["key"])
    assert (
        not source.retain_set(concept, 9, 0)
        .table["key"]
        .equals(source.retain_set(concept, 9, 1).table["key"])
    )
    seen = photographs(forget) | photographs(retain)
    assert not seen & (photographs(search.pairs) | photographs(report.pairs)) and not photographs(
        search.pairs
    ) & photographs(report.pairs)
    mine = report.pairs.table[column] == concept
    assert len(report.groups()["target"][1]) == mine.sum() >= 2 * 3 and set(report.groups()) == {
        "target",
        "styles",
        "objects",
    }
    others = search.pairs.table[search.pairs.table[column] != concept]
    assert not others.duplicated(["style", "concept"]).any() and len(
        source.exam(concept, "report", 1).pairs
    ) < len(report.pairs)


def test_exams_ask_in_the_benchmarks_words_and_the_concept_stands_for_no_other_class(source):
    for concept in ("Van_Gogh", "Dogs"):
        exam, texts = source.exam(concept, "search"), {}
        assert exam.classes("styles") == ["Artist_Sketch", "Monet", "Sketch", "Van_Gogh"]
        assert exam.classes("objects") == list(THINGS[:3])
        assert exam.prompts["objects"]["in Artist_Sketch style"]["Sea"] == [
            "A Sea image in Artist Sketch style."
        ]
        for split in ("search", "report"):
            asked = [
                said
                for wordings in source.prompts(concept, split).values()
                for said in wordings.values()
            ]
            pairs = [
                (name, text) for said in asked for name, words in said.items() for text in words
            ]
            texts[split] = {text for _, text in pairs}
            assert not any(
                names_concept(text, concept.replace("_", " "))
                for name, text in pairs
                if name != concept
            )
        assert not texts["search"] & texts["report"]


def test_a_style_whose_name_holds_the_concepts_is_not_retained(source):
    assert set(source.retain_set("Sketch", 500).table["style"]) == {
        "Monet",
        "Van_Gogh",
        "Seed_Images",
    }
    assert "Sketch" in set(source.retain_set("Artist_Sketch", 500).table["style"])


def test_what_the_folder_lacks_is_said_with_what_it_has(source, tmp_path):
    for name, says in (
        ("Cats", "lacks pictures of 'Cats'.*It has Artist_Sketch"),
        ("Rust", "lacks pictures of 'Rust'"),
        ("Van Gogh", "Nearest: 'Van_Gogh'"),
    ):
        with pytest.raises(UnknownConceptError, match=says):
            source.kind(name)
    with pytest.raises(SettingError, match="one of search, report|search or report|split"):
        source.exam("Dogs", "train")
    for number in range(1, 5):
        (tmp_path / "Monet" / "Dogs").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "Monet" / "Dogs" / f"{number}.jpg")
    alone = open_data(str(tmp_path), 8)
    with pytest.raises(EmptySetError, match="'Monet' alone"):
        alone.exam("Monet", "report")
    with pytest.raises(EmptySetError, match="retain set"):
        alone.retain_set("Monet", 5)


@pytest.mark.parametrize("concept", ["Van_Gogh", "Dogs"])
def test_the_report_is_the_benchmarks_answer_set_and_the_search_has_other_words_and_seeds(
    source, concept
):
    report, search = (
        answer_set_of(source, concept, "report", 280, 10, tier="lite"),
        answer_set_of(source, concept, "search", 28, 1),
    )
    assert report.equals(canvas.answer_set(concept, "lite")) and list(search.columns) == list(
        report.columns
    )
    full = canvas.answer_set(concept)
    assert (
        not set(search["prompt"]) & set(full["prompt"])
        and not set(search["seed"]) & set(full["seed"])
        and search["seed"].is_unique
    )
    target = search["group"] == "target"
    column = "style" if concept == "Van_Gogh" else "subject"
    assert (
        target.sum() == 28
        and ((search[column] == concept) == target).all()
        and search.loc[~target, "style"].nunique() >= 50
    )
    assert search.loc[~target, "subject"].nunique() >= 19
    PipelineMeasure(None, None, search, domain_of(source, concept), lambda: None)
    shown = showcase_of(source, concept)
    assert not set(shown["seed"]) & (set(search["seed"]) | set(full["seed"])) and set(
        shown["what"]
    ) == {"target", "other"}
    named = [names_concept(text, concept.replace("_", " ")) for text in shown["prompt"]]
    assert ((shown["what"] == "target") == named).all() and shown["prompt"].is_unique
    with pytest.raises(SettingError, match="search"):
        canvas_answer_set(concept, "train")


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory):
    """Both classifiers with random weights, of a small architecture that config.json names."""
    place = tmp_path_factory.mktemp("judge")
    (place / "config.json").write_text(json.dumps({"architecture": SMALL}))
    for name, classes in ((canvas.STYLE_FILE, 51), (canvas.OBJECT_FILE, 20)):
        torch.manual_seed(classes)
        write_tensors(place / name, canvas.build_judge(classes, SMALL).state_dict())
    return place


@pytest.mark.parametrize("concept", ["Van_Gogh", "Dogs"])
def test_the_notebooks_table_gives_the_benchmarks_scores(source, clip, judge_folder, concept):
    report = answer_set_of(source, concept, "report", tier="smoke")
    images = np.random.default_rng(0).integers(0, 256, (len(report), 32, 32, 3), dtype=np.uint8)
    judge = judge_of(source, clip, report, str(judge_folder))
    assert isinstance(judge, canvas.CanvasJudge) and judge.weights == judge_folder
    said, hits = judge.name(images), np.random.default_rng(1).random(len(report)) < 0.5
    rest = (report["group"] == "rest").to_numpy()
    # half of the rest is called right in the other domain
    other = "style" if concept == "Dogs" else "subject"
    report[other] = np.where(hits & rest, said[other], report[other])
    flat = measures(judged(judge, report, images), domain_of(source, concept))
    assert (
        flat["ua"] == 1
        and flat["ira"] < 0.3 < flat["cra"] < 0.7
        and (flat["ua_n"], flat["ira_n"], flat["cra_n"]) == (20, 50, 50)
    )
    ours = canvas.as_published(flat, "SLUG", "style" if concept == "Van_Gogh" else "subject")
    assert ours["value"].tolist() == [100 * flat[name] for name in ("ua", "ira", "cra")]
    assert set(ours["metric"]) <= set(METRICS.values()) and (ours["low"] <= ours["value"]).all()


def test_what_the_judge_folder_lacks_is_said(source, clip, judge_folder, tmp_path):
    (tmp_path / canvas.STYLE_FILE).write_bytes((judge_folder / canvas.STYLE_FILE).read_bytes())
    (tmp_path / "config.json").write_text('{"architecture": "test_vit2"}')
    with pytest.raises(ModelLoadError, match="does not fit timm's test_vit2"):
        judge_of(source, clip, None, str(tmp_path))
    (tmp_path / "config.json").write_text('{"architecture": "no_such_network"}')
    with pytest.raises(ModelLoadError, match="names no architecture that timm can build"):
        judge_of(source, clip, None, str(tmp_path))
    (tmp_path / "config.json").write_bytes((judge_folder / "config.json").read_bytes())
    with pytest.raises(
        ModelLoadError, match="object classifier 'style50_cls.safetensors' is not there"
    ):
        judge_of(source, clip, None, str(tmp_path))


def test_without_the_classifiers_a_clip_judges_and_says_that_it_is_not_the_benchmarks_judge(
    source, clip
):
    judge = judge_of(source, clip, None)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    said, shares = judge.name(images), judge.shares(images, "style")
    assert (
        isinstance(judge, ClipJudge) and judge.subjects == list(OBJECTS) and judge.styles == STYLES
    )
    assert said["style"].tolist() == [STYLES[i] for i in shares.argmax(1)] and said[
        "subject"
    ].tolist() == [OBJECTS[i] for i in judge.shares(images).argmax(1)]
    assert (
        torch.allclose(shares.sum(1), torch.ones(3))
        and not judge.shares(images).argmax(1).equal(shares.argmax(1))
        and judge.weights == clip.weights
    )
    assert "not the benchmark's judge" in canvas.departures(judge, "full", 100, 9.0, 512)
    own = canvas.CanvasJudge(None, None)
    assert "are UnlearnCanvas's own." in canvas.departures(own, "full", 100, 9.0, 512)
    differs = canvas.departures(own, "smoke", 10, 9.0, 512)
    assert (
        "answer_tier smoke (full)" in differs
        and "sampling_steps 10 (100)" in differs
        and "guidance" not in differs
        and "judge" not in differs
    )


def test_the_frechet_sides_are_the_rest_of_the_answer_set_and_report_pictures_without_the_target(
    source, monkeypatch
):
    with pytest.raises(SettingError, match="more than 2048 on each side"):
        frechet_sets(source, "Van_Gogh", 5000)
    monkeypatch.setattr("slugkit.evaluation.unlearncanvas.INCEPTION_FEATURES", 10)
    table, real = frechet_sets(source, "Van_Gogh", 15)
    assert (
        len(table) == len(real) == 15
        and set(table["group"]) == {"rest"}
        and real.shape[1:] == (512, 512, 3)
    )
    report = source.exam("Van_Gogh", "report").pairs
    places = set(report.images.places.loc[(report.table["style"] != "Van_Gogh").to_numpy(), "file"])
    assert set(real.places["file"]) <= places and len(set(real.places["file"])) == 15


def test_inceptions_features_come_from_a_file_and_are_those_of_the_benchmarks_code(tmp_path):
    from torchvision.models import inception_v3

    with pytest.raises(
        ModelLoadError, match="There is no inception_v3.safetensors in the judge's folder"
    ):
        inception_features(tmp_path / INCEPTION_FILE, "cpu")
    torch.manual_seed(0)
    network = inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    write_tensors(tmp_path / INCEPTION_FILE, network.state_dict())
    pictures = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8)
    kept = []
    network.Mixed_7c.register_forward_hook(lambda module, given, out: kept.append(out.mean((2, 3))))
    with torch.no_grad():
        network(pictures.float() / 255 * 2 - 1)
        found = inception_features(tmp_path / INCEPTION_FILE, "cpu")(pictures)
    assert (
        isinstance(found, torch.Tensor)
        and found.shape == (2, 2048)
        and torch.allclose(found, kept[0], rtol=1e-3, atol=1e-12)
    )
    (tmp_path / INCEPTION_FILE).write_bytes(b"0" * 100)
    with pytest.raises(ModelLoadError, match="does not hold torchvision's Inception-v3"):
        inception_features(tmp_path / INCEPTION_FILE, "cpu")


def test_the_frechet_distance_by_hand_of_pictures_on_disk(source):
    from scipy.linalg import sqrtm

    class Means(InceptionFeatures):
        num_features = 3

        def __init__(self):
            torch.nn.Module.__init__(self)
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, images):
            assert not torch.backends.cudnn.allow_tf32, "a GPU would round"
            return images.float().mean((2, 3)) * self.weight

    assert torch.backends.cudnn.allow_tf32, "torch's own setting"
    real = source.pairs.images
    made = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    found = frechet_distance(Means(), real, made, least=30)
    f, g = (np.asarray(x[:]).reshape(len(x), -1, 3).mean(1) for x in (real, made))
    a, b = np.cov(f.T), np.cov(g.T)
    by_hand = ((f.mean(0) - g.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert found["features"] == 3 and found["n_real"] == len(real)
    assert found["distance"] == pytest.approx(by_hand, rel=1e-3) and found["distance"] > 0
    same = frechet_distance(Means(), made, made, least=30)["distance"]
    assert same < 1e-3 * found["distance"]
    with pytest.raises(SettingError, match="at least 1000 each"):
        frechet_distance(Means(), real, made)
