"""Models of random weights in the published formats, of full size or narrow: what loaders, layer
tables and memory plans are tried on without a hub.

A pipeline or a LLaVA is built around a CLIP, whose tower it shares weight by weight.
"""

from pathlib import Path

import diffusers
import open_clip
import torch
import transformers
from open_clip.model import CLIP, CustomTextCLIP

from slugkit.base import write_json, write_tensors
from slugkit.models import load_clip
from slugkit.models.clip import CONFIG, WEIGHTS
from slugkit.models.convert import text_tower, to_transformers, vision_tower
from slugkit.models.vlm import TEMPLATE

PIPELINES = ("sd15", "sd21", "sdxl")
VLMS = {"llava15": "Llava", "llava16": "LlavaNext", "vipllava": "VipLlava"}
"""Kind -> transformers' name of the class, with the published model's configuration."""
SMALL = {
    "vision": {"layers": 2, "width": 64, "head_width": 16},
    "text": {"layers": 2, "width": 64, "heads": 4},
}
UNETS = {
    "sd15": dict(sample_size=64, attention_head_dim=8),
    "sd21": dict(sample_size=96, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
    "sdxl": dict(
        sample_size=128,
        attention_head_dim=(5, 10, 20),
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
    ),
}
"""What the published UNets' own config.json say beside diffusers' defaults."""


def clip_tokenizer(length: int = 77):
    """CLIP's own tokenizer in transformers' class, from the vocabulary that open_clip ships."""
    known = open_clip.SimpleTokenizer()
    merges = sorted(known.bpe_ranks, key=known.bpe_ranks.get)
    start, end = "<|startoftext|>", "<|endoftext|>"
    called = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {called.get(token, token): i for token, i in known.encoder.items()}
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    return transformers.CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=length, **special
    )


def _byte_tokenizer(length: int):
    """A tokenizer of bytes for architectures whose own vocabulary lies on a hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", model_max_length=length
    )


def _pictures(size: int, kind: str = "CLIP", **more):
    """transformers' image processor with OpenAI's normalisation, for pictures of `size` pixels."""
    edges = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return getattr(transformers, f"{kind}ImageProcessor")(**edges, **more)


def write_clip(architecture: str, out, form: str = "open_clip", seed: int = 0, small=()) -> Path:
    """A CLIP of one of open_clip's architectures, in open_clip's or transformers' form; `small`
    names towers with two narrow layers, open_clip's own in the place of timm's. Returns the folder.
    """
    out, config = Path(out), open_clip.get_model_config(architecture)
    out.mkdir(parents=True, exist_ok=True)
    for tower in small:
        own = {k: v for k, v in config[f"{tower}_cfg"].items() if not k.startswith("timm_")}
        config[f"{tower}_cfg"] = own | SMALL[tower]
    torch.manual_seed(seed)
    parts = {name: part for name, part in config.items() if name != "custom_text"}
    custom = config.get("custom_text") or "hf_model_name" in config["text_cfg"]
    net = (CustomTextCLIP if custom else CLIP)(**parts).eval()
    if form == "transformers":
        to_transformers(net).save_pretrained(out)
        clip_tokenizer(net.context_length).save_pretrained(out)
        _pictures(net.visual.image_size[0]).save_pretrained(out)
        return out
    if config["text_cfg"].get("hf_tokenizer_name"):
        _byte_tokenizer(config["text_cfg"]["context_length"]).save_pretrained(out)
        config["text_cfg"]["hf_tokenizer_name"] = str(out.name)
    siglip, constants = "SigLIP" in architecture, open_clip.constants
    cut = {
        "mean": constants.INCEPTION_MEAN if siglip else constants.OPENAI_DATASET_MEAN,
        "std": constants.INCEPTION_STD if siglip else constants.OPENAI_DATASET_STD,
        "resize_mode": "squash" if siglip else "shortest",
        "interpolation": "bicubic",
    }
    write_tensors(out / WEIGHTS, net.state_dict())
    write_json(out / CONFIG, {"model_cfg": config, "preprocess_cfg": cut})
    return out


def _unet(kind: str, reduced: bool, text_width: int, pooled_width: int):
    config = dict(UNETS[kind])
    if reduced:  # keeps what reads the text, and loses width and depth
        widths = (32, 64, 64) if kind == "sdxl" else (32, 64, 64, 64)
        config |= {"sample_size": 8, "block_out_channels": widths, "layers_per_block": 1}
        config |= {"attention_head_dim": 4, "transformer_layers_per_block": 1}
    if kind == "sdxl":
        times = 6 * config["addition_time_embed_dim"]
        config["projection_class_embeddings_input_dim"] = pooled_width + times
    return diffusers.UNet2DConditionModel(cross_attention_dim=text_width, **config)


def _vae(kind: str, reduced: bool):
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32) if reduced else (128, 256, 512, 512),
        layers_per_block=1 if reduced else 2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=1024 if kind == "sdxl" else 512,
        scaling_factor=0.13025 if kind == "sdxl" else 0.18215,
    )


def pipeline_of(kind: str, nets: list, reduced: bool = False):
    """A Stable Diffusion around the text towers of CLIPs of open_clip's class (sdxl: two).

    reduced: a narrow UNet and coder behind text encoders of full size.
    """
    encoders, tokenizers = [], [clip_tokenizer(net.context_length) for net in nets]
    for number, net in enumerate(nets):
        layers = len(net.transformer.resblocks) - 1 if kind == "sd21" else 0
        encoders.append(text_tower(net, layers=layers, projection=number == 1))
    width = sum(net.token_embedding.embedding_dim for net in nets)
    unet, vae = _unet(kind, reduced, width, nets[-1].text_projection.shape[1]), _vae(kind, reduced)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if kind == "sd21" else "epsilon",
    )
    parts = (vae, *encoders, *tokenizers, unet, scheduler)
    if kind == "sdxl":
        return diffusers.StableDiffusionXLPipeline(*parts, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def vlm_of(kind: str, tower, reduced: bool = False) -> tuple:
    """A LLaVA around a vision tower of transformers' class, and its processor, with CLIP's
    tokenizer.

    reduced: a language model of two narrow layers in the place of seven billion weights.
    """
    tokenizer = clip_tokenizer(4096)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<pad>"})
    narrow = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        **(narrow | {"num_attention_heads": 4} if reduced else {}),
    )
    size, patch = tower.config.image_size, tower.config.patch_size
    grid, cuts = {}, kind == "llava16"  # cuts a picture into sizes of its tower's, height and width
    if cuts:
        shapes = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
        grid = {"image_grid_pinpoints": [[h * size, w * size] for h, w in shapes]}
    config = getattr(transformers, f"{VLMS[kind]}Config")(
        **grid,
        vision_config=tower.config,
        text_config=text,
        image_seq_length=(size // patch) ** 2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = getattr(transformers, f"{VLMS[kind]}ForConditionalGeneration")(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    processor = getattr(transformers, f"{'LlavaNext' if cuts else 'Llava'}Processor")(
        image_processor=_pictures(size, "LlavaNext" if cuts else "CLIP", **grid),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model.eval(), processor


def write_around(kind: str, clips: list, out, reduced: bool = False, seed: int = 0) -> Path:
    """A pipeline (sd15, sd21, sdxl) or a LLaVA around the CLIPs of these folders. Returns its
    folder.
    """
    nets = [load_clip(str(folder), "cpu").model for folder in clips]
    torch.manual_seed(seed)
    if kind in PIPELINES:
        parts = [pipeline_of(kind, nets, reduced)]
    else:
        parts = vlm_of(kind, vision_tower(nets[0]), reduced)
    for part in parts:
        part.save_pretrained(out)
    return Path(out)
