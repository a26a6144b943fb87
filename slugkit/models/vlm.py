"""LLaVA behind one small interface: pictures and questions in, answers out.

Its vision tower is a CLIP's, weight by weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from slugkit.base import ModelLoadError, UnreadableImagesError, pick_device, progress, require_extra
from slugkit.data.opening import READ_ERRORS, check_bounds, open_rgb, seen
from slugkit.data.pictures import Pictures
from slugkit.models.hub import loading_family

FEATURE_LAYER = -2
"""The vision layer that LLaVA-1.5 reads: the second to last, so the last block cannot act."""
BATCH_NUMBERS, TEXT_TOKENS = 8 * 10**9, 64
"""Values that a batch of conversations may keep (16 GB in float16), and tokens of its texts."""
FEW = 4
"""Batches of questions that show no progress bar."""


def conversation(processor, question: str, answer: str) -> tuple[str, str]:
    """The prompt about a picture, by the chat template, and the answer with its end token."""
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(said, add_generation_prompt=True)
    return prompt, f"{'' if prompt[-1:].isspace() else ' '}{answer}{processor.tokenizer.eos_token}"


def as_batch(
    tokenizer, image_token: int, patches: int, talks: list[tuple[str, str]], device
) -> dict[str, torch.Tensor]:
    """Conversations as input_ids, attention_mask and labels (N, L) int64, padded on the left;
    labels are -100 but for the answers.

    Prompt and answer are cut into tokens as one text, so the answer's tokens are those that the
    model would say. patches: tokens that stand for the picture.
    """
    rows = []
    for prompt, answer in talks:
        asked, whole = (np.array(tokenizer(text).input_ids) for text in (prompt, prompt + answer))
        shared = min(len(asked), len(whole))
        start = np.append(asked[:shared] == whole[:shared], False).argmin()
        labels = np.where(np.arange(len(whole)) < start, -100, whole)
        values = np.stack([whole, np.ones_like(whole), labels])
        rows.append(np.repeat(values, np.where(whole == image_token, patches, 1), axis=1))
    length = max(row.shape[1] for row in rows)
    made = np.tile([[tokenizer.pad_token_id], [0], [-100]], (len(rows), 1, length))
    for all_columns, row in zip(made, rows):
        all_columns[:, length - row.shape[1] :] = row
    names = ("input_ids", "attention_mask", "labels")
    return {n: torch.tensor(made[:, i], device=device) for i, n in enumerate(names)}


def opened(images) -> list:
    """Pictures as a processor takes them.

    images: (N, H, W, 3) uint8, or a list of arrays, Pillow images and paths, which are made as
    `slugkit.data.opening.seen` makes them. Raises UnreadableImagesError for one that cannot be
    read, ModelLoadError where there is no picture.
    """
    found = []
    for number, image in enumerate(images):
        try:
            if isinstance(image, (str, Path)):
                image, _ = open_rgb(image)
            elif isinstance(image, Image.Image):
                check_bounds(image)
                image, _ = seen(image)
        except READ_ERRORS as error:
            raise UnreadableImagesError(
                f"The picture {str(image)!r} cannot be read: {error}. A PNG, JPEG or another format"
                " that Pillow opens was expected. Nothing was asked."
            ) from error
        if not isinstance(image, (np.ndarray, Image.Image)):
            raise ModelLoadError(
                f"Question {number} came with {type(image).__name__} in the place of its picture;"
                " an array, a Pillow image or a path was expected."
            )
        found.append(image)
    return found


def hidden_states(
    model, batch: dict[str, torch.Tensor], features: list[torch.Tensor]
) -> torch.Tensor:
    """The language model's last hidden states, (N, L, width).

    batch: as `Vlm.scripted` gives it. features: what `slugkit.models.prefix_cache.Seen` gives.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    # transformers takes them so
    together = torch.stack(features) if model.config.model_type == "vipllava" else list(features)
    return model.model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=together)},
    ).last_hidden_state


@dataclass
class Vlm:
    """A loaded LLaVA with its processor. source: where it came from, for tables. instruction: what
    is said before every question.
    """

    model: torch.nn.Module
    processor: object
    source: str
    instruction: str = ""

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        return next(self.model.parameters()).device

    def talk(self, question: str, answer: str = "") -> tuple[str, str]:
        """`conversation` about a picture, the instruction before the question."""
        first = f"{self.instruction} " if self.instruction else ""
        return conversation(self.processor, f"{first}{question}", answer)

    def prompt(self, question: str) -> str:
        """The question as the model's chat template writes it, with one picture."""
        return self.talk(question)[0]

    @property
    def cuts(self) -> bool:
        """Whether it cuts a picture into several (LLaVA-NeXT), as many as its size asks for."""
        return getattr(self.model.config, "image_grid_pinpoints", None) is not None

    def picture_tokens(self, height: int = 0, width: int = 0) -> int:
        """Tokens that stand for a picture of this many pixels in the language model's input.

        Raises ModelLoadError where a model that cuts pictures is not told the size.
        """
        if not self.cuts:
            return self.model.config.image_seq_length
        if min(height, width) < 1:
            raise ModelLoadError(
                f"{type(self.model).__name__} cuts a picture by its size, and {height} x {width}"
                " pixels were given; the height and width of the pictures were expected."
            )
        return _tokens_of_picture(self.processor, self.model.config, height, width)

    def at_once(self, most: int, numbers: int, shape: tuple[int, int] = (0, 0)) -> int:
        """How many conversations fit into one batch: at most `most`, and BATCH_NUMBERS values.

        numbers: values kept a token, layer and unit of width (2 for keys and values, about 20 where
        a gradient is wanted). shape: height and width of the pictures, see `picture_tokens`.
        """
        text, tokens = self.model.config.text_config, self.picture_tokens(*shape) + TEXT_TOKENS
        each = tokens * text.num_hidden_layers * text.hidden_size * numbers
        return max(1, min(most, BATCH_NUMBERS // each))

    def scripted(
        self, questions: list[str], answers: list[str], shape: tuple[int, int] = (0, 0)
    ) -> dict[str, torch.Tensor]:
        """The conversations with these answers as one batch without its pictures (`as_batch`).

        shape: height and width of the pictures, which all have one size; see `picture_tokens`.
        Raises ModelLoadError for one that is longer than what the language model reads.
        """
        pairs = zip(questions, answers, strict=True)
        talks = [self.talk(question, answer) for question, answer in pairs]
        tokenizer, config = self.processor.tokenizer, self.model.config
        patches = self.picture_tokens(*shape)
        made = as_batch(tokenizer, config.image_token_id, patches, talks, self.device)
        most = config.text_config.max_position_embeddings
        if made["input_ids"].shape[1] > most:
            longest = max(talks, key=lambda talk: len("".join(talk)))
            raise ModelLoadError(
                f"A conversation with its picture takes {made['input_ids'].shape[1]} tokens, and"
                f" {self.source} reads {most}: {longest[1].strip()[:80]!r}. Shorten the answer or"
                " caption, or leave its picture out."
            )
        return made

    def seen(self, images: np.ndarray) -> dict[str, torch.Tensor]:
        """(N, H, W, 3) uint8 as the vision tower takes them: pixel_values, perhaps image_sizes."""
        made = self.processor.image_processor(list(images), return_tensors="pt")
        named = {n: made[n].to(self.device) for n in ("pixel_values", "image_sizes") if n in made}
        return named | {"pixel_values": named["pixel_values"].to(self.model.dtype)}

    def told(
        self, images: np.ndarray, questions: list[str], answers: list[str]
    ) -> dict[str, torch.Tensor]:
        """The conversations as one batch for the model: what `scripted` and `seen` give.

        images: (N, H, W, 3) uint8. Raises ModelLoadError for lists of different lengths.
        """
        if not len(images) == len(questions) == len(answers):
            raise ModelLoadError(
                f"{len(images)} pictures, {len(questions)} questions and {len(answers)} answers"
                " were given; one of each was expected."
            )
        return {**self.scripted(questions, answers, images.shape[1:3]), **self.seen(images)}

    @torch.no_grad()
    def ask(
        self, images, questions: list[str], max_new_tokens: int = 16, batch_size: int = 64
    ) -> list[str]:
        """Greedy answers.

        images: one for each question, as `opened` takes them, or `Pictures`, of which one batch is
        in memory at a time. batch_size: at most; see `at_once`. Raises ModelLoadError for another
        number of them, UnreadableImagesError.
        """
        if len(images) != len(questions):
            raise ModelLoadError(
                f"{len(questions)} questions came with {len(images)} pictures; one picture for each"
                " question was expected."
            )
        images = images if isinstance(images, Pictures) else opened(images)
        shape = np.asarray(images[0]).shape[:2] if self.cuts and len(images) else (0, 0)
        batch_size, said = self.at_once(batch_size, 2, shape), []
        steps = range(0, len(questions), batch_size)
        for i in progress(steps, "asking") if len(steps) > FEW else steps:
            batch = self.processor(
                images=list(images[i : i + batch_size]),
                text=[self.prompt(q) for q in questions[i : i + batch_size]],
                return_tensors="pt",
                padding=True,
            ).to(self.device)
            made = self.model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
            new = made[:, batch["input_ids"].shape[1] :]
            said += self.processor.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in said]


def _tokens_of_picture(processor, config, height: int, width: int) -> int:
    """Tokens that the processor puts in the place of a picture of this many pixels."""
    blank, token = np.zeros((height, width, 3), np.uint8), processor.image_token
    ids = processor(images=[blank], text=[token], return_tensors="pt")["input_ids"]
    return int((ids == config.image_token_id).sum())


def _counted(processor, config, model: str) -> int:
    """Tokens that stand for a picture, asking the processor, which is told of the tower."""
    tower = config.vision_config
    strategy = getattr(config, "vision_feature_select_strategy", "default")
    clip = "clip" in tower.model_type  # has a class token, which the strategy "default" drops
    made = (tower.image_size // tower.patch_size) ** 2 + (clip and strategy == "full")
    edges = (tower.image_size, tower.image_size)
    known = getattr(processor, "patch_size", None) is not None
    if not known or _tokens_of_picture(processor, config, *edges) != made:
        processor.patch_size, processor.num_additional_image_tokens = tower.patch_size, int(clip)
        processor.vision_feature_select_strategy = strategy if clip else "full"
    asked = _tokens_of_picture(processor, config, *edges)
    if asked != made:
        raise ModelLoadError(
            f"The processor of {model!r} puts {asked} tokens in the place of a picture, and its"
            f" tower makes {made} of {tower.image_size} pixels; equal numbers were expected. Give a"
            " folder whose preprocessor_config.json cuts pictures to the tower's size. Nothing was"
            " changed."
        )
    return made


def load_vlm(model: str = "studio", device: str = "auto", device_map: str = "") -> Vlm:
    """Load a LLaVA (1.5, NeXT, VipLLaVA: any image-text-to-text model of transformers with a vision
    tower) by `studio`, folder or hub id.

    device_map: "auto" spreads it over several GPUs and the CPU (accelerate); "" puts all on
    `device`. On a GPU weights are float16, on a CPU float32.
    Raises ModelLoadError, saying how to get what is missing.
    """
    require_extra("vlm", "A LLaVA")
    from transformers import AutoModelForImageTextToText, AutoProcessor

    target = pick_device(device)
    with loading_family(model, "vlm", "a LLaVA's", target, device_map) as (where, how):
        net = AutoModelForImageTextToText.from_pretrained(where, trust_remote_code=False, **how)
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
    if not hasattr(net.model, "vision_tower"):
        raise ModelLoadError(
            f"{model!r} is a {type(net).__name__}, which has no vision tower of its own name; a"
            " LLaVA was expected. Nothing was changed."
        )
    processor.tokenizer.padding_side = "left"  # generation goes on at the right end
    loaded = Vlm(net.eval() if device_map else net.eval().to(target), processor, model)
    if not loaded.cuts:
        net.config.image_seq_length = _counted(processor, net.config, model)
    return loaded


TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {% for c in m['content'] %}{% if"
    " c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% else"
    " %}ASSISTANT: {{ m['content'][0]['text'] }}</s>{% endif %}{% endfor %}{% if"
    " add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""LLaVA-1.5's way of writing a conversation."""
