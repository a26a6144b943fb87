"""How much memory a gradient will take, before it starts, and what the machine has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from slugkit.base import MemoryPlanError, free_ram
from slugkit.method.layers import block_of, tower_of
from slugkit.models.clip import Clip
from slugkit.models.precision import PRECISIONS

AT_ONCE = {"cpu": 128, "cuda": 512}
"""Pairs that go through the towers together: more no longer make a pass faster."""
ROOM = {"cpu": 10**9}
"""Most bytes of the activations of several micro-batches: a CPU gains by small models' alone."""
SHARE = 0.5
"""Share of what is free that several micro-batches, or what a search keeps, may take."""
SMALLEST_CHUNK = 2
"""The smallest chunk a plan proposes."""
HEAP = {"cpu": 0.3, "cuda": 0.1}
"""Share that an allocator holds beyond the live tensors (holes between activations)."""


@dataclass(frozen=True)
class Plan:
    """What a gradient needs and what there is; all sizes in bytes.

    weights: parameters and buffers. gradients: one float32 copy; copies: how many of them at once.
    per_pair, fixed: activations of n pairs are fixed + per_pair x n. heap: of `HEAP`.
    largest_weight: its gradient exists for a moment beside its sum. picture: one decoded picture in
    this memory (0 on a GPU). first_pass: share of the activations that the pass without a graph,
    before the chunks, adds to the heap. available: free for this process, its weights included.
    batch_size: the micro-batch. chunk: pairs encoded at a time, or None for what memory allows.
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

    def _before(self, chunked: bool) -> int:
        """Bytes beside the activations: weights, gradients, and the decoded pictures of this
        micro-batch and the next one, in chunks also the chunks' own copies.
        """
        pictures = 3 * self.batch_size if chunked else 2 * max(self.batch_size, self.chunk or 0)
        gradients = self.copies * self.gradients + self.largest_weight
        return self.weights + gradients + pictures * self.picture

    def _allocated(self, chunked: bool) -> float:
        """What the allocator takes for a byte of activations."""
        return (1 + self.heap) * (1 + (self.first_pass if chunked else 0))

    def _pairs_in(self, room: float, chunked: bool) -> int:
        """Pairs whose activations fit into so many bytes."""
        return max(0, int((room / self._allocated(chunked) - self.fixed) // self.per_pair))

    @property
    def together(self) -> int:
        """Pairs encoded together: `chunk`, or as many whole micro-batches as the memory allows."""
        if self.chunk and self.chunk < self.batch_size:
            return self.chunk
        free = SHARE * (self.available - self._before(False))
        fitting = self._pairs_in(min(free, ROOM.get(self.device, free)), False)
        most = self.chunk or min(AT_ONCE.get(self.device, 128), fitting)
        return max(1, most // self.batch_size) * self.batch_size

    @property
    def _chunked(self) -> bool:
        return self.together < self.batch_size

    @property
    def activations(self) -> int:
        """Bytes of the activations of the pairs that are encoded together, with the heap."""
        return round(self._allocated(self._chunked) * (self.fixed + self.per_pair * self.together))

    @property
    def needed(self) -> int:
        """Bytes of all of it."""
        return self._before(self._chunked) + self.activations

    @property
    def fits(self) -> bool:
        """Whether what is needed is there."""
        return self.needed <= self.available

    @property
    def largest(self) -> int:
        """The largest chunk of this micro-batch that fits, 0 or more."""
        return self._pairs_in(self.available - self._before(True), True)

    def sentence(self) -> str:
        """What is needed and what there is in GB (10^9 bytes), and what to do about it."""
        what = f"A micro-batch of {self.batch_size} needs"
        if self._chunked:
            what = f"A micro-batch of {self.batch_size} in chunks of {self.chunk} needs"
        elif self.together > self.batch_size:
            count = self.together // self.batch_size
            what = f"{count} micro-batches of {self.batch_size} together need"
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

    precision, chunk: as of `slugkit.unlearning.gradients.retain_gradient`. copies: of the gradient,
    held at once: the one that is being summed and, with 2, one of another set.
    """
    tensors = [*clip.model.parameters(), *clip.model.buffers()]
    one, two = (kept_for_backward(clip, pairs, precision) for pairs in (1, 2))
    weights = sum(x.numel() * x.element_size() for x in tensors)
    sizes = [4 * p.numel() for p in clip.model.parameters()]
    per_pair, device = max(1, two - one), clip.device
    names = [name for name, _ in clip.model.named_parameters()]
    blocks = {(tower_of(name), block_of(name)) for name in names if block_of(name) >= 0}
    on_cpu = device.type == "cpu"
    return Plan(
        weights=weights,
        gradients=sum(sizes),
        copies=copies,
        per_pair=per_pair,
        fixed=max(0, one - per_pair),
        heap=HEAP.get(device.type, 0.3),
        largest_weight=max(sizes),
        picture=3 * clip.image_size**2 if on_cpu else 0,
        first_pass=1 / max(1, len(blocks)) if on_cpu else 0.0,
        available=free_memory(device) + weights,
        batch_size=batch_size,
        chunk=chunk,
        device=device.type,
    )


def pairs_together(
    clip: Clip, batch_size: int, precision: str = "fp32", chunk: int | None = None
) -> int:
    """`Plan.together`, measured only where more than one micro-batch could go together."""
    if chunk or 2 * batch_size > AT_ONCE.get(clip.device.type, 128):
        return chunk or batch_size
    return plan(clip, batch_size, precision).together


def room_to_keep(device: torch.device) -> int:
    """Bytes that a search may keep on this device beside all else."""
    return int(SHARE * free_memory(device))


def kept_for_backward(clip: Clip, pairs: int, precision: str = "fp32") -> int:
    """Bytes that autograd keeps of one forward pass of both towers over so many grey pictures with
    a caption, once per storage; parameters and buffers are not counted.
    """
    weights = [*clip.model.parameters(), *clip.model.buffers()]
    own = {x.untyped_storage().data_ptr() for x in weights}
    kept: dict[int, torch.Tensor] = {}  # the tensors, so that no address is given away again

    def note(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    pictures = np.full((pairs, clip.image_size, clip.image_size, 3), 127, np.uint8)
    pixels, tokens = clip.pixels(pictures), clip.tokens(["a picture"] * pairs)
    kind = PRECISIONS[precision]
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
        torch.autocast(clip.device.type, dtype=kind, enabled=kind is not None),
    ):
        features = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    del features
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that a process can still take on this device: free memory of the GPU and what torch has
    set aside there; on a CPU what the machine or its control groups still allow, the less of them.
    """
    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare
    return free_ram()
