"""A pipeline or a LLaVA of another CLIP is refused before the notebooks that come before it have
run.
"""

import shutil

import pytest
import torch
from random_models import pipeline_of, vlm_of, write_clip
from safetensors.torch import load_file, save_file

from slugkit.base import SettingError, data_dir
from slugkit.models import load_clip
from slugkit.models.convert import to_transformers, vision_tower
from slugkit.workbook.run import run_series
from slugkit.workbook.run.partners import PARTNERS, require_partners

pytestmark = pytest.mark.slow


def plan(**settings):
    """A plan of 05, 06 and 07 with these settings."""
    own = {"model": "studio", "pipeline": "studio", "vision_language_model": "studio", **settings}
    return {
        "05_evaluate_clip": own,
        **{
            name: {key: own[key] for key in ("model", setting)}
            for name, (setting, _) in PARTNERS.items()
        },
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A foreign CLIP in open_clip's and in transformers' form, its own pipeline and LLaVA, and the
    studio's CLIP elsewhere.
    """
    root = tmp_path_factory.mktemp("pairs")
    write_clip("ViT-B-32", root / "clip", small=("vision", "text"))
    net = load_clip(str(root / "clip"), "cpu").model
    to_transformers(net).save_pretrained(root / "hf")
    pipeline_of("sd15", [net], reduced=True).save_pretrained(root / "pipe")
    for part in vlm_of("llava15", vision_tower(net), reduced=True):
        part.save_pretrained(root / "vlm")
    shutil.copytree(data_dir() / "studio" / "clip", root / "copy")
    return root


def test_the_pair_that_belongs_together_passes(places):
    own = dict(pipeline=str(places / "pipe"), vision_language_model=str(places / "vlm"))
    for model in ("clip", "hf"):
        require_partners(plan(model=str(places / model), **own))
    require_partners(
        plan(model=f"ViT-B-32:{places / 'clip' / 'open_clip_model.safetensors'}", **own)
    )
    require_partners(plan(model=str(places / "copy")))
    assert (
        require_partners(plan()) is None
        and require_partners(
            plan(model="ViT-B-32:openai", pipeline="org/name", vision_language_model="org/name")
        )
        is None
    )


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_other_tower(places, tmp_path, half):
    shutil.copytree(places / "pipe", tmp_path / "pipe")
    file = tmp_path / "pipe" / "text_encoder" / "model.safetensors"
    save_file({name: t.to(half) for name, t in load_file(file).items()}, file)
    assert (
        require_partners(
            {
                "06_evaluate_stable_diffusion": {
                    "model": str(places / "clip"),
                    "pipeline": str(tmp_path / "pipe"),
                }
            }
        )
        is None
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"model": "clip"},
            (
                "Notebook 06 needs a pipeline .* that of pipeline 'studio' is not .*: "
                "token_embedding.weight has the shape .*--notebooks 05,07"
            ),
        ),
        ({"pipeline": "pipe"}, "Notebook 06 needs a pipeline .* is not that of model 'studio'"),
        (
            {"model": "hf", "pipeline": "pipe"},
            "Notebook 07 needs a vision_language_model .* 'studio' .*--notebooks 05,06",
        ),
        (
            {"vision_language_model": "vlm"},
            "Notebook 07 needs a vision_language_model .* is not that of model 'studio'",
        ),
    ],
)
def test_another_pair_is_refused(places, settings, says):
    with pytest.raises(SettingError, match=says):
        require_partners(plan(**{name: str(places / value) for name, value in settings.items()}))


def test_the_same_sizes_trained_otherwise_are_told_apart(places, tmp_path):
    with pytest.raises(SettingError, match="Notebook 06 .*token_embedding.weight has other values"):
        require_partners(plan(model=str(data_dir() / "studio" / "clip-without-mira-kestrel")))
    write_clip("ViT-B-32", tmp_path / "again", seed=1, small=("vision", "text"))
    with pytest.raises(SettingError, match="visual.conv1.weight has other values"):
        require_partners(
            {
                "07_evaluate_vision_language": {
                    "model": str(tmp_path / "again"),
                    "vision_language_model": str(places / "vlm"),
                }
            }
        )


def test_a_series_says_so_before_its_first_notebook(places, monkeypatch, tmp_path):
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "runs"))
    with pytest.raises(SettingError, match="Notebook 06 needs .*Nothing was run"):
        run_series(
            "other", "01-06", {"model": str(places / "clip")}, echo=lambda line: pytest.fail(line)
        )
    assert not (tmp_path / "runs").exists()
