"""How much memory a gradient will take, before it starts: weights, copies of the gradient,
activations, and what the machine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from slugkit.base import MemoryPlanError, control_groups
from slugkit.method.layers import block_of, tower_of
from slugkit.models.clip import Clip
from slugkit.models.precision import PRECISIONS

AT_ONCE = {"cpu": 128, "cuda": 512}
"""Pairs that go through the towers together: more no longer make a pass faster."""
ROOM = {"cpu": 10**9}
"""Most that the activations of several micro-batches together take, bytes: on a CPU only those of
small models are worth it.
"""
SHARE = 0.5
"""Share of what is free that activations of several micro-batches, or what a search keeps, may
take.
"""
SMALLEST_CHUNK = 2
"""The smallest chunk a plan proposes."""
HEAP = {"cpu": 0.3, "cuda": 0.1}
"""Share that an allocator holds beyond the live tensors.

On a CPU the C library's heap keeps holes between activations: measured on ViT-B-32, batches of 16
and 32.
"""

CONTROLLERS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in /proc/self/cgroup ("" is version 2, "memory" version 1) -> files of its limit and
its use, and the entry of memory.stat with idle pages of files.
"""
NO_LIMIT = 2**62
"""Version 1 writes the largest multiple of a page below 2^63 where nothing limits a group."""


@dataclass(frozen=True)
class Plan:
    """What a gradient needs and what there is; all sizes in bytes.

    weights: parameters and buffers. gradients: one float32 copy. copies: how many of these lie in
    memory at once. per_pair, fixed: activations kept for the way back are fixed + per_pair x pairs
    encoded at a time. heap: the share that the allocator holds on top (`HEAP`). largest_weight: the
    gradient of the largest weight, which exists for a moment beside its sum, and on a CPU beside
    pages that the heap keeps of activations that are gone. picture: one decoded picture in this
    memory (8 bit; 0 on a GPU). first_pass: share of the activations that the pass without a graph,
    which comes before the chunks, adds to what the heap keeps: one of the towers' blocks at a time
    (0 on a GPU, whose allocator uses it again). available: what is free for this process, the
    weights that it holds already included. batch_size: the micro-batch. chunk: pairs encoded at a
    time, or None for what memory allows. device: cpu, cuda, ...
    """

    weights: int
    gradients: int
    copies: int
    per_pair: int
    fixed: int
    heap: float
    largest_weight: int
    picture: int
    first_pass: float
    available: int
    batch_size: int
    chunk: int | None
    device: str

    @property
    def together(self) -> int:
        """Pairs that are encoded together: a part of a micro-batch if `chunk` says so, else as many
        whole ones as `chunk` or the memory allow.
        """
        if self.chunk and self.chunk < self.batch_size:
            return self.chunk
        room = min(
            SHARE * (self.available - self._before(False)), ROOM.get(self.device, float("inf"))
        )
        fitting = int((room / self._allocated(False) - self.fixed) // self.per_pair)
        most = self.chunk or min(AT_ONCE.get(self.device, 128), max(0, fitting))
        return max(1, most // self.batch_size) * self.batch_size

    def _allocated(self, chunked: bool) -> float:
        """What the allocator takes for a byte of activations."""
        return (1 + self.heap) * (1 + (self.first_pass if chunked else 0))

    def _pictures(self, chunked: bool) -> int:
        """Bytes of the decoded pictures: those of this micro-batch, those of the next one, and in
        chunks the chunks' own copies.
        """
        return (
            3 * self.batch_size if chunked else 2 * max(self.batch_size, self.chunk or 0)
        ) * self.picture

    @property
    def activations(self) -> int:
        """Bytes of the activations of the pairs that are encoded together, with the allocator's
        share.
        """
        return round(
            self._allocated(self.together < self.batch_size)
            * (self.fixed + self.per_pair * self.together)
        )

    @property
    def needed(self) -> int:
        """Bytes of weights, gradient copies, the largest weight's gradient, decoded pictures and
        activations together.
        """
        return self._before(self.together < self.batch_size) + self.activations

    def _before(self, chunked: bool) -> int:
        return (
            self.weights
            + self.copies * self.gradients
            + self.largest_weight
            + self._pictures(chunked)
        )

    @property
    def fits(self) -> bool:
        """Whether what is needed is there."""
        return self.needed <= self.available

    @property
    def largest(self) -> int:
        """The largest chunk of this micro-batch that fits, 0 or more."""
        left = self.available - self._before(True)
        return max(0, int((left / self._allocated(True) - self.fixed) // self.per_pair))

    def sentence(self) -> str:
        """For the reader: "needs about N GB, you have M GB", and what to do where that is too
        little.

        GB are 10^9 bytes.
        """
        chunks = f" in chunks of {self.chunk}" if self.together < self.batch_size else ""
        what = f"A micro-batch of {self.batch_size}{chunks} needs"
        if self.together > self.batch_size:
            what = (
                f"{self.together // self.batch_size} micro-batches of {self.batch_size} together"
                " need"
            )
        said = (
            f"{what} about {self.needed / 1e9:.1f} GB ({self.weights / 1e9:.1f} weights,"
            f" {self.copies} x {self.gradients / 1e9:.1f} gradients, {self.activations / 1e9:.1f}"
            f" activations), you have {self.available / 1e9:.1f} GB on {self.device}"
        )
        if self.fits:
            return f"{said}."
        if self.largest >= SMALLEST_CHUNK:
            return f"{said}: use chunk={self.largest}."
        return (
            f"{said}: not even chunk={SMALLEST_CHUNK} fits. Take a smaller model, or a machine or"
            " container with more memory."
        )

    def require(self) -> Plan:
        """The plan itself if it fits. Raises MemoryPlanError with the sentence if it does not."""
        if not self.fits:
            raise MemoryPlanError(self.sentence())
        return self


def plan(
    clip: Clip,
    batch_size: int = 128,
    precision: str = "fp32",
    chunk: int | None = None,
    copies: int = 2,
) -> Plan:
    """Measure one pair and two pairs, and tell what a micro-batch will take.

    Returns a `Plan`; the model stays as it is.

    precision, chunk: as of `slugkit.unlearn.gradients.retain_gradient`.
    copies: of the gradient, held at once: the one that is being summed and, with 2, one of another
    set that the caller still holds. Activations are what autograd keeps for the way back, counted
    once per storage, and grow with the pairs.
    """
    tensors = [*clip.model.parameters(), *clip.model.buffers()]
    one, two = (kept_for_backward(clip, pairs, precision) for pairs in (1, 2))
    weights = sum(x.numel() * x.element_size() for x in tensors)
    sizes = [4 * p.numel() for p in clip.model.parameters()]
    per_pair, device = max(1, two - one), clip.device
    blocks = {
        (tower_of(name), block_of(name))
        for name, _ in clip.model.named_parameters()
        if block_of(name) >= 0
    }
    picture, first_pass = (
        (3 * clip.image_size**2, 1 / max(1, len(blocks))) if device.type == "cpu" else (0, 0.0)
    )
    return Plan(
        weights,
        sum(sizes),
        copies,
        per_pair,
        max(0, one - per_pair),
        HEAP.get(device.type, 0.3),
        max(sizes),
        picture,
        first_pass,
        free_memory(device) + weights,
        batch_size,
        chunk,
        device.type,
    )


def pairs_together(
    clip: Clip, batch_size: int, precision: str = "fp32", chunk: int | None = None
) -> int:
    """Pairs that a gradient encodes at a time: `Plan.together`, measured only where more than one
    micro-batch could go together.
    """
    if chunk or 2 * batch_size > AT_ONCE.get(clip.device.type, 128):
        return chunk or batch_size
    return plan(clip, batch_size, precision).together


def room_to_keep(device: torch.device) -> int:
    """Bytes that a search may keep on this device beside all else."""
    return int(SHARE * free_memory(device))


def kept_for_backward(clip: Clip, pairs: int, precision: str = "fp32") -> int:
    """Bytes that autograd keeps of one forward pass of both towers over so many grey pictures with
    a caption; parameters and buffers are not counted.
    """
    own = {
        x.untyped_storage().data_ptr() for x in [*clip.model.parameters(), *clip.model.buffers()]
    }
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (
                storage.nbytes(),
                x,
            )  # the tensor too, so that its address is not given away again
        return x

    pictures = np.full((pairs, clip.image_size, clip.image_size, 3), 127, np.uint8)
    pixels, tokens = clip.pixels(pictures), clip.tokens(["a picture"] * pairs)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        with torch.autocast(
            clip.device.type, dtype=PRECISIONS[precision], enabled=PRECISIONS[precision] is not None
        ):
            features = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    del features
    return sum(size for size, _ in kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that a process can still take on this device: free memory of the GPU and what torch has
    set aside there; on a CPU the machine's available memory, or what the process's control group
    (the limit of a container or a batch job) still allows, whichever is less.
    """
    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare
    import psutil

    return min([psutil.virtual_memory().available, *group_rooms()])


def group_rooms(root: Path = Path("/")) -> list[int]:
    """Bytes that this process's control group, and each group above it, still lets it take; empty
    without a limit or on a system without control groups.

    root: the folder that holds proc/ and sys/. Pages of files that were not used lately are counted
    as free, since the kernel gives them up before it refuses memory (Linux,
    Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
    """
    found = [
        _room(folder, *CONTROLLERS[controller])
        for folder, controller in control_groups(set(CONTROLLERS), root)
    ]
    return [room for room in found if room is not None]


def _room(folder: Path, limit: str, used: str, idle: str) -> int | None:
    """Bytes left in one control group, 0 or more; None where there is no such group or it has no
    limit.
    """
    try:
        most, taken = ((folder / name).read_text().strip() for name in (limit, used))
        if most == "max" or int(most) >= NO_LIMIT:
            return None
        statistics = dict(
            line.split() for line in (folder / "memory.stat").read_text().splitlines()
        )
        return max(0, int(most) - int(taken) + int(statistics.get(idle, 0)))
    except (OSError, ValueError):
        return None
