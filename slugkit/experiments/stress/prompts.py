"""A prompt that is looked for: vectors that no word has, or words of the vocabulary.

Both look for a text that a few pictures of the concept are nearest to, and one picture of every
other class is not: the cross-entropy of the pictures over the other classes' texts and the
one that is looked for. The same pictures and as many steps for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.data import Pairs
from slugkit.evaluation.clip import class_features, ensemble
from slugkit.experiments.stress.case import PICTURES, Case, recognised
from slugkit.models import Clip

LENGTH = 4
"""Tokens of the prompt."""
STEPS, RATE = 150, 0.02
"""Steps of Adam on the vectors, and its learning rate."""
ROUNDS, MOST = 2, 2048
"""How often the search goes over the tokens, and how many it tries at a place."""


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


def vocabulary(clip: Clip) -> torch.nn.Embedding:
    """The vectors of all words: of the text tower's embeddings the largest."""
    tower = getattr(clip.model, "text", clip.model)
    tables = [each for each in tower.modules() if isinstance(each, torch.nn.Embedding)]
    return max(tables, key=lambda each: each.num_embeddings)


def blank(case: Case, length: int = LENGTH) -> tuple[torch.Tensor, slice]:
    """Tokens of a text of so many words, (1, context), and where they stand."""
    tokens, empty = (case.clip.tokens([text]) for text in (" ".join("a" * length), ""))
    start = int((tokens != empty)[0].nonzero()[0])
    return tokens, slice(start, start + length)


@contextmanager
def placed(table: torch.nn.Embedding, places: slice, vectors: torch.Tensor) -> Iterator[None]:
    """Within the block these vectors, (1, n, width), stand at these places of whatever is read."""

    def in_place(module, given, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, places] = vectors.to(out.dtype)
        return out

    hook = table.register_forward_hook(in_place)
    try:
        yield
    finally:
        hook.remove()


def _slope(clip: Clip, wanted: Wanted, tokens: torch.Tensor, vectors: torch.Tensor):
    """Gradient of the loss with respect to the vectors that are placed, which learn."""
    feature = F.normalize(clip.model.encode_text(tokens).float(), dim=-1)
    return torch.autograd.grad(wanted.loss(feature).sum(), vectors)[0]


def soft_prompt(case: Case, shown: Pairs | None = None, steps: int = STEPS) -> torch.Tensor:
    """(d,) the feature of a prompt of vectors that were learned, of unit length. shown: pictures
    of another one to learn from.
    """
    clip, wanted = case.clip, Wanted(case, shown)
    tokens, places = blank(case)
    table = vocabulary(clip)
    vectors = table(tokens)[:, places].detach().float().requires_grad_()
    optimiser = torch.optim.Adam([vectors], lr=RATE)
    with placed(table, places, vectors):
        for _ in range(steps):
            vectors.grad = _slope(clip, wanted, tokens, vectors)
            optimiser.step()
        return clip.token_features(tokens)[0]


def token_search(case: Case, rounds: int = ROUNDS) -> tuple[torch.Tensor, str]:
    """The feature of a prompt of words, (d,), and the words: each place in its turn gets the token
    of the whole vocabulary that makes the loss smallest; of a vocabulary of more than MOST, among
    those that the loss's gradient says it would fall most by (as HotFlip has it, Ebrahimi et al.,
    ACL 2018).
    """
    clip, wanted = case.clip, Wanted(case)
    tokens, places = blank(case)
    table, [row] = vocabulary(clip), tokens.tolist()
    # the marks of beginning and end, if there are any, but not what fills the context
    marks = {*row[: places.start], *row[places.stop :]} - {row[-1]}
    allowed = torch.tensor([i for i in range(table.num_embeddings) if i not in marks])
    allowed = allowed.to(tokens.device)
    for _ in range(rounds):
        for place in range(places.start, places.stop):
            some = allowed
            if len(allowed) > MOST:
                here = slice(place, place + 1)
                vector = table(tokens)[:, here].detach().float().requires_grad_()
                with placed(table, here, vector):
                    slope = _slope(clip, wanted, tokens, vector).flatten()
                some = allowed[(table.weight[allowed].float() @ slope).argsort()[:MOST]]
            tried = tokens.repeat(len(some), 1)
            tried[:, place] = some
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
