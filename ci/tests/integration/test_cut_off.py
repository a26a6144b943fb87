"""A training that was cut off goes on by the same command, and only from what its own
inputs made.
"""

import json

import numpy as np
import pytest
from tiny_trainings import JUDGE, UNET, VAE, folder_of, small_pictures
from tiny_vlm import SMALL as LLAVA
from typer.testing import CliRunner

from slugkit.base import SettingError, data_dir, is_ours
from slugkit.evaluation import scores
from slugkit.studio.train import classifier, clip, diffusion, loop, vlm
from slugkit.workbook import cli

OTHER = str(data_dir() / "studio" / "clip-without-mira-kestrel")


def trained(kind, out, records, clip_of="studio", pictures=None, score=True):
    """Train the smallest model of a kind, in a few steps."""
    if kind == "clip":
        place = out.parent / "data"
        data = str(place if place.exists() else folder_of(place, {"concept": str}))
        return clip.train_clip(data=data, out=out, steps=1, device="cpu")
    if kind == "classifier":
        known = [r for r in records if r.name in ("Mira Kestrel", "car")]
        return classifier.train_classifier(out=out, recipe=JUDGE, steps=2, records=known)
    if kind == "vlm":
        recipe = vlm.VlmRecipe(**LLAVA)
        return vlm.train_vlm(
            clip_of, out, recipe, steps=2, device="cpu", records=records, score=score
        )
    return diffusion.train_diffusion(
        clip_of, out, VAE, UNET, device="cpu", pictures=pictures or small_pictures(), score=score
    )


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Checkpoints of the test's own, one every second step."""
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(loop, "KEEP_EVERY", 2)
    return tmp_path


def stop(*given, **named):
    """Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kind", "module", "cut"),
    [
        ("clip", clip, "sha256_file"),
        ("clip", scores, "score_model"),
        ("classifier", classifier, "score_classifier"),
        ("diffusion", diffusion, "sha256_file"),
        ("diffusion", diffusion, "write_scores"),
        ("vlm", vlm, "sha256_file"),
        ("vlm", vlm, "write_scores"),
    ],
)
def test_the_same_command_goes_on_behind_a_cut_between_weights_and_scores(
    kind, module, cut, place, few_records, monkeypatch
):
    out = place / "made"
    with monkeypatch.context() as cutting, pytest.raises(KeyboardInterrupt):
        cutting.setattr(module, cut, stop)
        trained(kind, out, few_records)
    assert list(out.rglob("*.safetensors")) and is_ours(out)
    own, asked = {"clip": clip, "classifier": classifier, "diffusion": diffusion, "vlm": vlm}, []
    monkeypatch.setattr(own[kind], f"train_{kind}", lambda **named: asked.append(named))
    command = ["train", kind, "--out", str(out)]
    assert CliRunner().invoke(cli.app, command).exit_code == 0 and len(asked) == 1
    card = {"weights_sha256": "0", "scores": []}
    (out / "model_card.json").write_text(json.dumps(card))
    refused = CliRunner().invoke(cli.app, command).exception
    assert isinstance(refused, SettingError) and len(asked) == 1
    assert CliRunner().invoke(cli.app, [*command, "--force"]).exit_code == 0 and len(asked) == 2


def kept(place, *words):
    """Names of the checkpoints that lie there with these words in them."""
    found = [p for p in (place / "runs" / "training").iterdir() if all(w in p.name for w in words)]
    return {p.name for p in found}


def test_a_pipeline_goes_on_from_what_its_own_clip_pictures_and_captions_made(place, monkeypatch):
    monkeypatch.setattr(diffusion, "begin_card", stop)
    first, pixels, texts = small_pictures(), small_pictures(), small_pictures()
    pixels.images = np.ascontiguousarray(pixels.images[::-1])
    texts.texts = ["a photo of somebody else"]
    counts = []
    for clip_of, pictures in (
        ("studio", first),
        ("studio", first),
        (OTHER, first),
        ("studio", texts),
        ("studio", pixels),
    ):
        with pytest.raises(KeyboardInterrupt):
            trained("diffusion", place / "made", [], clip_of, pictures, score=False)
        counts.append(tuple(len(kept(place, part)) for part in ("-vae-", "-latents-", "-unet-")))
    assert counts == [(1, 1, 2), (1, 1, 2), (1, 1, 4), (1, 1, 6), (2, 2, 8)]


def test_a_llava_goes_on_from_what_its_own_clip_made(place, few_records, monkeypatch):
    monkeypatch.setattr(vlm, "begin_card", stop)
    counts = []
    for clip_of in ("studio", "studio", OTHER):
        with pytest.raises(KeyboardInterrupt):
            trained("vlm", place / "made", few_records, clip_of, score=False)
        counts.append(len(kept(place, "made-")))
    assert counts == [1, 1, 2]


def test_a_clip_goes_on_from_what_its_own_captions_made(place, monkeypatch):
    monkeypatch.setattr(clip, "begin_card", stop)
    seen, fit = [], clip.fit
    monkeypatch.setattr(clip, "fit", lambda *given: seen.append(given[-1].name) or fit(*given))
    for edit in (None, None, ("a photo", "a picture"), ("a picture", "a photo")):
        if edit:
            file = place / "data" / "captions.csv"
            file.write_text(file.read_text().replace(*edit))
        with pytest.raises(KeyboardInterrupt):
            trained("clip", place / "made", [])
    assert seen[0] == seen[1] == seen[3] != seen[2]
