"""CLIP models behind one small interface: pictures and texts in, features out.

A model is `studio` (the committed weights); a local folder as open_clip's `local-dir:` schema or
transformers' `save_pretrained` writes it; a published open_clip tag written
`ARCHITECTURE:PRETRAINED`, for example `ViT-B-32:laion400m_e32`, or `ARCHITECTURE:FILE.safetensors`;
or the hub id of a CLIPModel of transformers, such as `openai/clip-vit-large-patch14`
(`hf-hub:ORGANISATION/NAME` for a repository that open_clip wrote).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from slugkit.base import ModelLoadError, data_dir, each, mistyped, pick_device, require_choice
from slugkit.data.reading import Reading, fitting
from slugkit.models.convert import from_transformers, said_activation
from slugkit.models.hub import is_hub_id, loading, local, read_json, require_repository
from slugkit.models.precision import multiplying
from slugkit.models.reading import reading_of

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
Wordings = dict[str, dict[str, list[str]]]
"""Wording -> class -> texts: how the classes of one domain are asked for."""
TEXTS_KEPT = 50_000
"""Texts whose tokens are kept, about 600 bytes each."""


def require_uint8(images: np.ndarray) -> None:
    """Raises ModelLoadError unless pictures are (N, height, width, 3) uint8."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ModelLoadError(
            f"Pictures arrived as {images.dtype} {images.shape}; expected uint8 (N, height, width,"
            " 3)."
        )


@dataclass
class Clip:
    """A loaded CLIP.

    model: open_clip's own class. tokenizer: a list of texts -> (N, context) int64 ids. image_size:
    pixels along an edge. mean, std: per-channel normalisation of pixels in 0..1. source: what was
    asked for. weights: their file or folder, None for a hub's cache. fit: how its preprocessing
    makes a picture square (`slugkit.data.pictures.as_square`).
    """

    model: torch.nn.Module
    tokenizer: object
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    weights: Path | None = None
    fit: str = "crop"
    _known: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.logit_scale.device

    @property
    def scale(self) -> float:
        """exp(logit scale): what cosines are multiplied by in the contrastive loss."""
        return self.model.logit_scale.exp().item()

    @property
    def bias(self) -> float | None:
        """The logit bias of a SigLIP, whose loss is a sigmoid for every pair; None for a CLIP."""
        found = getattr(self.model, "logit_bias", None)
        return None if found is None else found.item()

    @property
    def dtype(self) -> torch.dtype:
        """What the vision tower reads pixels in."""
        modules = self.model.visual.modules()
        kinds = (m.weight.dtype for m in modules if isinstance(m, torch.nn.Conv2d))
        return next(kinds, torch.float32)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 -> (N, size, size, 3) uint8, bicubic where another size came."""
        require_uint8(images)
        size = (self.image_size, self.image_size)
        if images.shape[1:3] == size or not len(images):
            return images

        def one(image: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

        return np.stack(each(one, np.asarray(images)))

    def pixels(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Pictures as the vision tower reads them: (N, 3, size, size), normalised, in its type.

        images: (N, H, W, 3) uint8, in memory, `Pictures`, or a tensor of the right size already.
        """
        if not isinstance(images, torch.Tensor):
            images = torch.from_numpy(np.ascontiguousarray(self.resized(images)))
        n, height, width, _ = images.shape
        if self.device.type == "cpu":
            # numpy's large arrays lie on large pages, which are several times faster to get
            x = torch.from_numpy(np.empty(images.shape, np.float32)).copy_(images)
        else:
            x = images.to(self.device, non_blocking=True).float()
        x = x.view(n, height, 3 * width)  # a row of pixels at a time, channels side by side
        mean, std = (x.new_tensor(side * width) for side in (self.mean, self.std))
        x = x.div_(255).sub_(mean).div_(std)
        return x.view(n, height, width, 3).permute(0, 3, 1, 2).to(self.dtype)

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> (N, context) int64 token ids. Each text is cut into tokens once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        made = dict(zip(new, self.tokenizer(new), strict=True)) if new else {}
        if len(self._known) + len(made) <= TEXTS_KEPT:
            self._known.update(made)
        found = self._known | made if made else self._known
        return torch.stack([found[text] for text in texts]).to(self.device)

    @property
    def inputs(self) -> tuple[int, str, Reading]:
        """What `slugkit.data.open_data` is to know: edge of the pictures, their fit, reading."""
        return self.image_size, self.fit, reading_of(self.tokenizer)

    def wordings(self, prompts: Wordings) -> Wordings:
        """Of a domain's wordings those that are read to their end; all where there is none.

        prompts: wording -> class -> texts. Raises SettingError where two classes that are called
        differently get the same tokens.
        """
        groups = [texts for classes in prompts.values() for texts in classes.values()]
        tokens = self.tokens([text for texts in groups for text in texts])
        rows = torch.split(tokens.cpu(), [len(texts) for texts in groups])
        alike = len({g.numpy().tobytes() for g in rows}) < len({tuple(texts) for texts in groups})
        if alike or (tokens[:, -1] != tokens[:, -2]).any():
            return fitting(prompts, reading_of(self.tokenizer))
        return prompts

    @property
    def batch(self) -> int:
        """Pictures encoded at once without gradients; on a CPU few, that its cache holds."""
        return 32 if self.device.type == "cpu" else 256

    @torch.no_grad()
    @multiplying()
    def _features(self, encode, inputs: Iterable[torch.Tensor]) -> torch.Tensor:
        parts = [encode(batch, normalize=True).float() for batch in inputs]
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    def image_features(self, images: np.ndarray, batch_size: int = 0) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, d) float32 features of unit length."""
        step = batch_size or self.batch
        batches = (images[i : i + step] for i in range(0, len(images), step))
        return self._features(self.model.encode_image, map(self.pixels, batches))

    def text_features(self, texts: list[str], batch_size: int = 256) -> torch.Tensor:
        """N texts -> (N, d) float32 features of unit length."""
        batches = (texts[i : i + batch_size] for i in range(0, len(texts), batch_size))
        return self._features(self.model.encode_text, map(self.tokens, batches))

    def token_features(self, tokens: torch.Tensor, batch_size: int = 256) -> torch.Tensor:
        """(N, context) int64 token ids -> (N, d) float32 features of unit length."""
        return self._features(self.model.encode_text, tokens.split(batch_size))

    @torch.no_grad()
    def class_features(self, prompts: list[list[str]]) -> torch.Tensor:
        """One list of prompts per class -> (C, d): the mean of the prompts' features, brought back
        to unit length. Where all classes have as many, those that are cut are left out of all.
        Raises what `wordings` raises.
        """
        flat = [p for group in prompts for p in group]
        tokens = self.tokens(flat)
        if (tokens[:, -1] != tokens[:, -2]).any() and len({len(group) for group in prompts}) == 1:
            fits = reading_of(self.tokenizer).fits
            whole = [all(map(fits, column)) for column in zip(*prompts)]
            if any(whole):
                prompts = [[p for p, fine in zip(g, whole) if fine] for g in prompts]
        self.wordings({"": {str(i): group for i, group in enumerate(prompts)}})
        features = self.text_features([p for group in prompts for p in group])
        groups = torch.split(features, [len(g) for g in prompts])
        return F.normalize(torch.stack([g.mean(0) for g in groups]), dim=-1)


def model_folder(model: str) -> Path | None:
    """The folder a model is read from, or None for a published tag."""
    if model.startswith("studio"):
        return data_dir() / "studio" / model.replace("studio", "clip", 1)
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None


class Source(NamedTuple):
    """What a name of a model stands for. where: what its library is given: a folder, a hub id,
    open_clip's schema and place, or an architecture. tag: of the architecture, or a file.
    """

    where: str
    tag: str = ""
    folder: Path | None = None
    transformers: bool = False

    def tokenizer(self):
        """The tokenizer that belongs to the model."""
        import open_clip

        if not self.transformers:
            return open_clip.get_tokenizer(self.where)
        context = self.their_config().text_config.max_position_embeddings
        return open_clip.tokenizer.HFTokenizer(self.where, context_length=context)

    def their_config(self):
        """The configuration of a CLIPModel of transformers; ModelLoadError for another model."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.where, trust_remote_code=False)
        if config.model_type != "clip":
            raise ModelLoadError(
                f"{self.where!r} holds a model of the type {config.model_type!r}; 'clip' was"
                " expected. SigLIP and others are loaded through open_clip, by a tag or a folder"
                " with open_clip_config.json. Nothing was changed."
            )
        return config


def source_of(model: str, needed: tuple[str, ...] = (CONFIG,)) -> Source:
    """Any of the module's names resolved, without a look at a hub.

    needed: files that an open_clip folder must hold. Raises ModelLoadError for a folder without
    them, an unknown architecture, or a name of no kind.
    """
    import open_clip

    folder = model_folder(model)
    if folder is not None:
        if (folder / "config.json").is_file() and not (folder / CONFIG).is_file():
            return Source(str(folder), "", folder, True)
        lacking = [name for name in needed if not (folder / name).is_file()]
        if lacking:
            raise ModelLoadError(
                f"The model folder {folder.name!r} has no {lacking[0]}; expected a folder as"
                " open_clip's 'local-dir:' reads it (`slugkit train clip` writes one), or as"
                " transformers' CLIPModel saves itself. Nothing was changed."
            )
        return Source(f"local-dir:{folder}", "", folder)
    schema, _, name = model.rpartition(":")
    if schema == "hf-hub":
        return Source(model)
    if schema and name:
        require_choice(schema, open_clip.list_models(), "The architecture", ModelLoadError)
        return Source(schema, name)
    if is_hub_id(model):
        return Source(model, transformers=True)
    raise ModelLoadError(
        f"{mistyped(model)} model={model!r} is neither 'studio', nor a folder on this machine,"
        " nor a tag such as 'ViT-B-32:laion400m_e32', nor a hub id such as"
        " 'openai/clip-vit-large-patch14'. Train one with `slugkit train clip --data FOLDER`,"
        " or list the tags with open_clip.list_pretrained(). Nothing was changed."
    )


def load_clip(model: str = "studio", device: str = "auto") -> Clip:
    """Load a CLIP by any of the module's names, in open_clip's own class, eval mode, float32.

    Raises ModelLoadError, saying how to get what is missing; nothing is downloaded for a folder or
    the studio.
    """
    import open_clip

    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    target, source = pick_device(device), source_of(model, (CONFIG, WEIGHTS))
    if source.tag:
        _need_tag(source.where, source.tag)
    elif source.folder is None:
        require_repository(source.where.removeprefix("hf-hub:"))
    if source.transformers:
        return _from_transformers(source, model, target)
    file = Path(source.tag) if Path(source.tag).is_file() else None
    beside = _beside(source.where, file) if file else {}
    expected = "A model that open_clip reads was expected; the hub wants a connection."
    with loading(model, source.folder or model.removeprefix("hf-hub:"), expected):
        net = open_clip.create_model(
            source.where, pretrained=source.tag or None, device=target, **beside
        )
        tokenizer = source.tokenizer()
    return _wrap(net, tokenizer, model, source.folder / WEIGHTS if source.folder else file)


def _need_tag(architecture: str, tag: str) -> None:
    """Refuse a tag that open_clip does not know, or weights that are not to be had."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if Path(tag).suffix:
        if Path(tag).suffix != ".safetensors" or not Path(tag).is_file():
            raise ModelLoadError(
                f"{tag} is no safetensors file on this machine; one was expected after the colon,"
                " or a tag of open_clip. Load and save another kind of checkpoint with its own"
                " library first. Nothing was changed."
            )
        return
    known = open_clip.list_pretrained_tags_by_model(architecture)
    require_choice(tag, known, f"Of {architecture} the tag", ModelLoadError)
    repository = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rstrip("/")
    if repository:
        require_repository(repository)


def _beside(architecture: str, file: Path) -> dict:
    """What the configuration beside a file of weights says of activation and normalisation, as
    open_clip's `create_model` takes it; a warning where there is none.

    Raises ModelLoadError where it says another activation than the architecture's name.
    """
    import open_clip

    named = open_clip.get_model_config(architecture).get("quick_gelu", False)
    plain = architecture.removesuffix("-quickgelu")
    said = said_activation(file.parent, "text", open_clips=True)
    if said is None:
        warnings.warn(
            f"No configuration lies beside {file.name}, so it is taken to compute with"
            f" {'QuickGELU' if named else 'GELU'}, as {architecture} does. Weights that were"
            f" trained with another activation are another model: OpenAI's need {plain}-quickgelu.",
            stacklevel=3,
        )
    elif named and said != "quick_gelu":
        raise ModelLoadError(
            f"{architecture} computes with QuickGELU, and the configuration beside {file.name} says"
            f" {said}; one activation was expected. Write {plain}:{file}. Nothing was changed."
        )
    more = {"force_quick_gelu": True} if said == "quick_gelu" else {}
    cut = read_json(file.with_name(CONFIG)).get("preprocess_cfg")
    return more | ({"force_preprocess_cfg": cut} if isinstance(cut, dict) else {})


def _from_transformers(source: Source, model: str, device: torch.device) -> Clip:
    """transformers' CLIPModel in open_clip's class, with its own tokenizer and normalisation."""
    from transformers import CLIPImageProcessor, CLIPModel

    expected = (
        "A folder as `save_pretrained` of CLIPModel, tokenizer and image processor writes it was"
        " expected, with its weights as safetensors."
    )
    with loading(model, source.where, expected) as how:
        source.their_config()
        theirs = CLIPModel.from_pretrained(
            source.where, dtype=torch.float32, trust_remote_code=False, **how
        )
        cut = CLIPImageProcessor.from_pretrained(source.where, trust_remote_code=False)
        tokenizer = source.tokenizer()
    net = from_transformers(theirs).to(device)
    edge, normalisation = int(net.visual.image_size[0]), (cut.image_mean, cut.image_std)
    return Clip(net, tokenizer, edge, *map(tuple, normalisation), model, source.folder)


def _wrap(net, tokenizer, source: str, weights: Path | None) -> Clip:
    cfg = getattr(net.visual, "preprocess_cfg", None) or {}
    mean, std = (tuple(cfg.get(name, (0.5,) * 3)) for name in ("mean", "std"))
    edge, fit = _picture(net.visual.image_size, cfg)
    return Clip(net.eval(), tokenizer, edge, mean, std, source, weights, fit)


def picture_size(model: str = "studio") -> tuple[int, str]:
    """Edge in pixels of the pictures that a model reads, and how they are made square ("crop" or
    "squash"), from its configuration alone.

    Raises ModelLoadError as `load_clip`. Only a repository that open_clip wrote (`hf-hub:`) is
    loaded for it.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    source = source_of(model)
    if source.tag:
        sizes = open_clip.get_model_config(source.where)
        return _picture(
            sizes["vision_cfg"]["image_size"], get_pretrained_cfg(source.where, source.tag)
        )
    if source.transformers and (source.folder or local(model)):
        with loading(model, source.where, "A CLIPModel's config.json was expected."):
            return _picture(source.their_config().vision_config.image_size, {})
    if source.folder:
        known = read_config(source.folder)
        size = known["model_cfg"]["vision_cfg"]["image_size"]
        return _picture(size, known.get("preprocess_cfg"))
    clip = load_clip(model, "cpu")
    return clip.image_size, clip.fit


def _picture(size, preprocessing: dict | None) -> tuple[int, str]:
    """Edge and fit of a model's pictures, from what open_clip's configurations say."""
    squashed = (preprocessing or {}).get("resize_mode") == "squash"
    edge = size[0] if isinstance(size, (tuple, list)) else size
    return int(edge), "squash" if squashed else "crop"


def read_config(folder: Path) -> dict:
    """The open_clip configuration of a model folder."""
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
