"""The hash of a network's weights, taken again only when they have changed."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from slugkit.base import sha256_json, sha256_tensor

_KNOWN: WeakKeyDictionary = WeakKeyDictionary()
"""Network -> (what tells that its weights are as they were, their hash)."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_sha256(network: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a network's parameters."""
    named = {name: weight.detach() for name, weight in network.named_parameters()}
    sums = [w.view(_BITS[w.element_size()]).sum(dtype=torch.int64).cpu() for w in named.values()]
    # where each weight lies, torch's count of its changes, and the sum of its bits
    places = [(name, w.data_ptr(), w._version) for name, w in named.items()]
    mark = places, [int(bits) for bits in sums]
    known = _KNOWN.get(network)
    if known is None or known[0] != mark:
        known = mark, sha256_json({name: sha256_tensor(w) for name, w in named.items()})
        _KNOWN[network] = known
    return known[1]
