"""What comes from a model hub: found in the cache, reachable, or one message that says how to get it. Nothing is downloaded here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slugkit.base import ModelLoadError, mistyped


def in_cache(repo: str) -> bool:
    """Whether a snapshot of the repository, complete or not, lies in this machine's cache. repo: ORGANISATION/NAME."""
    from huggingface_hub import snapshot_download
    try:
        snapshot_download(repo, local_files_only=True)
    except Exception:
        return False
    return True


def require_repository(repo: str) -> None:
    """Raises ModelLoadError, saying what to do, where a repository is neither in the cache nor open to this machine: no network, no such name, gated.

    repo: ORGANISATION/NAME. One request of a few bytes.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    if in_cache(repo):
        return
    if wrong := mistyped(repo):
        raise ModelLoadError(f"{wrong} Nothing was changed.")
    fetch = f"On a machine with a connection: `hf download {repo} --local-dir FOLDER`; then give that folder instead. Nothing was changed."
    if constants.HF_HUB_OFFLINE:
        raise ModelLoadError(f"{repo} is not in this machine's cache, and HF_HUB_OFFLINE forbids to fetch it; a cached or local copy was expected. {fetch}")
    try:
        HfApi().auth_check(repo)
    except GatedRepoError:
        raise ModelLoadError(f"{repo} is gated: its owners want their terms accepted first. Accept them on the repository's page, run `hf auth login`, and try "
                             "again. Nothing was changed.") from None
    except RepositoryNotFoundError:
        raise ModelLoadError(f"The hub knows no repository {repo!r}, or it is private; ORGANISATION/NAME of a public one was expected, or a folder on this machine. "
                             "Nothing was changed.") from None
    except Exception as error:
        raise ModelLoadError(f"{repo} is not in this machine's cache and the hub cannot be reached ({type(error).__name__}); a connection, or a local copy, was "
                             f"expected. {fetch}") from error


def need_repository(model: str, kind: str, otherwise: str = "") -> None:
    """`require_repository` for a name that is no folder here. kind, otherwise: what else could have been given. Raises ModelLoadError."""
    if model.count("/") != 1 or model.startswith((".", "~", "/")):
        raise ModelLoadError(f"{model!r} is no folder on this machine, and no hub id; {kind}, or ORGANISATION/NAME was expected. {otherwise} Nothing was changed.")
    require_repository(model)


@contextmanager
def no_loading_bars() -> Iterator[None]:
    """Within the block diffusers and transformers draw no bars about the files that they load."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers
    shown = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
