"""Checkpoints of random weights in the published formats and sizes: what a loader, a layer table
and a memory plan can be tried on without a hub.

Nothing was learned, so nothing can be forgotten; names, shapes, files, memory and time are those of
the real thing. A pipeline or a LLaVA is built around the CLIP folder that is named, whose tower it
shares weight by weight, as the published ones share theirs.
"""

from __future__ import annotations

from pathlib import Path

import torch

from slugkit.base import ModelLoadError, SettingError, require_choice, write_json, write_tensors
from slugkit.models import load_clip
from slugkit.models.clip import CONFIG, WEIGHTS
from slugkit.models.convert import text_tower, to_transformers, vision_tower
from slugkit.models.hub import read_json

CLIPS = ("open_clip", "transformers")
PIPELINES = {
    "sd15": ["ViT-L-14-quickgelu"],
    "sd21": ["ViT-H-14"],
    "sdxl": ["ViT-L-14-quickgelu", "ViT-bigG-14"],
}
"""Pipelines and the architectures of their CLIPs (slug-method.md section 5.1; SDXL's own
configuration).
"""
VLMS = {
    "llava15": ("ViT-L-14-336-quickgelu", "Llava"),
    "llava16": ("ViT-L-14-336-quickgelu", "LlavaNext"),
    "vipllava": ("ViT-L-14-336-quickgelu", "VipLlava"),
}
"""LLaVAs: the architecture of their CLIP, and transformers' name of the class, whose configuration
is the published model's where nothing else is said.
"""
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
    """CLIP's own tokenizer in transformers' class, from the vocabulary that open_clip ships."""
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
    from open_clip.model import CLIP, CustomTextCLIP

    require_choice(form, CLIPS, "The form of a CLIP")
    require_choice(architecture, open_clip.list_models(), "The architecture")
    config = open_clip.get_model_config(architecture)
    for tower in small:
        require_choice(tower, SMALL, "The tower")
        config[f"{tower}_cfg"] |= SMALL[tower]
    out = _need_new(out)
    torch.manual_seed(seed)
    parts = {name: part for name, part in config.items() if name != "custom_text"}
    custom = config.get("custom_text") or "hf_model_name" in config["text_cfg"]
    net = (CustomTextCLIP if custom else CLIP)(**parts).eval()
    if form == "transformers":
        to_transformers(net).save_pretrained(out)
        clip_tokenizer(net.context_length).save_pretrained(out)
        _pictures(net.visual.image_size[0]).save_pretrained(out)
        return out
    siglip, constants = "SigLIP" in architecture, open_clip.constants
    cut = {
        "mean": constants.INCEPTION_MEAN if siglip else constants.OPENAI_DATASET_MEAN,
        "std": constants.INCEPTION_STD if siglip else constants.OPENAI_DATASET_STD,
        "resize_mode": "squash" if siglip else "shortest",
        "interpolation": "bicubic",
    }
    if config["text_cfg"].get("hf_tokenizer_name"):
        _plain_tokenizer(config["text_cfg"]["context_length"]).save_pretrained(out)
        config["text_cfg"]["hf_tokenizer_name"] = str(out.name)
    write_tensors(out / WEIGHTS, net.state_dict())
    write_json(out / CONFIG, {"model_cfg": config, "preprocess_cfg": cut})
    return out


def _pictures(size: int, kind: str = "CLIP", **more):
    """transformers' image processor with OpenAI's normalisation, for pictures of `size` pixels."""
    import transformers

    edges = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return getattr(transformers, f"{kind}ImageProcessor")(**edges, **more)


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


def _need_clip(folder: str | Path, architecture: str, tower: str):
    """The open_clip class of a CLIP folder whose tower has the size of an architecture's.

    Raises ModelLoadError.
    """
    import open_clip

    net = load_clip(str(folder), "cpu").model
    blocks = (net.visual if tower == "vision" else net).transformer.resblocks
    found = blocks[0].mlp.c_fc.in_features, len(blocks)
    known = open_clip.get_model_config(architecture)[f"{tower}_cfg"]
    if found != (known["width"], known["layers"]):
        raise ModelLoadError(
            f"The {tower} tower of {Path(folder).name!r} has width {found[0]} and {found[1]}"
            f" blocks; {known['width']} and {known['layers']} were expected. Write a CLIP of the"
            f" architecture {architecture} first."
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
"""What the published UNets' own config.json say beside diffusers' defaults."""


def _unet(kind: str, reduced: bool, text_width: int, pooled_width: int):
    from diffusers import UNet2DConditionModel

    config = dict(UNETS[kind])
    if reduced:  # keeps what reads the text, and loses width and depth
        widths = (32, 64, 64) if kind == "sdxl" else (32, 64, 64, 64)
        config |= {"sample_size": 8, "block_out_channels": widths, "layers_per_block": 1}
        config |= {"attention_head_dim": 4, "transformer_layers_per_block": 1}
    if kind == "sdxl":
        times = 6 * config["addition_time_embed_dim"]
        config["projection_class_embeddings_input_dim"] = pooled_width + times
    return UNet2DConditionModel(cross_attention_dim=text_width, **config)


def _vae(kind: str, reduced: bool):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32) if reduced else (128, 256, 512, 512),
        layers_per_block=1 if reduced else 2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=1024 if kind == "sdxl" else 512,
        scaling_factor=0.13025 if kind == "sdxl" else 0.18215,
    )


def pipeline_of(kind: str, nets: list, reduced: bool = False):
    """`write_pipeline` in memory, around CLIPs of open_clip's class, whatever their size."""
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
        return diffusers.StableDiffusionXLPipeline(*parts, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def write_pipeline(
    kind: str, clips: list[str | Path], out: str | Path, reduced: bool = False, seed: int = 0
) -> Path:
    """A Stable Diffusion of random weights around the text towers of CLIPs. Returns the folder.

    kind: sd15, sd21 (which keeps 23 of ViT-H-14's 24 blocks) or sdxl (two CLIPs, in its order).
    reduced: a narrow UNet and coder behind text encoders of full size. Raises SettingError,
    ModelLoadError for a CLIP of another size.
    """
    wanted = PIPELINES[require_choice(kind, PIPELINES, "The pipeline")]
    if len(clips) != len(wanted):
        raise SettingError(
            f"{kind} reads with the text towers of {' and '.join(wanted)}, and {len(clips)} CLIP"
            f" folders were given; {len(wanted)} expected."
        )
    nets = [_need_clip(folder, name, "text") for folder, name in zip(clips, wanted)]
    out = _need_new(out)
    torch.manual_seed(seed)
    pipeline_of(kind, nets, reduced).save_pretrained(out)
    return out


def vlm_of(kind: str, tower, reduced: bool = False) -> tuple:
    """`write_vlm` in memory, around a tower of any size: the model and its processor."""
    import transformers

    from slugkit.models.vlm import TEMPLATE

    tokenizer, name = clip_tokenizer(4096), VLMS[kind][1]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<pad>"})
    narrow = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        **(narrow | {"num_attention_heads": 4} if reduced else {}),
    )
    size, patch = tower.config.image_size, tower.config.patch_size
    grid, pictures = {}, "CLIP"
    if kind == "llava16":  # cuts a picture into sizes of its tower's, height and width
        shapes = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
        grid = {"image_grid_pinpoints": [[h * size, w * size] for h, w in shapes]}
        pictures = "LlavaNext"
    config = getattr(transformers, f"{name}Config")(
        **grid,
        vision_config=tower.config,
        text_config=text,
        image_seq_length=(size // patch) ** 2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    family = "LlavaNext" if kind == "llava16" else "Llava"
    processor = getattr(transformers, f"{family}Processor")(
        image_processor=_pictures(size, pictures, **grid),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model.eval(), processor


def write_vlm(
    kind: str, clip: str | Path, out: str | Path, reduced: bool = False, seed: int = 0
) -> Path:
    """A LLaVA of random weights around the vision tower of a CLIP, with CLIP's tokenizer. Returns
    the folder.

    kind: llava15, llava16 (LLaVA-NeXT, which cuts a picture into several) or vipllava (which reads
    five layers). reduced: a language model of two narrow layers in the place of seven billion
    weights. Raises SettingError, ModelLoadError for a CLIP of another size.
    """
    architecture = VLMS[require_choice(kind, VLMS, "The model")][0]
    tower = vision_tower(_need_clip(clip, architecture, "vision"))
    out = _need_new(out)
    torch.manual_seed(seed)
    for part in vlm_of(kind, tower, reduced):
        part.save_pretrained(out)
    return out


def described(folder: str | Path) -> str:
    """One line about a checkpoint folder: its class and the size of its files in GB."""
    files = [Path(folder) / name for name in ("model_index.json", "config.json", CONFIG)]
    known = next((said for said in map(read_json, files) if said), {})
    kind = known.get("_class_name") or (known.get("architectures") or ["open_clip"])[0]
    size = sum(p.stat().st_size for p in Path(folder).rglob("*.safetensors")) / 1e9
    return f"{kind}, {size:.2f} GB of random weights in {folder}"
