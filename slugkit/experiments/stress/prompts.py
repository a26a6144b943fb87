"""A prompt that is looked for: vectors that no word has, or words of the vocabulary.

Both look for a text that a few pictures of the concept are nearest to, and one picture of every
other class is not: the cross-entropy of the pictures over the other classes' texts and the
one that is looked for. The same pictures and as many steps for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.data import Pairs
from slugkit.evaluation.clip import class_features, ensemble
from slugkit.experiments.stress.case import PICTURES, Case, recognised

LENGTH = 4
"""Tokens of the prompt."""
STEPS, RATE = 150, 0.02
"""Steps of Adam on the vectors, and its learning rate."""
ROUNDS = 2
"""How often the search goes over the tokens."""


class Wanted:
    """What a prompt is looked for by: pictures by this model, and the other classes' texts.

    The texts are those of the search wordings, so that the report's stay unseen.
    """

    def __init__(self, case: Case, shown: Pairs | None = None):
        clip, domain = case.clip, case.domain
        asked = case.given.source.prompts(case.concept, "search")[domain]
        exam = replace(case.exam, prompts={domain: clip.wordings(asked)})
        self.names = [name for name in exam.classes(domain) if name != case.concept]
        words = ensemble(class_features(clip, exam)[domain])
        place = {name: row for row, name in enumerate(exam.classes(domain))}
        self.words = words[[place[name] for name in self.names]]
        self.mine = clip.image_features((shown or case.given.few).images)
        self.theirs = clip.image_features(case.given.rest.images)
        index = {name: row for row, name in enumerate(self.names)}
        told = [index[name] for name in case.given.rest.table["concept"]]
        self.labels = torch.tensor(told, device=clip.device)
        self.scale = clip.scale

    def loss(self, t: torch.Tensor) -> torch.Tensor:
        """t: (P, d) features of prompts -> (P,) the mean over both kinds of pictures."""
        theirs = self.scale * self.theirs @ self.words.T
        own = theirs.gather(1, self.labels[:, None]).squeeze(1)
        taken = torch.logaddexp(theirs.logsumexp(1)[:, None], self.scale * self.theirs @ t.T)
        mine = (self.scale * self.mine @ self.words.T).logsumexp(1)[:, None]
        right = self.scale * self.mine @ t.T
        found = (torch.logaddexp(mine, right) - right).mean(0)
        return found + (taken - own[:, None]).mean(0)


def blank(case: Case, length: int = LENGTH) -> tuple[torch.Tensor, slice]:
    """Tokens of a text of so many words, (1, context), and where they stand."""
    tokens = case.clip.tokens([" ".join("a" * length)])
    return tokens, slice(1, 1 + length)


def soft_prompt(case: Case, shown: Pairs | None = None, steps: int = STEPS) -> torch.Tensor:
    """(d,) the feature of a prompt of vectors that were learned, of unit length. shown: pictures
    of another one to learn from.
    """
    clip, wanted = case.clip, Wanted(case, shown)
    tokens, places = blank(case)
    table = clip.model.token_embedding
    vectors = table(tokens)[:, places].detach().clone().requires_grad_()

    def in_place(module, given, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, places] = vectors
        return out

    def feature() -> torch.Tensor:
        return F.normalize(clip.model.encode_text(tokens).float(), dim=-1)

    optimiser, hook = torch.optim.Adam([vectors], lr=RATE), table.register_forward_hook(in_place)
    try:
        for _ in range(steps):
            loss = wanted.loss(feature()).sum()
            [vectors.grad] = torch.autograd.grad(loss, [vectors])
            optimiser.step()
        return feature().detach()[0]
    finally:
        hook.remove()


def token_search(case: Case, rounds: int = ROUNDS) -> tuple[torch.Tensor, str]:
    """The feature of a prompt of words, (d,), and the words: each place in its turn gets the token
    of the whole vocabulary that makes the loss smallest.
    """
    clip, wanted = case.clip, Wanted(case)
    tokens, places = blank(case)
    start, end = tokens[0, 0].item(), tokens[0, places.stop].item()
    allowed = [i for i in range(clip.model.token_embedding.num_embeddings) if i not in (start, end)]
    for _ in range(rounds):
        for place in range(places.start, places.stop):
            tried = tokens.repeat(len(allowed), 1)
            tried[:, place] = torch.tensor(allowed, device=tokens.device)
            tokens = tried[wanted.loss(clip.token_features(tried)).argmin()][None]
    written = getattr(clip.tokenizer, "tokenizer", clip.tokenizer)
    return clip.token_features(tokens)[0], written.decode(tokens[0, places].tolist())


def found_by(case: Case, found: torch.Tensor) -> dict[str, float]:
    """What a prompt finds, by its feature (d,), in percent.

    How often it is nearest to the concept's pictures among the other classes in each report
    wording, and to the pictures of others. Since nothing else stands for the concept, a prompt that
    means nobody is nearest too; so beside it how well the prompt tells the concept's pictures from
    those of strangers, whom no model knows: the probability that a picture of the concept is nearer
    to it than one of a stranger (AUC; 50 is a guess).
    """
    words = case.scorer.classes()[case.domain].clone()
    mine = case.exam.classes(case.domain).index(case.concept)
    words[:, mine] = found
    shows = torch.tensor(case.exam.shows(case.concept))
    others = case.scorer.v[~shows]
    taken = torch.stack([(others @ t.T).argmax(1) for t in words]) == mine
    row = recognised(case.scorer.of(case.concept, {case.domain: words}))
    row |= {"others taken for it": 100 * float(taken.float().mean())}
    if case.strangers is not None:
        row |= {"told from strangers": _told(case.scorer.v[shows], case.strangers, found)}
    return row


def learned_prompts(case: Case) -> Iterator[dict]:
    """Four vectors in the place of words, and four tokens of the vocabulary.

    As a control the same vectors for a stranger, whom no model knows: how well they tell that
    stranger's other pictures from those of all other strangers.
    """
    yield {"setting": "vectors", **found_by(case, soft_prompt(case))}
    yield {"setting": "words", **found_by(case, token_search(case)[0])}
    unknown = case.given.strangers
    if unknown is not None:
        names = unknown.table["concept"].to_numpy()
        mine = np.flatnonzero(names == names[0])
        feature = soft_prompt(case, unknown.take(mine[:PICTURES]))
        rest, others = mine[PICTURES:], np.flatnonzero(names != names[0])
        told = _told(case.strangers[rest], case.strangers[others], feature)
        yield {"setting": "vectors, for a stranger", "told from strangers": told, "n": len(rest)}


def _told(mine: torch.Tensor, others: torch.Tensor, t: torch.Tensor) -> float:
    """Probability, in percent, that one of these pictures is nearer to a text than another is."""
    from sklearn.metrics import roc_auc_score

    truth = [1] * len(mine) + [0] * len(others)
    return 100 * float(roc_auc_score(truth, (torch.cat([mine, others]) @ t).cpu().numpy()))
