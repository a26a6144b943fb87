"""The memory plan of a gradient on the studio CLIP: what it counts, what it proposes, and when it
refuses.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from slugkit.base import MemoryPlanError, group_rooms
from slugkit.models import memory
from slugkit.models.memory import kept_for_backward, plan


@pytest.fixture(scope="module")
def made(clip):
    return plan(clip, 128)


def test_weights_and_gradients_are_counted_to_the_byte(clip, made):
    numbers = sum(p.numel() for p in clip.model.parameters())
    assert made.gradients == 4 * numbers
    assert made.weights == 4 * numbers + sum(
        b.numel() * b.element_size() for b in clip.model.buffers()
    )
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
    assert len(features) == 2 and kept_for_backward(clip, 8) == pytest.approx(
        held + given, rel=0.03
    )


def test_half_precision_keeps_less(clip):
    assert kept_for_backward(clip, 4, "bf16") < 0.8 * kept_for_backward(clip, 4)


def test_the_chunk_that_is_proposed_fits_and_one_pair_more_does_not(made):
    tight = replace(made, available=made.needed - 40 * made.per_pair)
    assert made.fits and not tight.fits and 2 <= tight.largest < 128
    assert (
        replace(tight, chunk=tight.largest).fits
        and not replace(tight, chunk=tight.largest + 1).fits
    )
    said = tight.sentence()
    assert (
        "needs about" in said
        and "you have" in said
        and said.endswith(f"use chunk={tight.largest}.")
    )
    assert replace(tight, chunk=tight.largest).require().largest == tight.largest
    with pytest.raises(MemoryPlanError, match=f"use chunk={tight.largest}"):
        tight.require()


def test_chunks_pay_for_their_pictures_and_for_the_pass_without_a_graph(made):
    whole, chunked, picture = (
        replace(made, batch_size=8, chunk=8),
        replace(made, batch_size=32, chunk=8),
        3 * 64 * 64,
    )
    blocks = 6 + 4
    assert chunked.together == whole.together == 8 and made.heap == 0.3
    extra = 1.3 * (made.fixed + 8 * made.per_pair) / blocks + (3 * 32 - 2 * 8) * picture
    assert chunked.needed - whole.needed == pytest.approx(extra, abs=2)
    large = replace(chunked, picture=4 * made.per_pair)
    assert replace(large, chunk=None, available=large.needed + 10).largest == 8


def test_small_micro_batches_go_together_as_far_as_memory_allows(made):
    small = replace(made, batch_size=8, available=10**11)
    assert (
        small.together == 128
        and replace(small, chunk=100).together == 96
        and replace(small, chunk=4).together == 4
    )
    assert "16 micro-batches of 8 together need about" in small.sentence()
    tight = replace(small, available=small.weights + 3 * small.gradients + 200 * small.per_pair)
    assert 8 < tight.together < 128 and tight.together % 8 == 0 and tight.fits
    assert replace(small, available=small.weights).together == 8, (
        "never less than a whole micro-batch"
    )
    heavy = replace(small, per_pair=40_000_000)
    assert heavy.together == 16 and replace(heavy, per_pair=200_000_000).together == 8, (
        "on a CPU large models gain nothing by it"
    )
    assert (
        replace(heavy, device="cuda", available=10**11).together == 512
        and replace(made, batch_size=128).together == 128
    )


def test_where_not_even_the_smallest_chunk_fits_it_says_so(made):
    hopeless = replace(made, available=made.weights + made.gradients)
    assert hopeless.largest == 0
    with pytest.raises(MemoryPlanError, match="not even chunk=2 fits"):
        hopeless.require()


def test_measuring_leaves_the_model_as_it_was(clip):
    before = {name: p.detach().clone() for name, p in clip.model.named_parameters()}
    plan(clip, 8)
    assert all(
        p.grad is None and torch.equal(p.detach(), before[name])
        for name, p in clip.model.named_parameters()
    )


def group(root, folder, limit, used, idle, version=2):
    """A control group's files as Linux writes them."""
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    place = root / "sys/fs/cgroup" / folder.strip("/")
    place.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=False):
        (place / name).write_text(f"{value}\n")
    (place / "memory.stat").write_text(f"file 700\nactive_file 5\n{names[2]} {idle}\n")


@pytest.mark.parametrize(
    ("version", "line", "top"),
    [(2, "0::", ""), (1, "4:cpu,memory:", "memory"), (1, "0::/elsewhere\n4:memory:", "memory")],
)
def test_the_room_in_a_container_is_its_groups_and_not_the_machines(tmp_path, version, line, top):
    (tmp_path / "proc/self").mkdir(parents=True)
    said, nothing = tmp_path / "proc/self/cgroup", "max" if version == 2 else 2**63 - 4096
    assert group_rooms(tmp_path) == [], "no control groups"
    said.write_text(f"9:name=systemd:/\n{line}/jobs/mine\n")
    assert group_rooms(tmp_path) == [], "none with a memory controller"
    for folder, limit, used in (
        ("jobs/mine", nothing, 4000),
        ("jobs", 10_000, 4_500),
        ("", 50_000, 20_000),
        ("jobs/other", 10, 0),
        ("..", 10, 0),
    ):
        group(tmp_path, f"{top}/{folder}", limit, used, 500, version)
    assert sorted(group_rooms(tmp_path)) == [6_000, 30_500], (
        "a limit above the own group holds; another group's and one above the mount do not"
    )
    group(tmp_path, f"{top}/jobs/mine", 4_000, 9_000, 500, version)
    assert min(group_rooms(tmp_path)) == 0, "over its limit"
    said.write_text(f"{line}/host/path/of/the/container\n")
    assert group_rooms(tmp_path) == [30_500], "the container sees its own group at the top"


def test_a_plan_goes_by_the_smaller_of_machine_and_group(clip, made, monkeypatch):
    import psutil

    monkeypatch.setattr("slugkit.base.machine.group_rooms", lambda: [3 * 10**9, 10**6])
    assert memory.free_memory(clip.device) == 10**6 and not plan(clip, 128).fits
    monkeypatch.setattr("slugkit.base.machine.group_rooms", lambda: [])
    assert memory.free_memory(clip.device) == pytest.approx(
        psutil.virtual_memory().available, rel=0.2
    )
