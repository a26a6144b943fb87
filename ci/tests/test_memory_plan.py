"""The memory plan of a gradient on the studio CLIP: what it counts, what it proposes, and when it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from slugkit.base import MemoryPlanError
from slugkit.models.memory import kept_for_backward, plan


@pytest.fixture(scope="module")
def made(clip):
    return plan(clip, 128)


def test_weights_and_gradients_are_counted_to_the_byte(clip, made):
    numbers = sum(p.numel() for p in clip.model.parameters())
    assert made.gradients == 4 * numbers
    assert made.weights == 4 * numbers + sum(b.numel() * b.element_size() for b in clip.model.buffers())
    assert made.needed > made.weights + 2 * made.gradients + 128 * made.per_pair


def test_one_and_two_pairs_tell_what_more_pairs_keep(clip, made):
    assert kept_for_backward(clip, 12) == pytest.approx(made.fixed + 12 * made.per_pair, rel=0.02)


def test_what_is_counted_is_what_the_allocator_holds_after_a_forward_pass(clip):
    pixels, tokens = clip.pixels(np.zeros((8, 64, 64, 3), np.uint8)), clip.tokens(["a picture"] * 8)
    clip.model.encode_image(pixels)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        features = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    held = sum(event.self_cpu_memory_usage for event in seen.key_averages())
    given = pixels.numel() * 4 + tokens.numel() * 8  # made before the profile began
    assert len(features) == 2 and kept_for_backward(clip, 8) == pytest.approx(held + given, rel=0.03)


def test_half_precision_keeps_less(clip):
    assert kept_for_backward(clip, 4, "bf16") < 0.8 * kept_for_backward(clip, 4)


def test_the_chunk_that_is_proposed_fits_and_one_pair_more_does_not(made):
    tight = replace(made, available=made.needed - 40 * made.per_pair)
    assert made.fits and not tight.fits and 2 <= tight.largest < 128
    assert replace(tight, chunk=tight.largest).fits and not replace(tight, chunk=tight.largest + 1).fits
    said = tight.sentence()
    assert "needs about" in said and "you have" in said and said.endswith(f"use chunk={tight.largest}.")
    assert replace(tight, chunk=tight.largest).require().largest == tight.largest
    with pytest.raises(MemoryPlanError, match=f"use chunk={tight.largest}"):
        tight.require()


def test_where_not_even_the_smallest_chunk_fits_it_says_so(made):
    hopeless = replace(made, available=made.weights + made.gradients)
    assert hopeless.largest == 0
    with pytest.raises(MemoryPlanError, match="not even chunk=2 fits"):
        hopeless.require()


def test_measuring_leaves_the_model_as_it_was(clip):
    before = {name: p.detach().clone() for name, p in clip.model.named_parameters()}
    plan(clip, 8)
    assert all(p.grad is None and torch.equal(p.detach(), before[name]) for name, p in clip.model.named_parameters())
