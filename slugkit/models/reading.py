"""How a model reads, from its files alone: the edge of its pictures, a text's tokens."""

from __future__ import annotations

from slugkit.base import look_for
from slugkit.data.reading import Reading
from slugkit.models.hub import loading


def reading_of(tokenizer) -> Reading:
    """The way to read of a tokenizer, open_clip's or transformers' own."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)
    context = getattr(tokenizer, "context_length", None) or inner.model_max_length
    if hasattr(inner, "encoder") and hasattr(inner, "sot_token_id"):  # open_clip's own byte pairs
        return Reading(
            lambda text: [inner.sot_token_id, *inner.encode(text), inner.eot_token_id], context
        )
    clean = getattr(tokenizer, "clean_fn", str)
    return Reading(lambda text: inner(clean(text), verbose=False).input_ids, context)


def inputs_of(model: str) -> tuple[int, str, Reading]:
    """What `slugkit.data.open_data` is to know of a model (any name of `slugkit.models.load_clip`):
    edge of its pictures, their fit, how it reads texts. A folder's files that say so are noted
    (`slugkit.base.look_for`). No weights are loaded. Raises ModelLoadError as `load_clip`.
    """
    from slugkit.models.clip import picture_size, source_of

    size, source = picture_size(model), source_of(model)
    for end in ("*.json", "*.txt"):
        for file in source.folder.glob(end) if source.folder else ():
            look_for(file)
    expected = "The tokenizer that the model was trained with was expected beside it."
    with loading(model, source.folder or model, expected):
        return *size, reading_of(source.tokenizer())
