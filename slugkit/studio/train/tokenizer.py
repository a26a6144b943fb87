"""A small byte-pair vocabulary learned on captions, in CLIP's own tokenizer class and
file formats.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer

from slugkit.base import write_json, write_text


def learn_tokenizer(
    captions: list[str], folder: Path, vocabulary: int = 1200, context: int = 16
) -> CLIPTokenizer:
    """Learn merges on the captions and save a CLIPTokenizer in `folder` (vocab.json, merges.txt,
    tokenizer.json).

    vocabulary: the largest number of tokens. context: tokens per text, start and end included. The
    end token has the highest id, as in CLIP, since the text tower pools where the id is largest.
    """
    empty = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    learner.normalizer, learner.pre_tokenizer = empty.normalizer, empty.pre_tokenizer
    from tokenizers.pre_tokenizers import ByteLevel

    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        min_frequency=2,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    import json

    state = json.loads(learner.to_str())["model"]
    vocab = {token: index for index, token in enumerate(_ordered(state["vocab"]))}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    merges = [" ".join(m) if isinstance(m, list) else m for m in state["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(
        vocab=vocab, merges=[tuple(m.split(" ")) for m in merges], model_max_length=context
    )
    tokenizer.save_pretrained(folder)
    write_json(folder / "vocab.json", vocab)
    write_text(folder / "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    return tokenizer


def _ordered(vocab: dict[str, int]) -> list[str]:
    """Tokens by id, every single byte also present as the end of a word, so that nothing is
    unknown.
    """
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda item: item[1])]
    from tokenizers.pre_tokenizers import ByteLevel

    return tokens + [
        t for b in sorted(ByteLevel.alphabet()) for t in [b + "</w>"] if t not in vocab
    ]
