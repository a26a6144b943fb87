"""The tiny CLIP of `tiny_clip` in transformers' classes."""

from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from slugkit.models.weight_map import locate

TEXT = CLIPTextConfig(
    hidden_size=32,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    vocab_size=50,
    hidden_act="gelu",
    max_position_embeddings=8,
    bos_token_id=48,
    eos_token_id=49,
    pad_token_id=0,
)

VISION = CLIPVisionConfig(
    hidden_size=32,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=16,
    patch_size=8,
    hidden_act="gelu",
)


def whole() -> CLIPModel:
    """Both towers, of weights that `filled` replaces."""
    return CLIPModel(
        CLIPConfig(text_config=TEXT.to_dict(), vision_config=VISION.to_dict(), projection_dim=16)
    ).eval()


def filled(model, clip):
    """The model with every weight of the CLIP that it has a place for."""
    for name, weight in clip.named_parameters():
        place = locate(model, name)
        if place is not None:
            place.write(weight.detach())
    return model
