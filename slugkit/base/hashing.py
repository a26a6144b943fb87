"""SHA-256 of bytes, files, folders, tensors and JSON values, as 64 lower-case hex digits."""

import hashlib
import json
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read a piece at a time. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def sha256_tensor(tensor: Any) -> str:
    """SHA-256 of a torch tensor of any shape, dtype and device: its dtype, shape and raw bytes in C
    order.

    Two tensors that are equal bit by bit give the same hash; -0.0 and 0.0 differ, and so do two
    dtypes.
    """
    import torch

    plain = tensor.detach().cpu().contiguous()
    head = f"{str(plain.dtype).removeprefix('torch.')}:{','.join(map(str, plain.shape))}:".encode()
    digest = hashlib.sha256(head)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    Raises TypeError for what JSON cannot hold.
    """
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=True
    )
    return sha256_bytes(text.encode())


def sha256_tree(folder: str | Path, pattern: str = "*") -> str:
    """SHA-256 over the files below `folder` whose name matches `pattern`: relative names and
    contents, in sorted order.

    Empty folders, times and permissions do not count; `__pycache__` is left out.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()
