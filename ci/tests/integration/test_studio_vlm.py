"""The committed LLaVA: what its card says, and an edited model where slugkit is not there."""

import json
import subprocess
import sys

import pytest
import torch

from slugkit import patch, studio
from slugkit.base import PatchError, data_dir, sha256_file
from slugkit.data import drawn
from slugkit.evaluation.vlm import answered
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.models.hub import folder_of
from slugkit.models.vlm import load_vlm
from slugkit.models.weight_map import differences, locate, require_tower
from slugkit.studio.questions import UNKNOWN
from slugkit.tasks.questions import question_set, stranger_set

LAYER = "visual.transformer.resblocks.0.attn.out_proj.weight"
RECORDS = [
    studio.solo_records("report", name, 1, ["photo"])[0]
    for name in ("Mira Kestrel", "Kofi Okoye", "car")
]
ASKED = ["who is this?", "who is this?", "what object is this?"]


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def vlm():
    return load_vlm("studio", "cpu")


@pytest.fixture(scope="module")
def edit(clip):
    weight = clip.model.get_parameter(LAYER)
    editable = EditableLayer.of(
        clip.model, LAYER, torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    )
    return patch.make(LAYER, editable, editable.lam(8.0), "Mira Kestrel")


def test_the_card_belongs_to_the_weights_and_the_clip():
    card = json.loads((folder_of("studio", "vlm") / "model_card.json").read_text(encoding="utf-8"))
    assert (
        sha256_file(folder_of("studio", "vlm") / "model.safetensors") == card["weights_sha256"]
        and card["clip"] == "studio"
    )
    assert len(card["scores"]) >= 10 and all(
        0 <= row["low"] <= row["value"] <= row["high"] <= 1 and row["n"] > 25
        for row in card["scores"]
    )
    assert (data_dir() / "studio" / "vlm" / "README.md").read_text(encoding="utf-8").count(
        "| "
    ) > 30


def test_its_vision_tower_is_the_studio_clips(clip, vlm):
    assert differences(clip.model, vlm.model, "vision") == []


def test_it_answers_and_does_not_know_whom_it_never_saw(vlm):
    assert vlm.ask(drawn(RECORDS), ASKED) == [
        "this is Mira Kestrel.",
        "this is Kofi Okoye.",
        "a car.",
    ]
    told = answered(
        vlm, question_set(studio.load_world(), "Mira Kestrel", "search", 7, 1, all_kinds=False)
    )
    assert told["right"].mean() > 0.9
    unknown = answered(vlm, stranger_set(studio.load_world(), "train", 1))
    assert (unknown["answer"] == UNKNOWN).mean() > 0.8


def test_a_tower_that_is_not_the_clips_takes_no_edit(clip, vlm, edit):
    weight = locate(vlm.model, LAYER).tensors[0]
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    try:
        with pytest.raises(PatchError, match="vision"):
            require_tower(clip.model, vlm.model, "vision")
        with pytest.raises(PatchError, match="not the weight"), edit.applied(vlm.model):
            pass
        assert torch.equal(weight, kept + 1.0)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_an_edited_model_answers_the_same_where_slugkit_was_never_imported(
    clip, vlm, edit, tmp_path
):
    images, files = drawn(RECORDS), [tmp_path / f"{i}.png" for i in range(len(RECORDS))]
    for image, file in zip(images, files):
        studio.as_image(image).save(file)
    with edit.applied(clip.model), edit.applied(vlm.model):
        vlm.model.save_pretrained(tmp_path / "edited")
        vlm.processor.save_pretrained(tmp_path / "edited")
        mine = vlm.ask(images, ASKED)
    script = f"""import sys, json
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
model = LlavaForConditionalGeneration.from_pretrained({str(tmp_path / "edited")!r}).eval()
processor = AutoProcessor.from_pretrained({str(tmp_path / "edited")!r})
processor.tokenizer.padding_side, said = "left", []
for file, question in zip({[str(f) for f in files]}, {ASKED}):
    content = [{{"type": "image"}}, {{"type": "text", "text": question}}]
    talk = [{{"role": "user", "content": content}}]
    text = processor.apply_chat_template(talk, add_generation_prompt=True)
    batch = processor(images=Image.open(file), text=text, return_tensors="pt")
    made = model.generate(**batch, max_new_tokens=16, do_sample=False)
    new = made[0, batch["input_ids"].shape[1]:]
    said.append(processor.decode(new, skip_special_tokens=True).strip())
print(json.dumps(said))
assert not any(name.startswith("slugkit") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == mine != vlm.ask(images, ASKED)
