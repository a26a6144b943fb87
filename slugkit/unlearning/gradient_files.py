"""Gradients as files: one file per set, written as soon as the set is done, and all of them joined
without being read into memory.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from slugkit.base import GradientError, replace_atomically, write_tensors
from slugkit.data import Pairs
from slugkit.models import Clip
from slugkit.unlearning.gradients import forget_gradient, retain_gradient
from slugkit.unlearning.result import Directions
from slugkit.unlearning.retain import mean_of, retain_parts
from slugkit.unlearning.workers import gradients_by_workers


def _header(file: Path) -> tuple[dict, int]:
    """The table of a safetensors file, name -> dtype, shape and data_offsets, and the byte at which
    its data begins. Raises GradientError.
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
        raise GradientError(f"{file} is cut short; a whole file was expected. Compute it again.")
    return table, 8 + length


def join_safetensors(parts: dict[str, str | Path], out: str | Path) -> Path:
    """One safetensors file of several, atomically: tensor NAME of part PREFIX becomes PREFIX/NAME.

    parts: prefix -> file; bytes are copied through, never the tensors loaded. Raises GradientError
    for no parts, or for a part that is missing, broken or cut short; then nothing is written.
    """
    if not parts:
        raise GradientError(
            "There are no files to join; at least one file of gradients was expected."
        )
    joined, starts, at = {}, {}, 0
    for prefix, file in parts.items():
        table, starts[file] = _header(Path(file))
        for name, entry in table.items():
            offsets = [at + place for place in entry["data_offsets"]]
            joined[f"{prefix}/{name}"] = {**entry, "data_offsets": offsets}
        at += Path(file).stat().st_size - starts[file]
    text = json.dumps(joined, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes

    def write(beside: Path) -> None:
        with open(beside, "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for file, start in starts.items():
                with open(file, "rb") as part:
                    part.seek(start)
                    shutil.copyfileobj(part, stream, 1 << 20)

    return replace_atomically(out, write)


def gradients_to_file(
    clip: Clip,
    forget: Pairs,
    retain: Pairs,
    out: str | Path,
    batch_size: int = 128,
    seed: int = 0,
    workers: int = 1,
    **how,
) -> Path:
    """Both gradients in one safetensors file: forget/NAME, retain/NAME and, of the parts of the
    retain set whose weighted mean the retain gradient is, retain0/NAME, retain1/NAME, ...

    Each part is on disk before the next one starts, so that a large model needs room for itself,
    one gradient and the mean.

    Args:
        clip: the model, whose weights stay as they are.
        forget, retain: the two sets.
        out: where the file goes.
        batch_size: the micro-batch, which is part of the retain loss's definition.
        seed: which pairs share a part and a micro-batch.
        workers: processes that share the micro-batches.
        how: precision and chunk, as of `retain_gradient`.

    Returns:
        `out`.

    Raises:
        GradientError: a gradient that is not finite.
    """
    sets = {f"retain{k}": part for k, part in enumerate(retain_parts(retain, batch_size, seed))}
    sizes = [len(part) for part in sets.values()]
    with tempfile.TemporaryDirectory(dir=Path(out).parent, prefix=".gradients-") as spare:
        files = {}
        for name, pairs in {"forget": forget, **sets}.items():
            kind, common = name.rstrip("0123456789"), {"batch_size": batch_size, **how}
            if workers > 1:
                pairs.save(Path(spare), name)
                place = (clip.source, spare, name, kind, workers)
                device = clip.device.type
                found = gradients_by_workers(*place, seed=seed, device=device, **common)
            elif kind == "forget":
                found = forget_gradient(clip, pairs, **common)
            else:
                found = retain_gradient(clip, pairs, seed=seed, **common)
            files[name] = write_tensors(Path(spare) / f"{name}.safetensors", found)
            del found
        parts = [read_gradient(files[name]) for name in sets]
        files["retain"] = write_tensors(Path(spare) / "retain.safetensors", mean_of(parts, sizes))
        del parts
        return join_safetensors(files, out)


def read_gradient(file: str | Path, part: str = "") -> Directions:
    """A gradient out of a file that `write_tensors` or `gradients_to_file` wrote.

    part: "forget", "retain", "retain0", ...; "" where the file holds one gradient. Raises
    GradientError for a part that is not there.
    """
    prefix = f"{part}/" if part else ""
    with safe_open(file, "pt") as stored:
        names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
        if not names:
            raise GradientError(f"{file} has no gradient {part!r}; compute it again.")
        return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}


def read_gradients(path: str | Path) -> tuple[Directions, Directions, list[Directions]]:
    """The forget gradient, the retain gradient and those of the retain set's parts, of the file
    that notebook 02 leaves.
    """
    sets: dict[str, Directions] = {}
    for name, tensor in load_file(path).items():
        prefix, _, weight = name.partition("/")
        sets.setdefault(prefix, {})[weight] = tensor
    forget, retain = sets.pop("forget"), sets.pop("retain")
    return forget, retain, [sets[name] for name in sorted(sets)]
