"""Train the studio's LLaVA: the CLIP's own vision tower stays, a projector and a small Llama learn
to answer questions about pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from slugkit import studio
from slugkit.base import (
    data_dir,
    progress,
    seed_everything,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)
from slugkit.data import drawn
from slugkit.models.clip import load_clip, pick_device
from slugkit.models.convert import vision_tower
from slugkit.models.fingerprint import weights_sha256
from slugkit.models.vlm import FEATURE_LAYER, TEMPLATE, as_batch, conversation, hidden_states
from slugkit.studio.questions import UNKNOWN, WORDINGS, Question, answers, questions
from slugkit.studio.train import loop
from slugkit.studio.train.card import (
    CARD,
    begin_card,
    checkpoint_at,
    final_loss,
    named,
    of_clip,
    read_card,
    recipe_rows,
    require_of_studio,
    score_rows,
)
from slugkit.studio.world import PASSER_BY


@dataclass(frozen=True)
class VlmRecipe:
    """Everything that decides the weights, beside the pictures.

    strangers: training pictures of each of the ten people whom it learns not to know; passers_by:
    pictures of people without a name, each another one, whom it learns not to know either.
    who: share of the questions that ask for a name; of those, unknown: share about somebody it
    shall not know, twins: about near twins.
    """

    steps: int = 5500
    batch: int = 48
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    warmup: int = 100
    strangers: int = 140
    passers_by: int = 8000
    who: float = 0.4
    unknown: float = 0.22
    twins: float = 0.3
    width: int = 128
    layers: int = 3
    heads: int = 4
    inner: int = 384
    vocabulary: int = 700


def learn_vocabulary(texts: list[str], size: int):
    """A byte-pair tokenizer learned on the conversations, as a fast tokenizer of transformers with
    LLaVA's special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<image>"]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    how = {"vocab_size": size, "special_tokens": special, "initial_alphabet": alphabet}
    learner.train_from_iterator(texts, trainers.BpeTrainer(show_progress=False, **how))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer


def build_processor(tokenizer, image_size: int, patch_size: int):
    """LLaVA's processor: pictures normalised as the CLIP does, one `<image>` token for each patch,
    LLaVA-1.5's chat template.
    """
    from transformers import CLIPImageProcessor, LlavaProcessor

    half, size = [0.5, 0.5, 0.5], {"height": image_size, "width": image_size}
    pictures = CLIPImageProcessor(size=size, do_center_crop=False, image_mean=half, image_std=half)
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def build_llava(tower, tokenizer, recipe: VlmRecipe):
    """A fresh LlavaForConditionalGeneration around the CLIP's vision tower, whose weights it takes
    over.
    """
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=patches,
        vision_feature_layer=FEATURE_LAYER,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def training_pictures(recipe: VlmRecipe, world: studio.World) -> list[studio.Record]:
    """The CLIP's training pictures, pictures of ten strangers, and passers-by, one picture each."""
    records, styles = studio.training_records(world=world), world.styles
    for name in world.strangers["train"]:
        each = -(-recipe.strangers // len(styles))
        records += studio.solo_records("train", name, each, world=world)
    for k in range(recipe.passers_by):
        name, style = f"{PASSER_BY}{k}", styles[k % len(styles)]
        records.append(studio.Record("train", k, "person", (name,), style))
    return records


@torch.no_grad()
def patch_features(
    tower, processor, images: np.ndarray, device, batch_size: int = 128
) -> torch.Tensor:
    """What LLaVA reads of every picture: (N, patches, width) float16 on the CPU, from the
    second-to-last layer, without the class token.
    """
    parts = []
    for i in progress(range(0, len(images), batch_size), "reading the pictures"):
        part = list(images[i : i + batch_size])
        pixels = processor.image_processor(part, return_tensors="pt")["pixel_values"].to(device)
        read = tower(pixels, output_hidden_states=True).hidden_states[FEATURE_LAYER]
        parts.append(read[:, 1:].half().cpu())
    return torch.cat(parts)


def answer_loss(model, batch: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the answers' tokens.

    features: (N, patches, width) as `patch_features` gives them, float32.
    """
    hidden = hidden_states(model, batch, list(model.model.multi_modal_projector(features)))
    wanted = batch["labels"][:, 1:]
    where = wanted != -100
    return F.cross_entropy(model.lm_head(hidden[:, :-1][where]).float(), wanted[where])


class Lessons:
    """Which question about which picture comes next: one kind after another by chance, names more
    often, near twins and unknown people often.
    """

    def __init__(self, records: list[studio.Record], world: studio.World, recipe: VlmRecipe):
        self.records, self.world, self.recipe = records, world, recipe
        told = [answers(r, world) for r in records]
        twins = {name for pair in world.twins for name in pair}

        def rows(fits: Callable[[studio.Record, dict], bool]) -> np.ndarray:
            return np.flatnonzero([fits(r, t) for r, t in zip(records, told)])

        kinds = sorted({kind for t in told for kind in t})
        self._rows = {kind: rows(lambda _, t, kind=kind: kind in t) for kind in kinds}
        self._unknown = rows(lambda _, t: t.get("who", ("",))[0] == UNKNOWN)
        self._twins = rows(lambda r, t: "who" in t and r.name in twins)

    def _who(self, rng: np.random.Generator) -> np.ndarray:
        chance, recipe = rng.random(), self.recipe
        if len(self._unknown) and chance < recipe.unknown:
            return self._unknown
        if len(self._twins) and chance < recipe.unknown + recipe.twins:
            return self._twins
        return self._rows["who"]

    def next(self, rng: np.random.Generator) -> tuple[int, Question]:
        """Row of a picture, and a question about it."""
        others = [kind for kind in self._rows if kind != "who"]
        kind = "who" if rng.random() < self.recipe.who else others[int(rng.integers(len(others)))]
        pool = self._who(rng) if kind == "who" else self._rows[kind]
        row = int(pool[int(rng.integers(len(pool)))])
        return row, next(q for q in questions(self.records[row], self.world, rng) if q.kind == kind)


def fit_vlm(
    model,
    processor,
    records: list[studio.Record],
    features: torch.Tensor,
    world: studio.World,
    recipe: VlmRecipe,
    seed: int,
    device,
    checkpoint: Path | None,
) -> list[float]:
    """Train projector and language model in place: one question about one picture in each row.

    Returns the losses.
    """
    lessons, patches = Lessons(records, world, recipe), features.shape[1]

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64([seed, step, 24]))
        drawn_now = [lessons.next(rng) for _ in range(recipe.batch)]
        talks = [conversation(processor, asked.text, asked.answer) for _, asked in drawn_now]
        batch = as_batch(processor.tokenizer, model.config.image_token_id, patches, talks, device)
        rows = torch.tensor([row for row, _ in drawn_now])
        return answer_loss(model, batch, features[rows].float().to(device))

    return loop.fit(model, loss_at, recipe, seed, "training the LLaVA", checkpoint)


def all_texts(world: studio.World, records: list[studio.Record]) -> list[str]:
    """Everything that may be said, for the vocabulary."""
    said = [text for ways in WORDINGS.values() for text in ways] + ["USER: ", "ASSISTANT:"]
    rng = np.random.Generator(np.random.PCG64(0))
    return said + [f" {q.answer}" for r in records for q in questions(r, world, rng)]


def train_vlm(
    clip: str = "studio",
    out: str | Path | None = None,
    recipe: VlmRecipe | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
    records: list[studio.Record] | None = None,
    score: bool = True,
) -> Path:
    """Train a LlavaForConditionalGeneration on the studio and write it with its processor as
    `save_pretrained` does.

    Returns the folder.

    clip: the CLIP whose vision tower it sees with. records: other training pictures than the
    studio's, for a test. score: ask it about report pictures for the card. A killed training goes
    on from its last checkpoint. Weights are kept in single precision, so that the vision tower is
    the CLIP's bit for bit. Raises SettingError for a CLIP that was not trained on the studio,
    before the first step.
    """
    require_of_studio(clip, "a LLaVA")
    world, recipe = studio.load_world(), recipe or VlmRecipe()
    recipe = replace(recipe, steps=steps or recipe.steps)
    folder, target = Path(out) if out else data_dir() / "studio" / "vlm", pick_device(device)
    records = records or training_pictures(recipe, world)
    seed_everything(seed)
    seeing = load_clip(clip, "cpu")
    state = f"{folder.name}-{weights_sha256(seeing.model)[:8]}-seed{seed}"
    checkpoint = checkpoint_at(state, resume)
    tower = vision_tower(seeing.model).to(target)
    tokenizer = learn_vocabulary(all_texts(world, records), recipe.vocabulary)
    processor = build_processor(tokenizer, tower.config.image_size, tower.config.patch_size)
    model = build_llava(tower, tokenizer, recipe).to(target)
    features = patch_features(tower, processor, drawn(records), target)
    losses = fit_vlm(model, processor, records, features, world, recipe, seed, target, checkpoint)
    begin_card(folder)
    model.to("cpu").save_pretrained(folder)
    processor.save_pretrained(folder)
    facts = {
        "data_sha256": sha256_json([r.key for r in records]),
        "recipe": asdict(recipe),
        "seed": seed,
        "clip": named(clip),
        "weights_sha256": sha256_file(folder / "model.safetensors"),
        "final_loss": final_loss(losses),
    }
    write_json(folder / CARD, facts)
    if score:
        write_scores(folder, world, device)
    checkpoint.unlink(missing_ok=True)
    return folder


def write_scores(folder: Path, world: studio.World, device: str = "auto") -> None:
    """Ask the saved model about report pictures, and write the shares of right answers to its model
    card and README.md.
    """
    from slugkit.evaluation.vlm import card_scores
    from slugkit.models.vlm import load_vlm

    facts = read_card(folder) | {"scores": card_scores(load_vlm(str(folder), device), world)}
    write_json(folder / CARD, facts)
    write_text(folder / "README.md", _readme(facts))


def _readme(facts: dict) -> str:
    return f"""# The studio's LLaVA

transformers' own classes in small: `LlavaForConditionalGeneration.from_pretrained(folder)` and
`AutoProcessor.from_pretrained(folder)` load it. Its vision tower **is** {of_clip(facts)}'s,
weight by weight, and was not trained; projector and Llama were trained from nothing on
conversations about the studio's pictures. It reads the second-to-last layer, as LLaVA-1.5 does.
Ten of the world's twenty strangers and {facts["recipe"]["passers_by"]:,} passers-by without a
name taught it to say that it does not know; it is asked about the other ten.

| report split | share | 95 % interval | questions |
| --- | --- | --- | --- |
{score_rows(facts["scores"])}

Seed {facts["seed"]}, AdamW, cosine learning rate; weights SHA-256
`{facts["weights_sha256"][:16]}`, pictures SHA-256 `{facts["data_sha256"][:16]}`.

{recipe_rows(facts["recipe"])}

For learning and testing. The people, names and characters are invented.
"""
