"""A real open_clip CLIP of a few thousand random weights, for tests."""

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

VISION = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=16)
TEXT = CLIPTextCfg(context_length=8, vocab_size=50, width=32, heads=2, layers=2)


def tiny_clip(seed: int = 0) -> CLIP:
    """A CLIP in eval mode with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIP(16, VISION, TEXT).eval()


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all tensors of a model, buffers included."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """True if dtype, shape and every bit agree (-0.0 and 0.0 differ)."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(
        first.contiguous().view(-1).view(torch.uint8),
        second.contiguous().view(-1).view(torch.uint8),
    )


def changed(before: dict[str, torch.Tensor], model: torch.nn.Module) -> set[str]:
    """Names of the tensors that no longer hold the bits they held before."""
    return {
        name for name, tensor in model.state_dict().items() if not same_bits(before[name], tensor)
    }
