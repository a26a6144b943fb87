"""Checkpoints of random weights in the published formats and sizes: what a loader, a layer table
and a memory plan can be tried on without a hub.

Nothing was learned, so nothing can be forgotten; names, shapes, files, memory and time are those of
the real thing. A pipeline or a LLaVA is built around the CLIP folder that is named, whose tower it
shares weight by weight, as the published ones share theirs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from slugkit.base import ModelLoadError, SettingError, require_choice, write_json, write_tensors
from slugkit.models import load_clip
from slugkit.models.clip import CONFIG, WEIGHTS
from slugkit.models.convert import text_tower, to_transformers, vision_tower

CLIPS = ("open_clip", "transformers")
PIPELINES = {
    "sd15": "ViT-L-14-quickgelu",
    "sd21": "ViT-H-14",
    "sdxl": "ViT-L-14-quickgelu and ViT-bigG-14",
}
"""Pipelines and the architectures of their CLIPs (slug-method.md section 5.1; SDXL's two are stated
in its own configuration).
"""
VLMS = {
    "llava15": ("ViT-L-14-336-quickgelu", "Llava", -2),
    "llava16": ("ViT-L-14-336-quickgelu", "LlavaNext", -2),
    "vipllava": ("ViT-L-14-336-quickgelu", "VipLlava", [-2, -5, -8, -11, 6]),
}
"""LLaVAs: the architecture of their CLIP, transformers' name of the class, the vision layers that
they read (their own config.json).
"""
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SMALL = {
    "vision": {"layers": 2, "width": 64, "head_width": 16},
    "text": {"layers": 2, "width": 64, "heads": 4},
}


def _need_new(out: str | Path) -> Path:
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise SettingError(
            f"{out} is there already; a new folder was expected, so that no checkpoint is"
            " overwritten. Choose another name, or delete it."
        )
    out.mkdir(parents=True, exist_ok=True)
    return out


def clip_tokenizer(length: int = 77):
    """CLIP's own byte-pair tokenizer in transformers' class, from the vocabulary that open_clip
    ships (49,408 entries).
    """
    import open_clip
    from transformers import CLIPTokenizer

    known = open_clip.SimpleTokenizer()
    merges = sorted(known.bpe_ranks, key=known.bpe_ranks.get)
    start, end = "<|startoftext|>", "<|endoftext|>"
    called = {"<start_of_text>": start, "<end_of_text>": end}
    vocabulary = {called.get(token, token): i for token, i in known.encoder.items()}
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length, **special)


def write_clip(
    architecture: str,
    out: str | Path,
    form: str = "open_clip",
    seed: int = 0,
    small: tuple[str, ...] = (),
) -> Path:
    """A CLIP of random weights. Returns the folder.

    architecture: a name of open_clip, such as ViT-B-32. form: open_clip (open_clip_config.json and
    safetensors) or transformers (CLIPModel, tokenizer, image processor). small: towers ("vision",
    "text") with two narrow layers in the place of the published size. Raises SettingError,
    ModelLoadError.
    """
    import open_clip

    require_choice(form, CLIPS, "The form of a CLIP")
    require_choice(architecture, open_clip.list_models(), "The architecture")
    config = open_clip.get_model_config(architecture)
    for tower in small:
        require_choice(tower, SMALL, "The tower")
        config[f"{tower}_cfg"] |= SMALL[tower]
    out = _need_new(out)
    torch.manual_seed(seed)
    net = _random_clip(config)
    if form == "open_clip":
        cut = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "resize_mode": "shortest"}
        if "SigLIP" in architecture:
            cut = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
        cut["interpolation"] = "bicubic"
        if config["text_cfg"].get("hf_tokenizer_name"):
            _plain_tokenizer(config["text_cfg"]["context_length"]).save_pretrained(out)
            config["text_cfg"]["hf_tokenizer_name"] = str(out.name)
        write_tensors(out / WEIGHTS, net.state_dict())
        write_json(out / CONFIG, {"model_cfg": config, "preprocess_cfg": cut})
        return out
    from transformers import CLIPImageProcessor

    to_transformers(net).save_pretrained(out)
    clip_tokenizer(net.context_length).save_pretrained(out)
    CLIPImageProcessor(**_cut(net.visual.image_size[0])).save_pretrained(out)
    return out


def _cut(size: int) -> dict:
    """OpenAI's way to cut a picture to `size` pixels, as transformers' image processors take it."""
    edges = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return {**edges, "image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}


def _random_clip(config: dict):
    """A CLIP of open_clip's own class for a configuration, float32."""
    from open_clip.model import CLIP, CustomTextCLIP

    config = dict(config)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    return (CustomTextCLIP if custom else CLIP)(**config).eval()


def _plain_tokenizer(length: int):
    """A tokenizer of bytes for architectures whose own vocabulary lies on a hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", model_max_length=length
    )


def _need_clip(folder: str | Path, width: int, depth: int, what: str):
    """The open_clip class of a CLIP folder whose tower has the size that a model wants.

    Raises ModelLoadError.
    """
    net = load_clip(str(folder), "cpu").model
    tower, found_width = net, net.token_embedding.embedding_dim
    if what.startswith("vision"):
        tower, found_width = net.visual, net.visual.conv1.out_channels
    found = (found_width, len(tower.transformer.resblocks))
    if found != (width, depth):
        raise ModelLoadError(
            f"The {what} of {Path(folder).name!r} has width {found[0]} and {found[1]} blocks;"
            f" {width} and {depth} were expected. Write the CLIP of the architecture that the model"
            " was made with first."
        )
    return net


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
"""The published UNets (their own config.json); reduced ones keep what reads the text and lose width
and depth.
"""


def _unet(kind: str, reduced: bool, text_width: int, pooled_width: int):
    from diffusers import UNet2DConditionModel

    config = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, **UNETS[kind]}
    if reduced:
        widths = (32, 64, 64, 64)[: len(config["block_out_channels"])]
        config |= {"sample_size": 8, "block_out_channels": widths, "layers_per_block": 1}
        config |= {"attention_head_dim": 4, "transformer_layers_per_block": 1}
    if kind == "sdxl":
        times = 6 * config["addition_time_embed_dim"]
        config["projection_class_embeddings_input_dim"] = pooled_width + times
    return UNet2DConditionModel(cross_attention_dim=text_width, **config)


def _vae(kind: str, reduced: bool):
    from diffusers import AutoencoderKL

    widths = (32, 32, 32, 32) if reduced else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=1 if reduced else 2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=1024 if kind == "sdxl" else 512,
        scaling_factor=0.13025 if kind == "sdxl" else 0.18215,
    )


def pipeline_of(kind: str, nets: list, reduced: bool = False):
    """A Stable Diffusion of random weights around the text towers of CLIPs of open_clip's class,
    whatever their size.

    Arguments as of `write_pipeline`.
    """
    import diffusers

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
        how = {"force_zeros_for_empty_prompt": True, "add_watermarker": False}
        return diffusers.StableDiffusionXLPipeline(*parts, **how)
    return diffusers.StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def write_pipeline(
    kind: str, clips: list[str | Path], out: str | Path, reduced: bool = False, seed: int = 0
) -> Path:
    """A Stable Diffusion of random weights around the text towers of CLIPs. Returns the folder.

    kind: sd15, sd21 (which keeps 23 of ViT-H-14's 24 blocks) or sdxl (two CLIPs, in its order).
    reduced: a narrow UNet and coder behind text encoders of full size. Raises SettingError,
    ModelLoadError for a CLIP of another size.
    """
    require_choice(kind, PIPELINES, "The pipeline")
    sizes = {"sd15": [(768, 12)], "sd21": [(1024, 24)], "sdxl": [(768, 12), (1280, 32)]}[kind]
    if len(clips) != len(sizes):
        raise SettingError(
            f"{kind} reads with the text towers of {PIPELINES[kind]}, and {len(clips)} CLIP folders"
            f" were given; {len(sizes)} expected."
        )
    nets = [_need_clip(folder, *size, "text tower") for folder, size in zip(clips, sizes)]
    out = _need_new(out)
    torch.manual_seed(seed)
    pipeline_of(kind, nets, reduced).save_pretrained(out)
    return out


def grids(size: int) -> list[list[int]]:
    """The sizes, height and width, in which LLaVA-NeXT may cut a picture for a tower of this many
    pixels (published: 336).
    """
    return [[h * size, w * size] for h, w in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]


def vlm_of(kind: str, tower, reduced: bool = False) -> tuple:
    """A LLaVA of random weights around a vision tower of transformers' class, whatever its size,
    and its processor.

    Arguments as of `write_vlm`.
    """
    import transformers

    tokenizer = clip_tokenizer(4096)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<pad>"})
    width, inner, layers, heads = (64, 128, 2, 4) if reduced else (4096, 11008, 32, 32)
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
    )
    name, read = VLMS[kind][1:]
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    grid = {"image_grid_pinpoints": grids(tower.config.image_size)} if kind == "llava16" else {}
    config = getattr(transformers, f"{name}Config")(
        **grid,
        vision_config=tower.config,
        text_config=text,
        image_seq_length=patches,
        vision_feature_layer=read,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model.eval(), _processor(kind, tokenizer, tower.config)


def write_vlm(
    kind: str, clip: str | Path, out: str | Path, reduced: bool = False, seed: int = 0
) -> Path:
    """A LLaVA of random weights around the vision tower of a CLIP. Returns the folder.

    kind: llava15, llava16 (LLaVA-NeXT, which cuts a picture into several) or vipllava (which reads
    five layers). reduced: a language model of two narrow layers in the place of seven billion
    weights. The tokenizer is CLIP's. Raises SettingError, ModelLoadError for a CLIP of another
    size.
    """
    require_choice(kind, VLMS, "The model")
    tower = vision_tower(_need_clip(clip, 1024, 24, "vision tower"))
    out = _need_new(out)
    torch.manual_seed(seed)
    for part in vlm_of(kind, tower, reduced):
        part.save_pretrained(out)
    return out


def _processor(kind: str, tokenizer, vision):
    """The processor that goes with the model: OpenAI's normalisation, one `<image>` token for each
    patch.
    """
    import transformers

    from slugkit.models.vlm import TEMPLATE

    cut, family = _cut(vision.image_size), "Llava"
    pictures = transformers.CLIPImageProcessor
    if kind == "llava16":
        family, pictures = "LlavaNext", transformers.LlavaNextImageProcessor
        cut["image_grid_pinpoints"] = grids(vision.image_size)
    return getattr(transformers, f"{family}Processor")(
        image_processor=pictures(**cut),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def described(folder: str | Path) -> str:
    """One line about a checkpoint folder: its class and the size of its files in GB."""
    folder = Path(folder)
    names = [n for n in ("model_index.json", "config.json", CONFIG) if (folder / n).is_file()]
    known = json.loads((folder / names[0]).read_text(encoding="utf-8"))
    kind = known.get("_class_name") or (known.get("architectures") or ["open_clip"])[0]
    return (
        f"{kind}, {sum(p.stat().st_size for p in folder.rglob('*.safetensors')) / 1e9:.2f} GB of"
        f" random weights in {folder}"
    )
