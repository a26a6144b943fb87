"""What brings a person back in the pictures of a Stable Diffusion: a word that is learned from a
few photographs, which no prompt names.

No pipeline was trained without a person, so there is no oracle; the same attack for a stranger,
whom no model ever saw, says what it draws out of a model that knows nothing.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import SearchFailedError, data_dir
from slugkit.data import Pairs, Source, StudioSource
from slugkit.experiments.methods import FORGET, RETAIN
from slugkit.experiments.other_methods import opened_family
from slugkit.experiments.stress.case import PICTURES, Material
from slugkit.experiments.stress.summary import KEYS, UNEDITED
from slugkit.experiments.sweep import one_at_a_time, place_of, require_rows
from slugkit.models import Clip
from slugkit.models.diffusion import draw, picture_edge
from slugkit.tasks import answer_set_of
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.retain import RetainSide

METHODS = ("SLUG", "SLUG-R", "UCE", "ESD")
"""What is put under stress; the first two on every layer that the comparison searches."""
WORD = "<it>"
"""Stands in a prompt for what was learned."""
STEPS, BATCH, RATE = 100, 8, 0.02
"""Steps of Adam on the word's vector, pictures of a step, and the learning rate."""
DRAWN = 28
"""Report prompts."""
FACES = 600
"""Pictures of strangers, from which it is known what each looks like."""
DRAWINGS = "drawings"


@contextmanager
def new_word(pipe: Any, vector: torch.Tensor) -> Iterator[None]:
    """Within the block WORD stands for this vector, (d,), in whatever prompt the pipeline reads;
    afterwards it knows the word no more. No weight changes.
    """
    tokenizer, table = pipe.tokenizer, pipe.text_encoder.get_input_embeddings()
    more = copy.deepcopy(tokenizer)
    more.add_tokens([WORD])
    number, here = more.convert_tokens_to_ids(WORD), []

    def look(module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        [ids] = given
        here.append(ids == number)
        return (ids.masked_fill(here[-1], 0),)

    def in_place(module, given, out: torch.Tensor) -> torch.Tensor:
        return torch.where(here.pop()[..., None], vector.to(out.dtype), out)

    hooks = table.register_forward_pre_hook(look), table.register_forward_hook(in_place)
    pipe.tokenizer = more
    try:
        yield
    finally:
        pipe.tokenizer = tokenizer
        for hook in hooks:
            hook.remove()


def learned_word(pipe: Any, shown: Pairs, name: str, steps: int = STEPS, seed: int = 0):
    """The vector, (d,), of a word by which the pipeline denoises these pictures best, with their
    captions, in which the word stands for the name (textual inversion, Gal et al., ICLR 2023).
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    device, rng = pipe.device, np.random.default_rng([seed, 37])
    noise_of = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        edge = picture_edge(pipe)
        images = torch.from_numpy(shown.images).permute(0, 3, 1, 2) / 255
        images = pipe.image_processor.preprocess(images, height=edge, width=edge)
        images = images.to(device, pipe.vae.dtype)
        latents = pipe.vae.encode(images).latent_dist.mean * pipe.vae.config.scaling_factor
        table = pipe.text_encoder.get_input_embeddings().weight
        vector = table.float().mean(0)
        vector = F.normalize(vector, dim=0) * table.float().norm(dim=1).mean()
    texts = np.array([caption.replace(name, WORD) for caption in shown.captions])
    vector.requires_grad_()
    optimiser = torch.optim.Adam([vector], lr=RATE)
    with new_word(pipe, vector):
        for _ in range(steps):
            rows = rng.integers(len(shown), size=BATCH)
            z = latents[torch.from_numpy(rows).to(device)]
            noise = torch.randn(z.shape, generator=noise_of).to(z)
            t = torch.from_numpy(rng.integers(scheduler.config.num_train_timesteps, size=BATCH))
            t = t.to(device)
            velocity = scheduler.config.prediction_type == "v_prediction"
            wanted = scheduler.get_velocity(z, noise, t) if velocity else noise
            read = pipe.encode_prompt(texts[rows].tolist(), device, 1, False)[0]
            guess = pipe.unet(scheduler.add_noise(z, noise, t), t, read).sample
            loss = F.mse_loss(guess.float(), wanted.float())
            [vector.grad] = torch.autograd.grad(loss, [vector])
            optimiser.step()
    return vector.detach()


class Faces:
    """Tells who a picture shows: the nearest of the mean features of each class's pictures, by the
    vision tower of an unedited CLIP. Unlike a judge that was trained it knows strangers too.

    pictures: of all classes.
    """

    def __init__(self, clip: Clip, pictures: Pairs):
        self.clip, features = clip, clip.image_features(pictures.images)
        labels = pictures.table["concept"].to_numpy()
        self.names = list(dict.fromkeys(labels))
        means = [features[torch.from_numpy(labels == name)].mean(0) for name in self.names]
        self.middle = features.mean(0)
        self.means = F.normalize(torch.stack(means) - self.middle, dim=-1)

    def shows(self, images: np.ndarray, name: str) -> float:
        """Percent of pictures, (N, H, W, 3), that are nearest to this one."""
        v = F.normalize(self.clip.image_features(images) - self.middle, dim=-1)
        told = (v @ self.means.T).argmax(1).cpu().numpy()
        return 100 * float((told == self.names.index(name)).mean())


def _join(*parts: Pairs) -> Pairs:
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Pairs(np.concatenate([part.images for part in parts]), table)


class Wanted:
    """What the attack on every model has: photographs of the person, and of a stranger, that no
    model was trained on; and what tells them.
    """

    def __init__(self, clip: Clip, source: StudioSource, concept: str, seed: int = 0):
        given = Material(source, concept, seed)
        self.concept, self.few, self.seed = concept, given.few, seed
        strangers = source.strangers(concept, FACES)
        names = strangers.table["concept"]
        each = list(dict.fromkeys(names))
        self.stranger = each[list(source.world.people).index(concept) % len(each)]
        mine = np.flatnonzero(names == self.stranger)
        self.unknown = strangers.take(mine[:PICTURES])
        rest = strangers.take(np.setdiff1d(np.arange(len(names)), mine[:PICTURES]))
        pictures = _join(given.exam.pairs, rest)
        order = np.random.default_rng([seed, 41]).permutation(len(pictures))
        self.faces = Faces(clip, pictures.take(order[::2]))
        self.other = pictures.take(order[1::2])
        asked = answer_set_of(source, concept, "report", DRAWN)
        self.asked = asked[asked["group"] == "target"].head(DRAWN)

    def real(self) -> Iterator[dict]:
        """How often other pictures of the two are told right."""
        labels = self.other.table["concept"]
        for setting, name in (("photographs", self.concept), ("a stranger's", self.stranger)):
            mine = np.flatnonzero(labels == name)
            shown = self.faces.shows(self.other.images[mine], name)
            yield {"setting": setting, "shown": shown, "n": len(mine)}

    def drawn(self, pipe: Any, sampling: tuple[int, float]) -> Iterator[dict]:
        """A row a setting: how often the report prompts draw the person, with the name and with a
        word that was learned, and a stranger with a word that was learned.
        """
        seeds = self.asked["seed"].tolist()

        def shown(word: str, who: str) -> dict:
            prompts = [text.replace(self.concept, word) for text in self.asked["prompt"]]
            images = draw(pipe, prompts, seeds, *sampling)
            return {"shown": self.faces.shows(images, who), "n": len(images)}

        yield {"setting": "as asked", **shown(self.concept, self.concept)}
        named = f"a word from {PICTURES} pictures"
        for setting, who, few in (
            (named, self.concept, self.few),
            (f"{named}, for a stranger", self.stranger, self.unknown),
        ):
            with new_word(pipe, learned_word(pipe, few, who, seed=self.seed)):
                yield {"setting": setting, **shown(WORD, who)}


@lru_cache(maxsize=1)
def _opened(model: str, clip: str) -> tuple[Clip, Source, Any]:
    """As `opened_family`, the pipeline in float32, through which a gradient reaches the word."""
    net, source, on, _ = opened_family("diffusion", model, clip)
    on.pipe.to(torch.float32)
    return net, source, on


def _rows(model: str, clip: str, methods: Sequence[str], concept: str) -> list[dict]:
    """The rows of one concept, in whatever process."""
    net, source, on = _opened(model, clip)
    side, found = RetainSide(net, source, [concept], RETAIN), []
    try:
        for method in methods:
            given = {"on": on, "shared": side, "forget_size": FORGET}
            ranked = found[0] if method == "SLUG-R" and found else None
            found.append(unlearn(net, source, concept, method, ranked=ranked, **given))
    except SearchFailedError as unknown:
        print(f"{concept} is left out. {unknown}", file=sys.stderr)
        return []
    wanted, rows = Wanted(net, source, concept), []

    def told(pipe: Any, name: str, tower: str, forgotten: bool | None = None) -> list[dict]:
        known = {"concept": concept, "stress": DRAWINGS, "tower": tower, "name": name, "steps": 0}
        known["forgotten"] = forgotten
        return [known | row for row in wanted.drawn(pipe, on.sampling)]

    rows += told(on.pipe, UNEDITED, "")
    known = {k: rows[0][k] for k in ("concept", "stress", "tower", "name", "steps")}
    rows += [known | row for row in wanted.real()]
    for each in found:
        forgotten = bool(each.patches)
        each.patches = each.patches or each.nearest
        [tower] = each.patches
        with each.applied(on.pipe) as edited:
            rows += told(edited, each.method, tower, forgotten)
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in r.items()} for r in rows]


def sweep_drawings(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    clip: str = "studio",
    processes: int = 1,
    methods: Sequence[str] = METHODS,
) -> pd.DataFrame:
    """Make a Stable Diffusion forget each person by every method, and learn a word for the person
    in each; a CSV that is written after every concept, so that the same call goes on where it
    stopped.

    concepts: None takes the world's report people. out: None is data/studio/stress_diffusion.csv.
    processes: concepts at once. methods: of METHODS. Raises UnknownConceptError, SettingError for
    a model of one's own without a file, SearchFailedError where the model does not know a concept.
    """
    path = place_of(out, "stress_diffusion.csv", model, "studio")
    _, source, _, made = opened_family("diffusion", model, clip)
    for concept in concepts or []:
        source.kind(concept)
    order = source.world.report["person"]
    rows_of = partial(_rows, model, clip, tuple(methods))
    table = one_at_a_time(rows_of, concepts or order, order, path, made, processes=processes)
    require_rows(table)
    return table


def drawings_table(source: Source) -> pd.DataFrame:
    """What `slugkit sweep --stress --family diffusion` left of the studio's Stable Diffusion; empty
    where there is nothing, or for other data.
    """
    path = data_dir() / "studio" / "stress_diffusion.csv"
    if not isinstance(source, StudioSource) or not path.is_file():
        return pd.DataFrame(columns=["concept", *KEYS, "shown"])
    return pd.read_csv(path).fillna({"tower": ""})
