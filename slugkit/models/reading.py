"""How a model reads: the edge of its pictures, and as much of a text as its context takes. Known
from its files alone, before any weight is loaded.
"""

from __future__ import annotations

from slugkit.base import ModelLoadError, look_for
from slugkit.data.reading import Reading
from slugkit.models.hub import plain_classes


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
    (`slugkit.base.look_for`).

    Raises ModelLoadError as `load_clip`. No weights are loaded.
    """
    import open_clip

    from slugkit.models.clip import CONFIG, model_folder, picture_size

    size, folder = picture_size(model), model_folder(model)
    schema, _, _ = model.rpartition(":")
    where = str(folder or model)
    for end in ("*.json", "*.txt"):
        for file in folder.glob(end) if folder else ():
            look_for(file)
    try:
        with plain_classes(model, folder or model):
            if folder is not None and (folder / CONFIG).is_file():
                tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
            elif folder is not None or not schema:
                from transformers import AutoConfig

                config = AutoConfig.from_pretrained(where, trust_remote_code=False)
                context = config.text_config.max_position_embeddings
                tokenizer = open_clip.tokenizer.HFTokenizer(where, context_length=context)
            else:
                tokenizer = open_clip.get_tokenizer(model if schema == "hf-hub" else schema)
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"The tokenizer of {model!r} could not be read: {error}. The one that the model was "
            "trained with was expected beside it. Nothing was changed."
        ) from error
    return *size, reading_of(tokenizer)
