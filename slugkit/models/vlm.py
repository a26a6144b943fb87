"""LLaVA behind one small interface: pictures and questions in, answers out. Its vision tower is a CLIP's, weight by weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from slugkit.base import ModelLoadError, UnreadableImagesError, data_dir, progress
from slugkit.models import convert
from slugkit.models.clip import Clip, pick_device
from slugkit.models.hub import need_repository, no_loading_bars

FEATURE_LAYER = -2
"""The vision layer that LLaVA-1.5 reads: the second to last, so the last block cannot act."""


def vision_tower(clip: Clip):
    """The CLIP's vision tower in transformers' CLIPVisionModel, float32, without the projection, which LLaVA does not use.

    Raises PatchError where a weight has no place in that class, ModelLoadError for an architecture that it cannot hold.
    """
    return convert.vision_tower(clip.model)


def conversation(processor, question: str, answer: str) -> tuple[str, str]:
    """The prompt about one picture up to the answer, as the model's chat template writes it, and the answer with its end token."""
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    return processor.apply_chat_template(said, add_generation_prompt=True), f" {answer}{processor.tokenizer.eos_token}"


def as_batch(tokenizer, image_token: int, patches: int, talks: list[tuple[str, str]], device) -> dict[str, torch.Tensor]:
    """Conversations as input_ids, attention_mask and labels (N, L) int64, padded on the left; labels are -100 but for the answers."""
    rows = []
    for prompt, answer in talks:
        before, after = prompt.split("<image>")
        asked = [*tokenizer(before, add_special_tokens=False).input_ids, *[image_token] * patches, *tokenizer(after, add_special_tokens=False).input_ids]
        told = tokenizer(answer, add_special_tokens=False).input_ids
        rows.append((asked + told, [-100] * len(asked) + told))
    length = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(i)) + i for i, _ in rows], device=device)
    labels = torch.tensor([[-100] * (length - len(y)) + y for _, y in rows], device=device)
    mask = torch.tensor([[0] * (length - len(i)) + [1] * len(i) for i, _ in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def opened(images) -> list:
    """Pictures as a processor takes them. images: (N, H, W, 3) uint8, or a list of arrays, Pillow images and paths.

    Raises UnreadableImagesError, naming the file, for one that cannot be read; ModelLoadError where there is no picture.
    """
    found = []
    for number, image in enumerate(images):
        if isinstance(image, (str, Path)):
            try:
                with Image.open(image) as file:
                    image = file.convert("RGB")
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise UnreadableImagesError(f"The picture {str(image)!r} cannot be read: {error}. A PNG, JPEG or another format that Pillow opens was "
                                            "expected. Nothing was asked.") from error
        if not isinstance(image, (np.ndarray, Image.Image)):
            raise ModelLoadError(f"Question {number} came with {type(image).__name__} in the place of its picture; an array, a Pillow image or a path "
                                 "was expected. The model answers questions about pictures alone.")
        found.append(image)
    return found


def hidden_states(model, batch: dict[str, torch.Tensor], features: list[torch.Tensor]) -> torch.Tensor:
    """The language model's last hidden states, (N, L, width). features: of each picture what it reads, after the projector: (patches, width).

    batch: as `Vlm.scripted` gives it.
    """
    seen = BaseModelOutputWithPooling(pooler_output=list(features))
    return model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], mm_encoder_outputs={"image": seen}).last_hidden_state


@dataclass
class Vlm:
    """A loaded LLaVA with its processor. source: where it came from, for tables."""

    model: torch.nn.Module
    processor: object
    source: str

    def prompt(self, question: str) -> str:
        """The question as the model's chat template writes it, with one picture."""
        return conversation(self.processor, question, "")[0]

    def scripted(self, questions: list[str], answers: list[str]) -> dict[str, torch.Tensor]:
        """The conversations with these answers as one batch without its pictures: input_ids, attention_mask, labels."""
        talks = [conversation(self.processor, q, a) for q, a in zip(questions, answers, strict=True)]
        return as_batch(self.processor.tokenizer, self.model.config.image_token_id, self.model.config.image_seq_length, talks, next(self.model.parameters()).device)

    def told(self, images: np.ndarray, questions: list[str], answers: list[str]) -> dict[str, torch.Tensor]:
        """The conversations with these answers as one batch for the model: pixel_values, input_ids, attention_mask, labels.

        images: (N, H, W, 3) uint8. Raises ModelLoadError for lists of different lengths.
        """
        if not len(images) == len(questions) == len(answers):
            raise ModelLoadError(f"{len(images)} pictures, {len(questions)} questions and {len(answers)} answers were given; one of each was expected.")
        batch = self.scripted(questions, answers)
        pixels = self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        return {**batch, "pixel_values": pixels.to(batch["input_ids"].device, self.model.dtype)}

    @torch.no_grad()
    def ask(self, images, questions: list[str], max_new_tokens: int = 16, batch_size: int = 64) -> list[str]:
        """Greedy answers. images: one for each question, as `opened` takes them. Raises ModelLoadError for another number of them, UnreadableImagesError."""
        if len(images) != len(questions):
            raise ModelLoadError(f"{len(questions)} questions came with {len(images)} pictures; one picture for each question was expected.")
        images = opened(images)
        device, said = next(self.model.parameters()).device, []
        for i in progress(range(0, len(questions), batch_size), "asking"):
            batch = self.processor(images=images[i:i + batch_size], text=[self.prompt(q) for q in questions[i:i + batch_size]],
                                   return_tensors="pt", padding=True).to(device)
            made = self.model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
            said += self.processor.batch_decode(made[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)
        return [text.strip() for text in said]


def vlm_folder(model: str = "studio") -> Path | None:
    """Where a model's files lie: the studio's, or a local folder; None for a hub id."""
    folder = data_dir() / "studio" / "vlm" if model == "studio" else Path(model).expanduser()
    return folder if folder.is_dir() else None


def load_vlm(model: str = "studio", device: str = "auto", device_map: str | None = None) -> Vlm:
    """Load a LLaVA (1.5, NeXT, VipLLaVA: any image-text-to-text model of transformers with a vision tower) by `studio`, folder or hub id.

    device_map: "auto" spreads it over several GPUs and the CPU (accelerate); None puts all on `device`. On a GPU weights are float16, on a CPU float32.
    Raises ModelLoadError, saying how to get what is missing.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor
    folder, target = vlm_folder(model), pick_device(device)
    if folder is None:
        need_repository(model, "a LLaVA's folder as `save_pretrained` writes it", "`slugkit train vlm` makes the studio's.")
    try:
        with no_loading_bars():
            net = AutoModelForImageTextToText.from_pretrained(str(folder or model), dtype=torch.float32 if target.type == "cpu" else torch.float16, use_safetensors=True,
                                                              **({"device_map": device_map} if device_map else {}))
            processor = AutoProcessor.from_pretrained(str(folder or model))
    except Exception as error:
        raise ModelLoadError(f"transformers could not load {model!r}: {error}. Give a folder as `save_pretrained` writes it, or run once with a "
                             "connection to fetch it. `slugkit train vlm` makes the studio's. Nothing was changed.") from error
    if not hasattr(net.model, "vision_tower"):
        raise ModelLoadError(f"{model!r} is a {type(net).__name__}, which has no vision tower of its own name; a LLaVA was expected. Nothing was changed.")
    processor.tokenizer.padding_side = "left"  # generation goes on at the right end
    return Vlm(net.eval() if device_map else net.eval().to(target), processor, model)
