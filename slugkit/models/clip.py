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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from slugkit.base import ModelLoadError, data_dir, each, mistyped, pick_device, require_choice
from slugkit.data.reading import Reading, fitting
from slugkit.models.convert import from_transformers, said_activation
from slugkit.models.hub import (
    in_cache,
    no_loading_bars,
    plain_classes,
    read_json,
    require_repository,
    variant,
)
from slugkit.models.precision import multiplying
from slugkit.models.reading import reading_of

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
Wordings = dict[str, dict[str, list[str]]]
"""Wording -> class -> texts: how the classes of one domain are asked for."""
TEXTS_KEPT = 50_000
"""Texts whose tokens are kept, about 600 bytes each."""


@dataclass
class Clip:
    """A loaded CLIP.

    `model` is open_clip's own class; `tokenizer` turns a list of texts into (N, context) int64 ids.

    image_size: pixels along an edge. mean, std: per-channel normalisation of pixels in 0..1.
    source: what was asked for.
    weights: file or folder of the weights, or None when they come from a hub's cache. fit: how its
    preprocessing makes a picture square (`slugkit.data.pictures.as_square`). A SigLIP has a logit
    bias beside its logit scale, and its own loss.
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
        """Where the weights are."""
        return self.model.logit_scale.device

    @property
    def scale(self) -> float:
        """exp(logit scale): what cosines are multiplied by in the contrastive loss."""
        return self.model.logit_scale.exp().item()

    @property
    def bias(self) -> float | None:
        """The logit bias of a SigLIP, whose loss is a sigmoid for every pair; None for a CLIP
        trained with InfoNCE.
        """
        found = getattr(self.model, "logit_bias", None)
        return None if found is None else found.item()

    @property
    def dtype(self) -> torch.dtype:
        """What the vision tower reads pixels in: float32, or the type of a model in half
        precision.
        """
        filters = (
            m.weight.dtype for m in self.model.visual.modules() if isinstance(m, torch.nn.Conv2d)
        )
        return next(filters, torch.float32)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 -> (N, size, size, 3) uint8, bicubic where they are not of that size
        yet.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise ModelLoadError(
                f"Pictures arrived as {images.dtype} {images.shape}; expected uint8 (N, height,"
                " width, 3)."
            )
        size = (self.image_size, self.image_size)
        if images.shape[1:3] == size or not len(images):
            return images

        def one(image: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

        return np.stack(each(one, np.asarray(images)))

    def pixels(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Pictures as the vision tower reads them: (N, 3, size, size), normalised, in the tower's
        own type.

        images: (N, H, W, 3) uint8, in memory, `Pictures`, or a tensor whose pictures have the right
        size already.
        """
        if not isinstance(images, torch.Tensor):
            images = torch.from_numpy(np.ascontiguousarray(self.resized(images)))
        n, height, width, _ = images.shape
        if (
            self.device.type == "cpu"
        ):  # numpy's large arrays lie on large pages, which are several times faster to get
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
        return torch.stack(
            [self._known[text] if text in self._known else made[text] for text in texts]
        ).to(self.device)

    @property
    def inputs(self) -> tuple[int, str, Reading]:
        """What `slugkit.data.open_data` is to know of the model: edge of its pictures, their fit,
        how it reads texts.
        """
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
        """Pictures encoded at once without gradients: few on a CPU, where a small batch stays in
        its cache.
        """
        return 32 if self.device.type == "cpu" else 256

    @torch.no_grad()
    @multiplying()
    def image_features(self, images: np.ndarray, batch_size: int = 0) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, d) float32 features of unit length.

        batch_size: 0 takes `batch`.
        """
        batch_size = batch_size or self.batch
        parts = [
            self.model.encode_image(self.pixels(images[i : i + batch_size]), normalize=True).float()
            for i in range(0, len(images), batch_size)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    @torch.no_grad()
    @multiplying()
    def text_features(self, texts: list[str], batch_size: int = 256) -> torch.Tensor:
        """N texts -> (N, d) float32 features of unit length."""
        parts = [
            self.model.encode_text(self.tokens(texts[i : i + batch_size]), normalize=True).float()
            for i in range(0, len(texts), batch_size)
        ]
        return torch.cat(parts)

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


def load_clip(model: str = "studio", device: str = "auto") -> Clip:
    """Load a CLIP by any of the module's names.

    Returns open_clip's own class in eval mode, float32.

    Raises ModelLoadError, saying how to get what is missing; nothing is downloaded for a folder or
    the studio.
    """
    import open_clip

    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    target, folder = pick_device(device), model_folder(model)
    if folder is not None:
        return _from_folder(folder, model, target)
    schema, _, name = model.rpartition(":")
    if not schema:
        if _is_hub_id(model):
            require_repository(model)
            return _from_transformers(model, model, target, None)
        raise ModelLoadError(
            f"{mistyped(model)} model={model!r} is neither 'studio', nor a folder on this machine,"
            " nor a tag such as 'ViT-B-32:laion400m_e32', nor a hub id such as"
            " 'openai/clip-vit-large-patch14'. Train one with `slugkit train clip --data FOLDER`,"
            " or list the tags with open_clip.list_pretrained(). Nothing was changed."
        )
    if schema != "hf-hub":
        _need_tag(schema, name)
    else:
        require_repository(name)
    beside = _beside(schema, Path(name)) if Path(name).is_file() else {}
    try:
        with plain_classes(model, name):
            if schema == "hf-hub":
                net, tokenizer = (
                    open_clip.create_model(model, device=target),
                    open_clip.get_tokenizer(model),
                )
            else:
                net, tokenizer = (
                    open_clip.create_model(schema, pretrained=name, device=target, **beside),
                    open_clip.get_tokenizer(schema),
                )
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"open_clip could not load {model!r}: {error}. The weights come from a model hub: run"
            " once with a connection, or pass a folder that holds them. Nothing was changed."
        ) from error
    return _wrap(net, tokenizer, model, Path(name) if Path(name).is_file() else None)


def _need_tag(architecture: str, tag: str) -> None:
    """Refuse an architecture or tag that open_clip does not know, and weights that are neither here
    nor to be had, before anything is fetched.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    require_choice(architecture, open_clip.list_models(), "The architecture", ModelLoadError)
    if Path(tag).suffix:
        if Path(tag).suffix != ".safetensors" or not Path(tag).is_file():
            raise ModelLoadError(
                f"{tag} is no safetensors file on this machine; one was expected after the colon,"
                " or a tag of open_clip. A checkpoint of another kind is loaded and saved with its"
                " own library first. Nothing was changed."
            )
        return
    require_choice(
        tag,
        open_clip.list_pretrained_tags_by_model(architecture),
        f"Of {architecture} the tag",
        ModelLoadError,
    )
    repository = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rstrip("/")
    if repository:
        require_repository(repository)


def _beside(architecture: str, file: Path) -> dict:
    """What the configuration beside a file of weights says of activation and normalisation, as
    open_clip's `create_model` takes it.

    Raises ModelLoadError where it says another activation than the architecture's name. Without one
    a warning says what is taken.
    """
    import open_clip

    named = open_clip.get_model_config(architecture).get("quick_gelu", False)
    said = said_activation(file.parent, "text", open_clips=True)
    if said is None:
        warnings.warn(
            f"No configuration lies beside {file.name}, so it is taken to compute with"
            f" {'QuickGELU' if named else 'GELU'}, as {architecture} does. Weights that were"
            " trained with another activation are another model: OpenAI's need"
            f" {architecture.removesuffix('-quickgelu')}-quickgelu.",
            stacklevel=3,
        )
    elif named and said != "quick_gelu":
        raise ModelLoadError(
            f"{architecture} computes with QuickGELU, and the configuration beside {file.name} says"
            f" {said}; one activation was expected. Write"
            f" {architecture.removesuffix('-quickgelu')}:{file}. Nothing was changed."
        )
    cut = read_json(file.with_name(CONFIG)).get("preprocess_cfg")
    return ({"force_quick_gelu": True} if said == "quick_gelu" else {}) | (
        {"force_preprocess_cfg": cut} if isinstance(cut, dict) else {}
    )


def _from_folder(folder: Path, source: str, device: torch.device) -> Clip:
    import open_clip

    if (folder / "config.json").is_file() and not (folder / CONFIG).is_file():
        return _from_transformers(str(folder), source, device, folder)
    for needed in (CONFIG, WEIGHTS):
        if not (folder / needed).is_file():
            raise ModelLoadError(
                f"The model folder {folder.name!r} has no {needed}; expected a folder as"
                " open_clip's 'local-dir:' reads it (`slugkit train clip` writes one), or as"
                " transformers' CLIPModel saves itself (config.json and model.safetensors)."
                " Nothing was changed."
            )
    try:
        with plain_classes(source, folder):
            net = open_clip.create_model(f"local-dir:{folder}", device=device)
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"The model in {folder.name!r} could not be read: {error}. Nothing was changed."
        ) from error
    return _wrap(net, tokenizer, source, folder / WEIGHTS)


def _from_transformers(where: str, source: str, device: torch.device, folder: Path | None) -> Clip:
    """A CLIPModel of transformers, from a folder or the cache, in open_clip's class, with its own
    tokenizer and normalisation.
    """
    import open_clip
    from transformers import AutoConfig, CLIPImageProcessor, CLIPModel

    try:
        with plain_classes(source, where):
            kind = AutoConfig.from_pretrained(where, trust_remote_code=False).model_type
        if kind != "clip":
            raise ModelLoadError(
                f"{source!r} holds a model of the type {kind!r}; 'clip' was expected. SigLIP and"
                " others are loaded through open_clip, by a tag or a folder with"
                " open_clip_config.json. Nothing was changed."
            )
        with no_loading_bars(), plain_classes(source, where):
            model = CLIPModel.from_pretrained(
                where,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                **variant(where),
            )
            cut = CLIPImageProcessor.from_pretrained(where, trust_remote_code=False)
            tokenizer = open_clip.tokenizer.HFTokenizer(
                where, context_length=model.config.text_config.max_position_embeddings
            )
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"The CLIPModel in {source!r} could not be read: {error}. A folder as `save_pretrained`"
            " of model, tokenizer and image processor writes it was expected, with its weights as"
            " safetensors. Nothing was changed."
        ) from error
    net = from_transformers(model).to(device)
    return Clip(
        net,
        tokenizer,
        int(net.visual.image_size[0]),
        tuple(cut.image_mean),
        tuple(cut.image_std),
        source,
        folder,
    )


def _wrap(net, tokenizer, source: str, weights: Path | None) -> Clip:
    cfg = getattr(net.visual, "preprocess_cfg", None) or {}
    net.eval()
    return Clip(
        net,
        tokenizer,
        _edge(net.visual.image_size),
        tuple(cfg.get("mean", (0.5,) * 3)),
        tuple(cfg.get("std", (0.5,) * 3)),
        source,
        weights,
        _fit(cfg),
    )


def picture_size(model: str = "studio") -> tuple[int, str]:
    """Edge in pixels of the pictures that a model reads, and how they are made square ("crop" or
    "squash"), from its configuration alone.

    Raises ModelLoadError as `load_clip`. Only a repository that open_clip wrote (`hf-hub:`) is
    loaded for it.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg
    from transformers import AutoConfig

    folder, (architecture, _, tag) = model_folder(model), model.rpartition(":")
    if folder is not None and (folder / CONFIG).is_file():
        known = read_config(folder)
        return _edge(known["model_cfg"]["vision_cfg"]["image_size"]), _fit(
            known.get("preprocess_cfg")
        )
    if folder is None and architecture not in ("", "hf-hub"):
        require_choice(architecture, open_clip.list_models(), "The architecture", ModelLoadError)
        return _edge(open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]), _fit(
            get_pretrained_cfg(architecture, tag)
        )
    if (
        folder is not None
        and (folder / "config.json").is_file()
        or _is_hub_id(model)
        and in_cache(model)
    ):
        with plain_classes(model, folder or model):
            return (
                _edge(
                    AutoConfig.from_pretrained(
                        str(folder or model), trust_remote_code=False
                    ).vision_config.image_size
                ),
                "crop",
            )
    clip = load_clip(model, "cpu")
    return clip.image_size, clip.fit


def _fit(preprocessing: dict | None) -> str:
    return "squash" if (preprocessing or {}).get("resize_mode") == "squash" else "crop"


def _edge(size) -> int:
    return int(size[0] if isinstance(size, (tuple, list)) else size)


def _is_hub_id(model: str) -> bool:
    return model.count("/") == 1 and ":" not in model and not model.startswith((".", "~", "/"))


def read_config(folder: Path) -> dict:
    """The open_clip configuration of a model folder."""
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
