"""The patch as a file: what survives it, and what is refused."""

import json
import math
import random
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_from
from safetensors.torch import load_file
from safetensors.torch import save as bytes_of
from tiny_clip import same_bits, tiny_clip
from tiny_patch import OUT_PROJ, patch_for, vars_of

from slugkit import patch
from slugkit.base import PatchError, sha256_file, sha256_json, sha256_tensor
from slugkit.method.edit import EditableLayer
from slugkit.patch import format as file


@pytest.fixture
def saved(tmp_path):
    made = patch_for(
        tiny_clip(),
        metrics={"fa1": 0.0, "n": 200},
        provenance={"seed": 0, "sets": ["forget", "retain"]},
    )
    return made, patch.save(made, tmp_path / "text.safetensors")


# ---------------------------------------------------------------- the file


def test_a_patch_survives_its_file(saved):
    made, path = saved
    loaded = patch.load(path)
    assert same_bits(loaded.direction, made.direction)
    for name in "layer tower lam rho concept base_sha256 metrics provenance tool_version".split():
        assert getattr(loaded, name) == getattr(made, name), name
    assert loaded.sha256 == made.sha256 == sha256_file(path)
    assert (loaded.layer, loaded.tower, loaded.concept) == (OUT_PROJ, "text", "Mira Kestrel")
    assert abs(loaded.rho - 0.15) <= math.ulp(0.15)


def test_the_same_patch_gives_the_same_bytes(tmp_path):
    files = [
        patch.save(patch_for(tiny_clip()), tmp_path / f"{i}.safetensors").read_bytes()
        for i in range(3)
    ]
    assert files[0] == files[1] == files[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{i}.safetensors" for i in range(3)
    ]


def test_the_order_of_the_metrics_does_not_make_another_patch():
    first, second = ({"fa1": 0.0, "n": 200}, {"n": 200, "fa1": 0.0})
    assert (
        patch_for(tiny_clip(), metrics=first).sha256
        == patch_for(tiny_clip(), metrics=second).sha256
    )
    assert patch_for(tiny_clip(), metrics=first).sha256 != patch_for(tiny_clip()).sha256


def test_any_safetensors_reader_can_open_it(saved):
    made, path = saved
    tensors = load_file(path)
    assert list(tensors) == ["direction"] and torch.equal(tensors["direction"], made.direction)


def test_file_size_of_a_1024_square_layer(tmp_path, capsys):
    draw = torch.Generator().manual_seed(0)
    editable = EditableLayer(
        torch.randn(1024, 1024, generator=draw), torch.randn(1024, 1024, generator=draw)
    )
    size = (
        patch.save(patch.make("x", editable, 0.1, "Mira Kestrel"), tmp_path / "p.safetensors")
        .stat()
        .st_size
    )
    with capsys.disabled():
        print(f" [1024 x 1024 layer: {size} bytes] ", end="")
    assert 4 * 1024**2 < size < 4 * 1024**2 + 2000


# ---------------------------------------------------------------- patches that cannot be


@pytest.mark.parametrize(
    "change",
    [
        {"lam": -0.1},
        {"lam": 0.0},
        {"lam": math.nan},
        {"lam": math.inf},
        {"rho": math.nan},
        {"tower": "speech"},
        {"concept": 7},
        {"base_sha256": {"fp32": "0" * 64}},
        {"base_sha256": {"fp32": "0" * 64, "fp16": "xyz", "bf16": "0" * 64}},
        {"metrics": {"fa1": math.nan}},
        {"metrics": {"fa1": object()}},
        {"provenance": {"notes": "x" * 2_000_000}},
        {"direction": torch.ones(32, 32, dtype=torch.float64)},
        {"direction": torch.full((32, 32), math.nan)},
    ],
)
def test_senseless_patches_cannot_be_made(change):
    made = patch_for(tiny_clip())
    with pytest.raises(PatchError):
        patch.Patch(**{**vars_of(made), **change})


def test_numpy_numbers_become_plain_numbers(tmp_path):
    made = patch_for(tiny_clip(), metrics={"fa1": np.float64(0.25), "n": np.int64(3)})
    loaded = patch.load(patch.save(made, tmp_path / "p.safetensors"))
    assert loaded.metrics == {"fa1": 0.25, "n": 3} and loaded.sha256 == made.sha256


# ---------------------------------------------------------------- broken files


def parts(data):
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_metadata(data, seal=False, **changes):
    header, body = parts(data)
    record = json.loads(header["__metadata__"]["slugkit"])
    for key, value in changes.items():
        if value is None:
            del record[key]
        else:
            record[key] = value
    if seal:
        record["checksum"] = sha256_json(
            {key: value for key, value in record.items() if key != "checksum"}
        )
    header["__metadata__"]["slugkit"] = json.dumps(record)
    return joined(header, body)


def with_header(data, change):
    header, body = parts(data)
    change(header)
    return joined(header, body)


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def of_type(dtype):
    def make(data):
        metadata = parts(data)[0]["__metadata__"]
        return bytes_of({"direction": tensors_from(data)["direction"].to(dtype)}, metadata)

    return make


def not_finite(data):
    direction = tensors_from(data)["direction"]
    direction[0, 0] = math.inf
    data = bytes_of({"direction": direction}, parts(data)[0]["__metadata__"])
    return with_metadata(data, seal=True, tensors_sha256={"direction": sha256_tensor(direction)})


BROKEN = {
    "empty": lambda data: b"",
    "seven bytes": lambda data: data[:7],
    "cut in the header": lambda data: data[:200],
    "cut by one byte": lambda data: data[:-1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "one byte more": lambda data: data + b"\0",
    "tensor bit flipped": lambda data: flipped(data, len(data) - 5),
    "header claims 2^63 bytes": lambda data: struct.pack("<Q", 1 << 63) + data[8:],
    "header claims 90 MB": lambda data: struct.pack("<Q", 90_000_000) + data[8:],
    "header is not JSON": lambda data: joined(b"{nonsense", parts(data)[1]),
    "header is a list": lambda data: joined(b"[1, 2]", parts(data)[1]),
    "header is not text": lambda data: joined(b"\xff\xfe\xfa", parts(data)[1]),
    "header nests too deep": lambda data: joined(b"[" * 500_000, parts(data)[1]),
    "no metadata": lambda data: with_header(data, lambda h: h.pop("__metadata__")),
    "metadata under another name": lambda data: with_header(
        data, lambda h: h.update(__metadata__={"format": "pt"})
    ),
    "metadata are not JSON": lambda data: with_header(
        data, lambda h: h.update(__metadata__={"slugkit": "lam = 1"})
    ),
    "metadata are a number": lambda data: with_header(
        data, lambda h: h.update(__metadata__={"slugkit": "3"})
    ),
    "metadata are no dict": lambda data: with_header(data, lambda h: h.update(__metadata__=[1])),
    "metadata are huge": lambda data: with_metadata(
        data, seal=True, provenance={"x": "y" * 2_000_000}
    ),
    "metadata nest too deep": lambda data: with_header(
        data, lambda h: h.update(__metadata__={"slugkit": "[" * 300_000})
    ),
    "no tensor": lambda data: with_header(data, lambda h: h.pop("direction")),
    "tensor entry is a word": lambda data: with_header(data, lambda h: h.update(direction="F32")),
    "a second tensor": lambda data: with_header(data, lambda h: h.update(other=h["direction"])),
    "tensor of another shape": lambda data: with_header(
        data, lambda h: h["direction"].update(shape=[16, 64])
    ),
    "tensor of an impossible shape": lambda data: with_header(
        data, lambda h: h["direction"].update(shape=[1 << 40, 64])
    ),
    "tensor renamed to F16": lambda data: with_header(
        data, lambda h: h["direction"].update(dtype="F16")
    ),
    "tensor of half precision": of_type(torch.float16),
    "tensor of doubles": of_type(torch.float64),
    "tensor not finite": not_finite,
    "lambda changed": lambda data: with_metadata(data, lam=0.5),
    "lambda is text": lambda data: with_metadata(data, seal=True, lam="0.5"),
    "lambda negative": lambda data: with_metadata(data, seal=True, lam=-0.5),
    "lambda infinite": lambda data: with_metadata(data, lam=math.inf),
    "layer missing": lambda data: with_metadata(data, seal=True, layer=None),
    "base missing": lambda data: with_metadata(data, seal=True, base_sha256=None),
    "one base missing": lambda data: with_metadata(data, seal=True, base_sha256={"fp32": "0" * 64}),
    "unknown entry": lambda data: with_metadata(data, seal=True, surprise=1),
    "a newer version": lambda data: with_metadata(data, seal=True, version=3),
    "another format": lambda data: with_metadata(data, seal=True, format="lora"),
    "a pickle": lambda data: b"\x80\x04\x95" + data,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_raise_a_patch_error(name, saved):
    _, path = saved
    path.write_bytes(BROKEN[name](path.read_bytes()))
    with pytest.raises(PatchError, match="text.safetensors is not a sound patch file: .") as caught:
        patch.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name", ["header claims 2^63 bytes", "header claims 90 MB", "metadata are huge"]
)
def test_a_header_too_large_is_refused_before_it_is_read(name, saved, monkeypatch):
    _, path = saved
    path.write_bytes(BROKEN[name](path.read_bytes()))
    monkeypatch.setattr(
        file.json, "loads", lambda *args, **kwargs: pytest.fail("the header was parsed")
    )
    with pytest.raises(PatchError, match="more than any patch needs"):
        patch.load(path)


def test_another_number_type_is_named(saved):
    _, path = saved
    path.write_bytes(of_type(torch.float16)(path.read_bytes()))
    with pytest.raises(PatchError, match="type F16, not F32"):
        patch.load(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(PatchError, match="cannot be read"):
            patch.load(path)


def test_damage_anywhere_is_noticed(saved):
    """Every single flipped bit of a sample of places either fails to load or loads the
    same patch.
    """
    made, path = saved
    data = path.read_bytes()
    places = list(range(0, 8)) + random.Random(0).sample(range(8, len(data)), 250)
    for place in places:
        path.write_bytes(flipped(data, place))
        try:
            loaded = patch.load(path)
        except PatchError:
            continue
        assert loaded.sha256 == made.sha256, place


def test_the_helpers_of_these_tests_make_sound_files(saved):
    made, path = saved
    path.write_bytes(with_metadata(path.read_bytes(), seal=True, concept="Kofi Okoye"))
    assert patch.load(path).concept == "Kofi Okoye"
    assert same_bits(patch.load(path).direction, made.direction)
