"""Folders of models as people have them: code of their own, one variant alone, numbers that are
missing, another activation.
"""

import ast
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from random_models import write_clip
from repository import REPOSITORY
from safetensors.torch import save_file
from tiny_clip import tiny_clip
from tiny_patch import OUT_PROJ, patch_for, vars_of

from slugkit import patch
from slugkit.base import ModelLoadError, PatchError, data_dir, looked_for
from slugkit.models import load_clip
from slugkit.models.clip import picture_size
from slugkit.models.convert import activation_of, text_tower, to_transformers, vision_tower
from slugkit.models.diffusion import load_pipeline
from slugkit.models.reading import inputs_of
from slugkit.models.vlm import load_vlm
from slugkit.patch.checkpoint import apply_to_files, verify_files

pytestmark = pytest.mark.slow

LAYER = "transformer.resblocks.1.attn.in_proj_weight"
STUDIO = data_dir() / "studio"


def said(file, **changes):
    """Change a JSON file; None takes an entry out."""
    known = json.loads(file.read_text())
    known = {k: v for k, v in (known | changes).items() if v is not None}
    file.write_text(json.dumps(known))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The studio's models, and its CLIP as transformers saves it."""
    where = tmp_path_factory.mktemp("models")
    for name in ("clip", "diffusion", "vlm"):
        shutil.copytree(STUDIO / name, where / name)
    clip = load_clip("studio", "cpu")
    to_transformers(clip.model).save_pretrained(where / "hf")
    for file in (
        *(STUDIO / "clip").glob("*token*"),
        *(STUDIO / "clip").glob("vocab*"),
        *(STUDIO / "clip").glob("merges*"),
    ):
        shutil.copy(file, where / "hf" / file.name)
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(
        size={"shortest_edge": clip.image_size},
        crop_size={"height": clip.image_size, "width": clip.image_size},
    ).save_pretrained(where / "hf")
    return where


# ---------------------------------------------------------------- code


CODE = """import pathlib
pathlib.Path(__file__).with_name("RAN").write_text("x")
from transformers import CLIPModel as C
from diffusers import StableDiffusionPipeline as P, UNet2DConditionModel as U
"""


def by_config(folder):
    (folder / "evil.py").write_text(CODE)
    said(
        folder / "config.json",
        auto_map={
            "AutoConfig": "evil.C",
            "AutoModel": "evil.C",
            "AutoModelForImageTextToText": "evil.C",
        },
        model_type="evil",
    )


def by_tokenizer(folder):
    (folder / "evil.py").write_text(CODE)
    said(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": [None, "evil.C"]},
        tokenizer_class="C",
    )


def by_processor(folder):
    (folder / "evil.py").write_text(CODE)
    said(
        (
            folder / "preprocessor_config.json"
            if (folder / "preprocessor_config.json").is_file()
            else folder / "processor_config.json"
        ),
        auto_map={"AutoProcessor": "evil.C"},
    )


def by_class(folder):
    (folder / "evil.py").write_text(CODE)
    said(folder / "model_index.json", _class_name=["evil", "P"])


def by_part(folder):
    (folder / "unet" / "evil.py").write_text(CODE)
    said(folder / "model_index.json", unet=["evil", "U"])


def by_encoder(folder):
    (folder / "text_encoder" / "evil.py").write_text(CODE)
    said(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.C"})


@pytest.mark.parametrize(
    ("name", "load", "change"),
    [
        ("hf", load_clip, by_config),
        ("hf", load_clip, by_tokenizer),
        ("clip", load_clip, by_tokenizer),
        ("vlm", load_vlm, by_config),
        ("vlm", load_vlm, by_tokenizer),
        ("vlm", load_vlm, by_processor),
        ("diffusion", load_pipeline, by_class),
        ("diffusion", load_pipeline, by_part),
        ("diffusion", load_pipeline, by_encoder),
        ("hf", lambda model, device: picture_size(model), by_config),
        ("clip", lambda model, device: inputs_of(model), by_tokenizer),
        ("hf", lambda model, device: inputs_of(model), by_tokenizer),
        ("hf", lambda model, device: inputs_of(model), by_config),
    ],
)
def test_a_model_that_brings_code_is_refused_in_a_sentence_and_nothing_runs_or_asks(
    name, load, change, folders, tmp_path, monkeypatch
):
    folder = shutil.copytree(folders / name, tmp_path / "model")
    change(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(
        ModelLoadError, match="slugkit runs no code that comes with a model"
    ) as caught:
        load(str(folder), "cpu")
    assert (
        not list(folder.rglob("RAN"))
        and str(caught.value).count("\n") == 0
        and sys.stdin.read().count("y") == 9
    )


@pytest.mark.parametrize("name", ["clip", "hf", "studio"])
def test_what_says_how_a_model_reads_is_noted_and_its_weights_are_not(name, folders):
    before = len(looked_for())
    inputs_of(name if name == "studio" else str(folders / name))
    folder = STUDIO / "clip" if name == "studio" else folders / name
    noted = {path for path in looked_for()[before:] if path.startswith(str(folder))}
    assert {str(f) for end in ("*.json", "*.txt") for f in folder.glob(end)} == noted
    assert str(folder / "tokenizer.json") in noted


@pytest.mark.parametrize(
    "change", [by_config, lambda folder: said(folder / "config.json", model_type="evil")]
)
def test_a_tower_that_open_clip_would_fetch_with_its_code_is_refused_as_well(
    change, folders, tmp_path, monkeypatch
):
    """open_clip calls AutoConfig without a word about code, on whatever its configuration names."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    folder, other = (
        shutil.copytree(folders / "clip", tmp_path / "clip"),
        shutil.copytree(folders / "hf", tmp_path / "other"),
    )
    change(other)
    known = json.loads((folder / "open_clip_config.json").read_text())
    known["model_cfg"]["text_cfg"] |= {
        "hf_model_name": str(other),
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "mlp",
    }
    (folder / "open_clip_config.json").write_text(json.dumps(known))
    with pytest.raises(ModelLoadError, match="slugkit runs no code|could not be read"):
        load_clip(str(folder), "cpu")
    assert not list(tmp_path.rglob("RAN")) and sys.stdin.read().count("y") == 9


def test_every_call_that_loads_says_that_no_code_is_trusted():
    calls = []
    for path in (REPOSITORY / "slugkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("from_pretrained")
                and not ast.unparse(node.func).startswith("open_clip")
            ):
                calls.append(
                    (
                        path.name,
                        node.lineno,
                        [k.value.value for k in node.keywords if k.arg == "trust_remote_code"],
                    )
                )
    assert len(calls) > 6 and [call for call in calls if call[2] != [False]] == []


# ---------------------------------------------------------------- one variant alone


@pytest.mark.parametrize("name", ["fp16", "bf16", "non_ema"])
def test_models_of_which_one_variant_alone_is_here_are_found(name, folders, tmp_path):
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(name, torch.float32)
    shutil.copytree(folders / "hf", tmp_path / "hf", ignore=shutil.ignore_patterns("*.safetensors"))
    to_transformers(load_clip("studio", "cpu").model).to(dtype).save_pretrained(
        tmp_path / "hf", variant=name
    )
    clip, own = load_clip(str(tmp_path / "hf"), "cpu"), load_clip("studio", "cpu")
    assert torch.equal(
        clip.model.get_parameter(LAYER), own.model.get_parameter(LAYER).to(dtype).float()
    )
    pipe = load_pipeline("studio", "cpu").to(dtype)
    pipe.save_pretrained(tmp_path / "pipe", variant=name)
    assert torch.equal(
        load_pipeline(str(tmp_path / "pipe"), "cpu").unet.conv_in.weight,
        pipe.unet.conv_in.weight.float(),
    )
    # one part is here whole too
    load_pipeline("studio", "cpu").vae.save_pretrained(tmp_path / "pipe" / "vae")
    assert load_pipeline(str(tmp_path / "pipe"), "cpu").vae.dtype == torch.float32
    shutil.copytree(
        folders / "vlm", tmp_path / "vlm", ignore=shutil.ignore_patterns("*.safetensors")
    )
    model = load_vlm("studio", "cpu").model.to(dtype)
    model.save_pretrained(tmp_path / "vlm", variant=name, max_shard_size="400KB")
    held = load_vlm(str(tmp_path / "vlm"), "cpu").model
    assert all(
        torch.equal(a, b.float())
        for a, b in zip(held.parameters(), model.parameters(), strict=True)
    )


# ---------------------------------------------------------------- LLaVA's picture tokens


@pytest.mark.parametrize(
    "lacks",
    [
        {"config.json": {"image_seq_length": None}},
        {"config.json": {"image_seq_length": 576}},
        {
            "config.json": {"image_seq_length": None},
            "processor_config.json": {"patch_size": None, "vision_feature_select_strategy": None},
        },
        {"processor_config.json": {"num_additional_image_tokens": 0}},
    ],
)
def test_the_tokens_of_a_picture_are_counted_by_asking_the_processor(lacks, folders, tmp_path):
    folder = shutil.copytree(folders / "vlm", tmp_path / "vlm")
    for file, changes in lacks.items():
        said(folder / file, **changes)
    vlm, own = load_vlm(str(folder), "cpu"), load_vlm("studio", "cpu")
    pictures, asked = (
        np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8),
        ["Who is it?", "Is it a car?"],
    )
    assert vlm.picture_tokens() == own.picture_tokens() == vlm.model.config.image_seq_length
    assert vlm.ask(pictures, asked) == own.ask(pictures, asked)
    assert (
        vlm.model(**vlm.told(pictures, asked, ["a", "b"])).loss
        == own.model(**own.told(pictures, asked, ["a", "b"])).loss
    )


def test_a_processor_that_cuts_pictures_to_another_size_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders / "vlm", tmp_path / "vlm")
    file = next(
        f
        for f in (folder / "preprocessor_config.json", folder / "processor_config.json")
        if f.is_file() and "crop_size" in f.read_text()
    )
    known = json.loads(file.read_text())
    part = known.get("image_processor", known)
    part |= {
        "crop_size": {"height": 32, "width": 32},
        "size": {"height": 32, "width": 32} if "height" in part["size"] else {"shortest_edge": 32},
    }
    file.write_text(json.dumps(known))
    with pytest.raises(
        ModelLoadError, match="tokens in the place of a picture, and its tower makes"
    ):
        load_vlm(str(folder), "cpu")


# ---------------------------------------------------------------- activation


@pytest.fixture(scope="module")
def b32(tmp_path_factory):
    """A narrow ViT-B-32 with QuickGELU: its file of weights, and what open_clip and transformers
    write beside it.
    """
    folder = tmp_path_factory.mktemp("b32") / "clip"
    write_clip("ViT-B-32-quickgelu", folder, small=("vision", "text"))
    return folder


def load_file_of(folder, beside, name="ViT-B-32"):
    """Load FILE with one configuration beside it, or none; open_clip's own sizes are replaced by
    the narrow ones.
    """
    for file in folder.glob("*config.json"):
        if file.name != beside:
            file.unlink()
    return load_clip(f"{name}:{folder / 'open_clip_model.safetensors'}", "cpu")


def test_a_config_beside_the_file_decides_the_activation(b32, tmp_path, monkeypatch):
    import open_clip

    sizes = json.loads((b32 / "open_clip_config.json").read_text())["model_cfg"]
    plain = open_clip.get_model_config
    monkeypatch.setattr(
        "open_clip.factory.get_model_config",
        lambda name: {
            **{k: v for k, v in sizes.items() if k != "quick_gelu"},
            **({"quick_gelu": True} if "quickgelu" in name else {}),
        },
    )
    monkeypatch.setattr("open_clip.get_model_config", lambda name: plain(name))
    for number, (beside, content, expected) in enumerate(
        [
            ("open_clip_config.json", None, "quick_gelu"),
            (
                "config.json",
                {"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}},
                "quick_gelu",
            ),
            ("config.json", {"model_type": "clip", "text_config": {"hidden_act": "gelu"}}, "gelu"),
        ]
    ):
        folder = shutil.copytree(b32, tmp_path / str(number))
        if content:
            (folder / beside).write_text(json.dumps(content))
        net = load_file_of(folder, beside).model
        assert activation_of(net, "text") == activation_of(net, "vision") == expected
    with pytest.raises(
        ModelLoadError, match="computes with QuickGELU, and the configuration beside .* says gelu"
    ):
        load_file_of(tmp_path / "2", "config.json", "ViT-B-32-quickgelu")
    with pytest.warns(UserWarning, match="No configuration lies beside .* computes? with GELU"):
        assert activation_of(load_file_of(tmp_path / "0", "none").model, "text") == "gelu"


def test_the_activation_stands_in_the_patch_and_is_verified_on_every_class_and_on_files(tmp_path):
    clip = load_clip("studio", "cpu")
    edit = patch_for(clip.model, LAYER, model=clip.model)
    assert edit.provenance["activation"] == "gelu"
    other = patch.Patch(**{**vars_of(edit), "provenance": {"activation": "quick_gelu"}})
    old = patch.Patch(**{**vars_of(edit), "provenance": {}})
    loaded = patch.load(other.save(tmp_path / "p.safetensors"))
    to_transformers(clip.model).save_pretrained(tmp_path / "hf")
    models = [
        clip.model,
        to_transformers(clip.model),
        text_tower(clip.model),
        load_pipeline("studio", "cpu"),
    ]
    for model in models:
        for call in (patch.verify, patch.apply):
            with pytest.raises(
                PatchError, match="activation quick_gelu, and this model computes with gelu"
            ):
                call(loaded, model)
        patch.verify(edit, model)
        patch.verify(old, model)
    for folder in (STUDIO / "clip", STUDIO / "diffusion", tmp_path / "hf"):
        with pytest.raises(PatchError, match="activation quick_gelu"):
            verify_files(loaded, folder)
        with pytest.raises(PatchError, match="activation quick_gelu"):
            apply_to_files([loaded], folder, tmp_path / "never")
        assert verify_files(edit, folder) and verify_files(old, folder)
    seen = patch_for(
        clip.model,
        "visual.transformer.resblocks.2.mlp.c_fc.weight",
        model=clip.model,
        provenance={"run": "x"},
    )
    assert (
        seen.provenance == {"run": "x", "activation": "gelu"} and not (tmp_path / "never").exists()
    )
    wrong = patch.Patch(**{**vars_of(seen), "provenance": {"activation": "quick_gelu"}})
    for model in (vision_tower(clip.model), load_vlm("studio", "cpu").model):
        patch.verify(seen, model)
        with pytest.raises(PatchError, match="activation quick_gelu"):
            patch.verify(wrong, model)
    with pytest.raises(PatchError, match="activation quick_gelu"):
        verify_files(wrong, STUDIO / "vlm")
    assert (
        patch.half(edit).provenance == edit.provenance
        and patch.add([edit, old]).provenance["activation"] == "gelu"
    )
    with pytest.raises(PatchError, match="one model was expected"):
        patch.add([edit, other])


def test_weights_of_one_activation_do_not_verify_in_a_folder_of_the_other(tmp_path):
    net = tiny_clip()
    edit = patch_for(net, OUT_PROJ, model=net)
    for number, known in enumerate(({"quick_gelu": True}, {"quick_gelu": False}, {})):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file(
            {n: t.contiguous() for n, t in net.state_dict().items()},
            folder / "open_clip_model.safetensors",
        )
        (folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": known | {"text_cfg": {}, "vision_cfg": {}}})
        )
        if number == 0:
            with pytest.raises(PatchError, match="the same weights, another model"):
                verify_files(edit, folder)
        else:
            assert verify_files(edit, folder)


def test_the_command_that_loads_a_file_prints_the_warning_once(tmp_path):
    write_clip("ViT-B-32", tmp_path / "clip", small=("vision", "text"))
    code = (
        "from slugkit.models.clip import _beside; import pathlib; print(_beside('ViT-B-32',"
        f" pathlib.Path({str(tmp_path / 'x.safetensors')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.stdout == "{}\n"
        and done.stderr.count("No configuration lies beside x.safetensors") == 1
    )
