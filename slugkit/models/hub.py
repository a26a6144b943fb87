"""What comes from a model hub: found in the cache, reachable, or one message that says how to get
it; and the one way in which the libraries are let load it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from slugkit.base import ModelLoadError, data_dir, mistyped

MAX_JSON = 8 << 20
"""Bytes of a configuration that are read at most; of a larger one nothing is."""
_VARIANT = re.compile(r"^[^.]+\.(?P<name>[\w-]+?)(-\d+-of-\d+)?\.safetensors$")


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file says, or {} where there is none, or none that says anything."""
    try:
        sound = file.is_file() and file.stat().st_size <= MAX_JSON
        known = json.loads(file.read_text("utf-8")) if sound else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def local(where: str | Path) -> Path | None:
    """The folder that a model is read from: itself, or its snapshot in the cache, or None."""
    if Path(where).is_dir():
        return Path(where)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(where), local_files_only=True))
    except Exception:
        return None


def is_hub_id(model: str) -> bool:
    """Whether a name has the form ORGANISATION/NAME."""
    return model.count("/") == 1 and ":" not in model and not model.startswith((".", "~", "/"))


def folder_of(model: str, studio: str) -> Path | None:
    """Where a model's files lie: in the studio's data, or a local folder; None for a hub id."""
    folder = data_dir() / "studio" / studio if model == "studio" else Path(model).expanduser()
    return folder if folder.is_dir() else None


def require_repository(repo: str) -> None:
    """Raises ModelLoadError, saying what to do, where ORGANISATION/NAME is neither in the cache nor
    open to this machine: no network, no such name, gated. One request of a few bytes.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if local(repo) is not None:
        return
    if wrong := mistyped(repo):
        raise ModelLoadError(f"{wrong} Nothing was changed.")
    lacking = f"{repo} is not in this machine's cache, and"
    fetch = f"`hf download {repo} --local-dir FOLDER` where there is one, and give that folder."
    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().auth_check(repo)
            return
        reason = f"{lacking} HF_HUB_OFFLINE forbids a connection. {fetch}"
    except GatedRepoError:
        reason = (
            f"{repo} is gated: its owners want their terms accepted first. Accept them on the"
            " repository's page, run `hf auth login`, and try again."
        )
    except RepositoryNotFoundError:
        reason = (
            f"The hub knows no repository {repo!r}, or it is private; ORGANISATION/NAME of a public"
            " one was expected, or a folder on this machine."
        )
    except Exception as error:
        reason = f"{lacking} there is no connection to the hub ({type(error).__name__}). {fetch}"
    raise ModelLoadError(f"{reason} Nothing was changed.")


def variant(where: str | Path) -> dict[str, str]:
    """{"variant": "fp16"}, for `from_pretrained`, where a part is here in a variant alone."""
    folder = local(where)
    if folder is None:
        return {}
    pipeline = (folder / "model_index.json").is_file()
    lacking = []
    for part in [p for p in folder.iterdir() if p.is_dir()] if pipeline else [folder]:
        found = [_VARIANT.match(p.name) for p in part.glob("*.safetensors")]
        if found and all(found):
            lacking.append({one["name"] for one in found})
    common = set.intersection(*lacking) if lacking else set()
    best = sorted(common, key=("fp16", "bf16").__contains__)
    return {"variant": best[-1]} if best else {}


def _code_of(folder: Path) -> str:
    """The file in a model's folder that asks for code of its own, or ""."""
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if "config" in file.name and "auto_map" in read_json(file):
            return file.relative_to(folder).as_posix()
    for name, kind in read_json(folder / "model_index.json").items():
        if isinstance(kind, list) and kind:
            if name == "_class_name" or (folder / name / f"{kind[0]}.py").is_file():
                return "model_index.json"
    return ""


@contextmanager
def loading(model: str, where: str | Path, expected: str) -> Iterator[dict[str, Any]]:
    """Within the block the libraries load a model: no code that it brings is run, nobody is asked
    whether it may, no bars are drawn. Yields what `from_pretrained` is given for that.

    model: what was asked for, for the message. where: its folder or hub id. expected: a sentence.
    Raises ModelLoadError for whatever goes wrong.
    """
    from transformers import dynamic_module_utils

    folder = local(where)
    asks, waits = _code_of(folder) if folder else "", dynamic_module_utils.TIME_OUT_REMOTE_CODE
    refusal = ModelLoadError(
        f"{model!r} asks for code of its own{f' ({asks})' if asks else ''}, and slugkit runs no"
        " code that comes with a model. Take the entry (auto_map, a class in a file) out where the"
        " libraries' plain class does as well, or load it with its own code and save its CLIP."
        " Nothing was changed."
    )
    if asks:
        raise refusal
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # nobody is asked
    try:
        with no_loading_bars():
            yield {"use_safetensors": True, **variant(where)}
    except ModelLoadError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise refusal from None
        raise ModelLoadError(
            f"{model!r} could not be read: {error}. {expected} Nothing was changed."
        ) from error
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = waits


@contextmanager
def loading_family(
    model: str, family: str, whose: str, device: torch.device, device_map: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """`loading` of a pipeline or a LLaVA by `studio`, folder or hub id: yields its folder or id,
    and what `from_pretrained` is given; on a GPU weights are float16, on a CPU float32.

    family: its name in `slugkit train`. whose: for the message, as in "a LLaVA's".
    """
    folder, studios = folder_of(model, family), f"`slugkit train {family}` makes the studio's."
    kind, where = f"{whose} folder as `save_pretrained` writes it", str(folder or model)
    if folder is None and not is_hub_id(model):
        raise ModelLoadError(
            f"{model!r} is no folder on this machine, and no hub id; {kind}, or ORGANISATION/NAME"
            f" was expected. {studios} Nothing was changed."
        )
    if folder is None:
        require_repository(model)
    with loading(model, where, f"Expected: {kind}. {studios}") as how:
        dtype = torch.float32 if device.type == "cpu" else torch.float16
        yield where, how | {"dtype": dtype, "device_map": device_map or None}


@contextmanager
def no_loading_bars() -> Iterator[None]:
    """Within the block diffusers and transformers draw no bars about the files that they load."""
    names = [f"{library}.utils.logging" for library in ("diffusers", "transformers")]
    loaded = [sys.modules[name] for name in names if name in sys.modules]
    shown = [library for library in loaded if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
