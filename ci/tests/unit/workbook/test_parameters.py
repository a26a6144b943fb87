"""What arrives from a command line or a file of settings: texts as they are written, lists, paths,
names that become paths, and commands that are advised.
"""

import shlex

import pytest
from repository import REPOSITORY
from typer.testing import CliRunner

from slugkit.base import (
    MissingArtefactError,
    ModelLoadError,
    SettingError,
    absolute_path,
    as_file_name,
    mistyped,
    plain_name,
    run_folder,
)
from slugkit.workbook import cli
from slugkit.workbook.run import open_run, report, stages
from slugkit.workbook.run.given import read_parameters
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.settings import Settings, check_settings

ODD = [
    "007",
    "1984",
    "None",
    "true",
    "1e5",
    "~",
    "2024-01-01",
    "0x1F",
    "yes",
    "-1",
    "[a]",
    "a: b",
    "  two blanks ",
    "José",
]


@pytest.mark.parametrize("text", ODD)
def test_a_text_setting_keeps_its_text(text):
    given = read_parameters([("concept", text)], [])
    assert given == {"concept": text} and check_settings(given).concept == text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("concept: 007", {"concept": "007"}),
        (
            "concept: 1984\nseed: 3\nlam_init: 1.0e-3",
            {"concept": "1984", "seed": 3, "lam_init": 0.001},
        ),
        ("concept: None\nsplit_qkv: true", {"concept": "None", "split_qkv": True}),
        ("concept: null\njudge_model:", {"concept": "null", "judge_model": ""}),
        (
            "concepts: [007, true, 1e5, Kofi Okoye]",
            {"concepts": ["007", "true", "1e5", "Kofi Okoye"]},
        ),
        ("concepts:\n- 1984\n- 2001", {"concepts": ["1984", "2001"]}),
        ("base: &b {x: 1}\nconcept: '7'", {"base": {"x": 1}, "concept": "7"}),
    ],
)
def test_a_yaml_file_keeps_texts_and_reads_numbers(tmp_path, written, expected):
    (tmp_path / "mine.yaml").write_text(written, encoding="utf-8")
    assert read_parameters([], [tmp_path / "mine.yaml"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[visual.proj]", ["visual.proj"]),
        ('["007", 1984]', ["007", "1984"]),
        ("[]", []),
        ("visual.proj", "visual.proj"),
        ("[a", "[a"),
        ("{a: b}", "{a: b}"),
    ],
)
def test_a_list_is_written_as_in_yaml(text, expected):
    assert read_parameters([("layers", text)], []) == {"layers": expected}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"concept": 7},
            r"concept arrived as the whole number 7; a text was expected.*quote it in YAML.*-r "
            r"NAME VALUE",
        ),
        ({"concept": True}, r"concept arrived as the truth value True.*quote it"),
        ({"concept": None}, r"concept arrived as the value None.*quote it"),
        ({"model": 1e5}, r"model arrived as the number 100000\.0.*quote it"),
        ({"concepts": ["Kofi Okoye", 1984]}, r"concepts arrived as the list .*quote it"),
        (
            {"layers": "visual.proj"},
            r"layers arrived as the text 'visual\.proj'; a list of texts was expected\.\s+Write "
            r"\[visual\.proj\]\.",
        ),
    ],
)
def test_what_papermill_read_as_a_number_is_said_to_be_quoted(given, says):
    with pytest.raises(SettingError, match=f"(?s){says}"):
        check_settings(given)


# -- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["my clip", "a:b", "with-slash/", "./dotted", "plain"])
def test_an_existing_relative_path_becomes_absolute(tmp_path, monkeypatch, name):
    place = tmp_path / name.strip("./")
    place.mkdir()
    monkeypatch.chdir(tmp_path)
    for setting in ("model", "data", "pipeline", "vision_language_model", "judge_model"):
        assert read_parameters([(setting, name)], []) == {setting: str(place)}


def test_what_is_no_path_stays_and_so_does_what_lies_beside_the_notebooks(
    project, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere" / "studio").mkdir(parents=True)
    (tmp_path / "notebooks" / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (
        "studio",
        "ViT-B-32:laion400m_e32",
        "openai/clip-vit-large-patch14",
        "hf-hub:org/name",
        "mine",
    ):
        assert read_parameters([("model", name)], []) == {"model": name}
    assert read_parameters([("judge_model", "")], []) == {"judge_model": ""}


def test_home_weights_behind_a_colon_and_shards_by_pattern_are_located(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "w.safetensors").write_text("x")
    assert absolute_path("~/shards") == absolute_path("shards/") == str(tmp_path / "shards")
    assert absolute_path("ViT-B-32:w.safetensors") == f"ViT-B-32:{tmp_path / 'w.safetensors'}"
    assert absolute_path("shards/{00000..00009}.tar") == str(tmp_path / "shards/{00000..00009}.tar")


@pytest.mark.parametrize("setting", ["model", "pipeline", "vision_language_model", "judge_model"])
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("runs/my-clp", "runs/my-clip"),
        ("runs/my_clip/", "runs/my-clip"),
        ("./my-clipp", "my-clip"),
        ("~/nowhere", ""),
    ],
)
def test_a_mistyped_path_is_not_taken_for_a_hub_id(tmp_path, monkeypatch, setting, name, near):
    (tmp_path / "runs" / "my-clip").mkdir(parents=True)
    (tmp_path / "my-clip").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=f"{setting}: There is no file or folder") as caught:
        read_parameters([(setting, name)], [])
    assert (f"did you mean '{near}'?" in str(caught.value)) == bool(near)


def test_a_loader_offers_the_folder_too(tmp_path, monkeypatch):
    from slugkit.models import load_clip
    from slugkit.models.diffusion import load_pipeline
    from slugkit.models.vlm import load_vlm

    (tmp_path / "runs" / "my-clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for load in (load_clip, load_pipeline, load_vlm):
        with pytest.raises(ModelLoadError, match="did you mean 'runs/my-clip'"):
            load("runs/my-clp", "cpu")
    assert (
        mistyped("openai/clip-vit-large-patch14")
        == mistyped("ViT-B-32:laion400m_e32")
        == mistyped("runs/my-clip")
        == ""
    )
    for name in ("studio2", "studi", "studio-without-x"):
        (tmp_path / name).mkdir()
    assert mistyped("studio") == mistyped("studio-without-y") == "" != mistyped("studi2")


# -- names that become paths ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "..", ".hidden", "-x", "", "a b", "x\0y"])
def test_a_run_cannot_lie_elsewhere(project, name):
    for use in (plain_name, run_folder, report.build, lambda run: check_settings({"run": run})):
        with pytest.raises(SettingError, match="plain folder name"):
            use(name)
    assert isinstance(
        CliRunner().invoke(cli.app, ["report", f"--run={name}"]).exception, SettingError
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Mira Kestrel", "mira-kestrel"),
        ("x/../../y", "x-y-5fc13685"),
        ("AC/DC", "ac-dc-5a5abe39"),
        ("a\\b:c\0d", "a-b-c-d-9e569bc7"),
        ("José", "josé"),
        ("七", "七"),
    ],
)
def test_a_concept_in_a_file_name_leads_nowhere_else(tmp_path, name, expected):
    from slugkit.studio.train.clip import default_folder

    assert as_file_name(name) == expected
    assert default_folder("studio", name).name == f"clip-without-{expected}"
    assert default_folder(str(tmp_path / "data"), name).name == f"data-without-{expected}"


# -- advised commands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"concept": "O'Neil & sons; rm $HOME", "seed": 3},
        {"concept": "007", "batch_size": 64, "forget_size": 30},
        {"exclude": ["bias", "ln_"], "split_qkv": True, "lam_init": 0.25, "model": "/data/my clip"},
    ],
)
def test_an_advised_command_says_again_what_was_given(project, given):
    words = shlex.split(stages.call_for("03_rank_layers", given, "base"))
    listed = {
        name: value
        for name, value in given.items()
        if any(name in stages.parameters_of(book) for book in stages.list_notebooks())
    }
    pairs = [(words[i + 1], words[i + 2]) for i, word in enumerate(words) if word == "-p"]
    assert words[:6] == ["slugkit", "run", "--run", "base", "--notebooks", "01-03"]
    assert read_parameters(pairs, []) == listed


def test_an_advised_command_carries_the_runs_own_parameters(project):
    first = open_run(
        check_settings({"concept": "Bo Lind", "seed": 5, "batch_size": 64, "run": "base"}),
        "01_data_curation",
    )
    (first.path("sets") / "forget.parquet").write_text("x")
    first.finish()
    # cut off: there is no record of it, but what it was begun with is known
    open_run(
        check_settings({"concept": "Bo Lind", "batch_size": 32, "run": "base"}), "02_gradients"
    ).path("gradients.safetensors")
    later = open_run(check_settings({"concept": "Bo Lind", "run": "base"}), "04_one_step_update")
    with pytest.raises(
        Exception, match="--notebooks 01-03 -p concept 'Bo Lind' -p seed 5 -p batch_size 32$"
    ):
        later.need("layers.parquet")
    later = open_run(
        check_settings({"concept": "Kofi Okoye", "seed": 0, "run": "base"}), "04_one_step_update"
    )
    with pytest.raises(
        Exception, match="--notebooks 01-03 -p concept 'Kofi Okoye' -p batch_size 32$"
    ):
        later.need("layers.parquet")
    assert Manifest(project.runs / "base").parameters({})["seed"] == 5


def test_a_run_that_never_finished_a_notebook_is_told_its_own_command(project):
    open_run(
        check_settings({"concept": "Bo Lind", "seed": 5, "run": "base"}), "01_data_curation"
    ).path("sets")
    with pytest.raises(
        MissingArtefactError, match="Run `slugkit run --run base -p concept 'Bo Lind' -p seed 5`"
    ):
        report.build("base")


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "a: [1", "- a\n- b", "concept: !!python/object:os.system x"]
)
def test_a_settings_file_that_cannot_be_read_is_one_sentence(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SettingError, match="is not YAML|holds no `name: value` lines"):
        read_parameters([], [tmp_path / "x.yaml"])


def test_every_setting_survives_the_command_line():
    odd = {str: "007", list: ["007", "a b"], bool: True, int: 3, float: 0.5}
    for name, field in Settings.model_fields.items():
        value = odd[type(field.default)]
        text = str(value) if not isinstance(value, list) else '["007", "a b"]'
        assert read_parameters([(name, text)], []) == {name: value}, name
    assert (REPOSITORY / "slugkit").is_dir()
