"""SHA-256 of bytes, files, folders, tensors and JSON values, as 64 lower-case hex digits."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read a piece at a time. Raises: OSError."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_tensor(tensor: Any) -> str:
    """SHA-256 of a torch tensor: its dtype, shape and raw bytes in C order, so -0.0 is not 0.0."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    head = f"{str(plain.dtype).removeprefix('torch.')}:{','.join(map(str, plain.shape))}:".encode()
    digest = hashlib.sha256(head)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys. Raises: TypeError for another."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256_bytes(text.encode())


def sha256_tree(folder: str | Path, pattern: str = "*") -> str:
    """SHA-256 of the names and contents of all files below `folder` that match `pattern`.

    Empty folders, times and permissions do not count; `__pycache__` is left out.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()
