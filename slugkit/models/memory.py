"""How much memory a gradient will take, before it starts: weights, copies of the gradient, activations, and what the machine has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from slugkit.base import MemoryPlanError

from .clip import Clip

HALF = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_CHUNK = 2
"""The smallest chunk a plan proposes."""
HEAP = {"cpu": 0.3, "cuda": 0.1}
"""Share that an allocator holds beyond the live tensors. On a CPU the C library's heap keeps holes between activations: measured on ViT-B-32, batches of 16 and 32."""


@dataclass(frozen=True)
class Plan:
    """What a gradient needs and what there is; all sizes in bytes.

    weights: parameters and buffers. gradients: one float32 copy. copies: how many of these lie in memory at once. per_pair, fixed: activations kept for
    the way back are fixed + per_pair x pairs encoded at a time. heap: the share that the allocator holds on top (`HEAP`). largest_weight: the gradient
    of the largest weight, which exists for a moment beside its sum. available: what is free for this process, the weights that it holds already included. batch_size:
    the micro-batch. chunk: pairs encoded at a time, or None for the whole micro-batch. device: cpu, cuda, ...
    """

    weights: int
    gradients: int
    copies: int
    per_pair: int
    fixed: int
    heap: float
    largest_weight: int
    available: int
    batch_size: int
    chunk: int | None
    device: str

    @property
    def together(self) -> int:
        """Pairs that are encoded together: the chunk, or the whole micro-batch."""
        return min(self.batch_size, self.chunk or self.batch_size)

    @property
    def activations(self) -> int:
        """Bytes of the activations of the pairs that are encoded together, with the allocator's share."""
        return round((1 + self.heap) * (self.fixed + self.per_pair * self.together))

    @property
    def needed(self) -> int:
        """Bytes of weights, gradient copies, the largest weight's gradient and activations together."""
        return self.weights + self.copies * self.gradients + self.largest_weight + self.activations

    @property
    def fits(self) -> bool:
        """Whether what is needed is there."""
        return self.needed <= self.available

    @property
    def largest(self) -> int:
        """The most pairs that can be encoded together, 0 or more; the largest micro-batch without a chunk, and the largest chunk of any micro-batch."""
        left = self.available - (self.needed - self.activations)
        return max(0, int((left / (1 + self.heap) - self.fixed) // self.per_pair))

    def sentence(self) -> str:
        """For the reader: "needs about N GB, you have M GB", and what to do where that is too little. GB are 10^9 bytes."""
        said = (f"A micro-batch of {self.batch_size}{f' in chunks of {self.chunk}' if self.together < self.batch_size else ''} needs about {self.needed / 1e9:.1f} GB "
                f"({self.weights / 1e9:.1f} weights, {self.copies} x {self.gradients / 1e9:.1f} gradients, {self.activations / 1e9:.1f} activations), "
                f"you have {self.available / 1e9:.1f} GB on {self.device}")
        if self.fits:
            return f"{said}."
        if self.largest >= SMALLEST_CHUNK:
            return f"{said}: use chunk={self.largest}."
        return f"{said}: not even chunk={SMALLEST_CHUNK} fits. Take a smaller model or a machine with more memory."

    def require(self) -> "Plan":
        """The plan itself if it fits. Raises MemoryPlanError with the sentence if it does not."""
        if not self.fits:
            raise MemoryPlanError(self.sentence())
        return self


def plan(clip: Clip, batch_size: int = 128, precision: str = "fp32", chunk: int | None = None, copies: int = 2) -> Plan:
    """Measure one pair and two pairs, and tell what a micro-batch will take. Returns a `Plan`; the model stays as it is.

    precision: fp32, or bf16 or fp16 as of `slugkit.gradients.retain_gradient`. chunk: as there. copies: of the gradient, held at once: the one that is being summed
    and, with 2, one of another set that the caller still holds. Activations are what autograd keeps for the way back, counted once per storage, and grow with the pairs.
    """
    tensors = [*clip.model.parameters(), *clip.model.buffers()]
    one, two = (kept_for_backward(clip, pairs, precision) for pairs in (1, 2))
    weights = sum(x.numel() * x.element_size() for x in tensors)
    sizes = [4 * p.numel() for p in clip.model.parameters()]
    per_pair, device = max(1, two - one), clip.device
    return Plan(weights, sum(sizes), copies, per_pair, max(0, one - per_pair), HEAP.get(device.type, 0.3), max(sizes),
                free_memory(device) + weights, batch_size, chunk, device.type)


def kept_for_backward(clip: Clip, pairs: int, precision: str = "fp32") -> int:
    """Bytes that autograd keeps of one forward pass of both towers over so many grey pictures with a caption; parameters and buffers are not counted."""
    own = {x.untyped_storage().data_ptr() for x in [*clip.model.parameters(), *clip.model.buffers()]}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), x)  # the tensor too, so that its address is not given away again
        return x

    pictures = np.full((pairs, clip.image_size, clip.image_size, 3), 127, np.uint8)
    pixels, tokens = clip.pixels(pictures), clip.tokens(["a picture"] * pairs)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        with torch.autocast(clip.device.type, dtype=HALF[precision], enabled=precision != "fp32"):
            features = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    del features
    return sum(size for size, _ in kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that a process can still take on this device: free memory of the GPU and what torch has set aside there, or the machine's available memory."""
    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + spare
    import psutil
    return psutil.virtual_memory().available
