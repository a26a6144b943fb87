"""What comes from a model hub: found in the cache, reachable, or one message that says how to get
it.

Nothing is downloaded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slugkit.base import ModelLoadError, mistyped

MAX_JSON = 8 << 20
"""Bytes of a configuration that are read at most; of a larger one nothing is."""
_VARIANT = re.compile(r"^[^.]+\.(?P<name>[\w-]+?)(-\d+-of-\d+)?\.safetensors$")


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file says, or {} where there is none, or none that says anything."""
    try:
        known = (
            json.loads(file.read_text("utf-8"))
            if file.is_file() and file.stat().st_size <= MAX_JSON
            else {}
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def in_cache(repo: str) -> bool:
    """Whether a snapshot of the repository, complete or not, lies in this machine's cache.

    repo: ORGANISATION/NAME.
    """
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repo, local_files_only=True)
    except Exception:
        return False
    return True


def require_repository(repo: str) -> None:
    """Raises ModelLoadError, saying what to do, where a repository is neither in the cache nor open
    to this machine: no network, no such name, gated.

    repo: ORGANISATION/NAME. One request of a few bytes.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if in_cache(repo):
        return
    if wrong := mistyped(repo):
        raise ModelLoadError(f"{wrong} Nothing was changed.")
    fetch = (
        f"On a machine with a connection: `hf download {repo} --local-dir FOLDER`; then give that"
        " folder instead. Nothing was changed."
    )
    if constants.HF_HUB_OFFLINE:
        raise ModelLoadError(
            f"{repo} is not in this machine's cache, and HF_HUB_OFFLINE forbids to fetch it; a"
            f" cached or local copy was expected. {fetch}"
        )
    try:
        HfApi().auth_check(repo)
    except GatedRepoError:
        raise ModelLoadError(
            f"{repo} is gated: its owners want their terms accepted first. Accept them on the"
            " repository's page, run `hf auth login`, and try again. Nothing was changed."
        ) from None
    except RepositoryNotFoundError:
        raise ModelLoadError(
            f"The hub knows no repository {repo!r}, or it is private; ORGANISATION/NAME of a public"
            " one was expected, or a folder on this machine. Nothing was changed."
        ) from None
    except Exception as error:
        raise ModelLoadError(
            f"{repo} is not in this machine's cache and the hub cannot be reached"
            f" ({type(error).__name__}); a connection, or a local copy, was expected. {fetch}"
        ) from error


def need_repository(model: str, kind: str, otherwise: str = "") -> None:
    """`require_repository` for a name that is no folder here.

    kind, otherwise: what else could have been given. Raises ModelLoadError.
    """
    if model.count("/") != 1 or model.startswith((".", "~", "/")):
        raise ModelLoadError(
            f"{model!r} is no folder on this machine, and no hub id; {kind}, or ORGANISATION/NAME"
            f" was expected. {otherwise} Nothing was changed."
        )
    require_repository(model)


def local(where: str | Path) -> Path | None:
    """The folder that a model is read from: itself, or its snapshot in the cache; None where
    neither is here.
    """
    if Path(where).is_dir():
        return Path(where)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(where), local_files_only=True))
    except Exception:
        return None


def variant(where: str | Path) -> dict[str, str]:
    """{"variant": "fp16"}, as `from_pretrained` takes it, where a part of the model is here in a
    variant alone; else {}.
    """
    folder = local(where)
    parts = (
        []
        if folder is None
        else (
            [p for p in folder.iterdir() if p.is_dir()]
            if (folder / "model_index.json").is_file()
            else [folder]
        )
    )
    lacking = []
    for part in parts:
        names = [p.name for p in part.glob("*.safetensors")]
        kinds = {
            name: found["name"]
            for name in names
            if (found := _VARIANT.match(re.sub(r"-\d+-of-\d+", "", name)))
        }
        lacking += [set(kinds.values())] if kinds and len(kinds) == len(names) else []
    common = (
        sorted(set.intersection(*lacking), key=("fp16", "bf16").__contains__) if lacking else []
    )
    return {"variant": common[-1]} if common else {}


def _code_of(folder: Path) -> str:
    """The file in a model's folder that asks for code of its own, or ""."""
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if "config" in file.name and "auto_map" in read_json(file):
            return file.relative_to(folder).as_posix()
    parts = read_json(folder / "model_index.json")
    odd = [
        name
        for name, kind in parts.items()
        if isinstance(kind, list)
        and kind
        and (name == "_class_name" or (folder / name / f"{kind[0]}.py").is_file())
    ]
    return "model_index.json" if odd else ""


@contextmanager
def plain_classes(model: str, where: str | Path) -> Iterator[None]:
    """Within the block the libraries run no code that a model brings, and do not ask whether they
    may.

    model: what was asked for, for the message. where: its folder or hub id. Raises ModelLoadError
    for a model that needs such code.
    """
    from transformers import dynamic_module_utils

    folder = local(where)
    asks, waits = _code_of(folder) if folder else "", dynamic_module_utils.TIME_OUT_REMOTE_CODE
    refusal = (
        f"{model!r} asks for code of its own{f' ({asks})' if asks else ''}, and slugkit runs no"
        " code that comes with a model; a model of the libraries' plain classes was expected. Take"
        " the entry (auto_map, a class in a file) out where the plain class does as well, or load"
        " it with its own code and save its CLIP. Nothing was changed."
    )
    if asks:
        raise ModelLoadError(refusal)
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # nobody is asked
    try:
        yield
    except (ValueError, OSError) as error:
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise ModelLoadError(refusal) from None
        raise
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = waits


@contextmanager
def no_loading_bars() -> Iterator[None]:
    """Within the block diffusers and transformers draw no bars about the files that they load."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown = [
        library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()
    ]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
