"""A network's hash is taken once, and again after every kind of change."""

import pytest
import torch

from slugkit.models import fingerprint
from slugkit.models.fingerprint import weights_sha256


@pytest.fixture
def hashed(monkeypatch):
    """Shapes of the tensors that were hashed so far."""
    seen, plain = [], fingerprint.sha256_tensor
    monkeypatch.setattr(
        fingerprint, "sha256_tensor", lambda w: seen.append(tuple(w.shape)) or plain(w)
    )
    return seen


def in_place(w):
    with torch.no_grad():
        w[0, 0] += 1


def past_torchs_count(w):
    w.data[0, 0] = 7.0


def in_other_memory(w):
    w.data = w.data.clone() * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("change", [in_place, past_torchs_count, in_other_memory])
def test_a_changed_weight_is_hashed_again_and_an_unchanged_one_is_not(hashed, change, dtype):
    network = torch.nn.Linear(3, 2).to(dtype)
    first = weights_sha256(network)
    assert weights_sha256(network) == first and len(hashed) == 2
    change(network.weight)
    second = weights_sha256(network)
    assert second != first and len(hashed) == 4
    with torch.no_grad():
        network.weight.copy_(network.weight)
    assert weights_sha256(network) == second, "the same values have the same hash"


def test_names_types_and_shapes_count(hashed):
    one = torch.nn.Linear(2, 2, bias=False)
    other = torch.nn.Bilinear(2, 1, 2, bias=False)
    with torch.no_grad():
        other.weight.copy_(one.weight.reshape(2, 2, 1))
    assert (
        len(
            {
                weights_sha256(one),
                weights_sha256(other),
                weights_sha256(torch.nn.Sequential(one)),
                weights_sha256(one.half()),
            }
        )
        == 4
    )
