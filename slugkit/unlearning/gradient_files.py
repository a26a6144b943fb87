"""Gradients as files: one file per set, written as soon as the set is done, and all of them joined
without being read into memory.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from slugkit.base import GradientError, replace_atomically, write_tensors


def save_gradient(path: str | Path, gradient: dict[str, torch.Tensor]) -> Path:
    """Write {parameter name: tensor} as safetensors, atomically, so that the caller can free it.

    Returns the path.
    """
    return write_tensors(path, gradient)


def _header(file: Path) -> tuple[dict, int]:
    """The table of a safetensors file, name -> dtype, shape and data_offsets, and the byte at which
    its data begins.

    Raises GradientError.
    """
    try:
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            table = json.loads(stream.read(length)) if length <= file.stat().st_size else None
        table.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in table.values()), default=0)
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise GradientError(
            f"{file} cannot be read as safetensors ({error}); a file of gradients was expected."
            " Compute it again."
        ) from error
    if 8 + length + end != file.stat().st_size:
        raise GradientError(
            f"{file} has {file.stat().st_size} bytes, but its table speaks of {8 + length + end}."
            " It is cut short: compute it again."
        )
    return table, 8 + length


def join_safetensors(parts: dict[str, str | Path], out: str | Path) -> Path:
    """One safetensors file of several: tensor NAME of part PREFIX becomes PREFIX/NAME.

    Bytes are copied through, never the tensors loaded. Returns `out`.

    parts: prefix -> file, in the order in which they are laid down. Written atomically; the parts
    stay. Raises GradientError for no parts, or for a part that is missing, broken or cut short;
    then nothing is written.
    """
    if not parts:
        raise GradientError(
            "There are no files to join; at least one file of gradients was expected."
        )
    joined, starts, at = {}, {}, 0
    for prefix, file in parts.items():
        table, starts[prefix] = _header(Path(file))
        for name, entry in table.items():
            joined[f"{prefix}/{name}"] = {
                **entry,
                "data_offsets": [at + place for place in entry["data_offsets"]],
            }
        at += Path(file).stat().st_size - starts[prefix]
    text = json.dumps(joined, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes

    def write(beside: Path) -> None:
        with open(beside, "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for prefix, file in parts.items():
                with open(file, "rb") as part:
                    part.seek(starts[prefix])
                    shutil.copyfileobj(part, stream, 1 << 20)

    return replace_atomically(out, write)


def read_gradients(path: str | Path) -> tuple[dict, dict, list[dict]]:
    """The forget gradient, the retain gradient and those of the retain set's parts, of the file
    that notebook 02 leaves; each weight name -> tensor shaped like the weight.
    """
    sets: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(path).items():
        prefix, _, weight = name.partition("/")
        sets.setdefault(prefix, {})[weight] = tensor
    forget, retain = sets.pop("forget"), sets.pop("retain")
    return forget, retain, [sets[name] for name in sorted(sets)]
