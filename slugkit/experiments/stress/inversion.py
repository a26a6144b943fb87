"""What brings a person back in the pictures of a Stable Diffusion: a word that is learned from a
few photographs, which no prompt names.

No pipeline was trained without a person, so there is no oracle; the same attack for a stranger,
whom no model ever saw, says what it draws out of a model that knows nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from slugkit.base import SettingError
from slugkit.data import Pairs, Source, StudioSource
from slugkit.experiments.stress.case import PICTURES
from slugkit.experiments.stress.on_models import sweep_models
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import draw, picture_edge
from slugkit.tasks import answer_set_of
from slugkit.unlearning.families import OnPipeline
from slugkit.unlearning.methods.training import SCALE

METHODS = ("SLUG", "SLUG-R", "UCE", "ESD")
"""What is put under stress; the first two on every layer that the comparison searches."""
WORD = "<it>"
"""Stands in a prompt for what was learned."""
STEPS, BATCH, RATE = 100, 8, 0.02
"""Steps of Adam on the word's vector, pictures of a step, and the learning rate."""
DRAWN = 28
"""Report prompts."""
TAUGHT, LOOKED_AT = 40, 29
"""Pictures of each subject from which it is known what it looks like, and others that are told."""
OWN, LEARNED = "pictures of the data", f"a word from {PICTURES} pictures"
FOR_STRANGER = f"{LEARNED}, for a stranger"


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

    Raises SettingError where no caption holds the name.
    """
    from diffusers import DDPMScheduler

    texts = np.array([caption.replace(name, WORD) for caption in shown.captions])
    if not any(WORD in text for text in texts):
        raise SettingError(
            f"None of the {len(texts)} captions holds {name!r}; one or more was expected, or no"
            " word could be learned. Write the name into the captions."
        )
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
    vector.requires_grad_()
    optimiser = torch.optim.Adam([vector], lr=RATE)
    half = pipe.unet.dtype != torch.float32
    scaler = torch.amp.GradScaler(device.type, SCALE, enabled=half)
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
            [vector.grad] = torch.autograd.grad(scaler.scale(loss), [vector])
            scaler.step(optimiser)
            scaler.update()
    return vector.detach()


class Faces:
    """Tells who a picture shows: a logistic regression on what the vision tower of an unedited CLIP
    makes of it. Unlike the judge that was trained it can be taught strangers.

    pictures: of all classes, as many of each.
    """

    def __init__(self, clip: Clip, pictures: Pairs):
        from sklearn.linear_model import LogisticRegression

        self.clip, self.told = clip, LogisticRegression(C=10, max_iter=500)
        self.told.fit(self._features(pictures.images), pictures.table["concept"].to_numpy())

    def _features(self, images: np.ndarray) -> np.ndarray:
        return self.clip.image_features(images).cpu().numpy()

    def shows(self, images: np.ndarray, name: str) -> float:
        """Percent of pictures, (N, H, W, 3), that it says show this one."""
        return 100 * float((self.told.predict(self._features(images)) == name).mean())


def _parted(pictures: Pairs, seed: int) -> tuple[Pairs, Pairs, Pairs]:
    """Of one subject's pictures those of the attack, those that tell who it is, and the others."""
    order = np.random.default_rng([seed, 41]).permutation(len(pictures))
    ends = PICTURES, PICTURES + TAUGHT
    return tuple(pictures.take(rows) for rows in np.split(order, ends))


def _join(*parts: Pairs) -> Pairs:
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Pairs(np.concatenate([part.images for part in parts]), table)


class Wanted:
    """What the attack on every model has: pictures of the person, and of a stranger, that no model
    was trained on; and what tells them.
    """

    def __init__(self, clip: Clip, source: StudioSource, concept: str, seed: int = 0):
        self.concept, self.seed = concept, seed
        classes, size = source.world.classes("figures"), PICTURES + TAUGHT + LOOKED_AT
        known = {name: _parted(source.nonmembers(name, size), seed) for name in classes}
        count = sum(map(len, source.world.strangers.values()))
        strangers = source.strangers(concept, size * count)
        names = strangers.table["concept"]
        unknown = {n: _parted(strangers.where(names == n), seed) for n in dict.fromkeys(names)}
        self.stranger = list(unknown)[classes.index(concept) % len(unknown)]
        self.parts = known | unknown
        self.faces = Faces(clip, _join(*(taught for _, taught, _ in self.parts.values())))
        asked = answer_set_of(source, concept, "report", DRAWN)
        self.asked = asked[asked["group"] == "target"].head(DRAWN)

    def real(self) -> Iterator[dict]:
        """How often other pictures of the two are told right."""
        for setting, name in ((OWN, self.concept), (f"{OWN}, of a stranger", self.stranger)):
            images = self.parts[name][2].images
            yield {
                "setting": setting,
                "recognised": self.faces.shows(images, name),
                "n": len(images),
            }

    def drawn(
        self, pipe: Any, sampling: tuple[int, float], judge: Classifier | None = None
    ) -> Iterator[dict]:
        """A row a setting: how often the report prompts draw the person, with the name and with a
        word that was learned, and a stranger with a word that was learned.

        judge: one that knows no strangers, of notebook 6; what it says of the person is "shown",
        what the regression says "recognised".
        """
        seeds = self.asked["seed"].tolist()

        def counted(word: str, who: str) -> dict:
            prompts = [text.replace(self.concept, word) for text in self.asked["prompt"]]
            images = draw(pipe, prompts, seeds, *sampling)
            row = {"recognised": self.faces.shows(images, who), "n": len(images)}
            if judge is not None and who == self.concept:
                said = judge.name(images)["subject"].to_numpy()
                row |= {"shown": 100 * float((said == who).mean())}
            return row

        yield {"setting": "as asked", **counted(self.concept, self.concept)}
        settings = ((LEARNED, self.concept), (FOR_STRANGER, self.stranger))
        for setting, who in settings:
            with new_word(pipe, learned_word(pipe, self.parts[who][0], who, STEPS, self.seed)):
                yield {"setting": setting, **counted(WORD, who)}


def _asked(
    clip: Clip, source: Source, on: OnPipeline, concept: str
) -> Callable[[Any], Iterator[dict]]:
    wanted = Wanted(clip, source, concept)
    once = wanted.real()  # beside the first model that is asked
    return lambda pipe: chain(wanted.drawn(pipe, on.sampling, on.judge), once)


def sweep_drawings(*which, **how) -> pd.DataFrame:
    """`slugkit sweep --stress --family diffusion`: as `sweep_models`, whose other arguments it
    takes.
    """
    return sweep_models("diffusion", METHODS, _asked, *which, **how)
