"""What is kept to save time is never believed when it is cut short or altered: it is made again,
and the results are the same.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.base import cached_json, cached_tensors, read_hashed, write_hashed, write_tensors
from slugkit.data import studio_source
from slugkit.data.studio_source import StudioSource, drawn
from slugkit.evaluation.diffusion import drawn_prompts
from slugkit.experiments.drawn_set import write_drawn_set
from slugkit.models.diffusion import load_pipeline
from slugkit.studio.train import loop
from slugkit.studio.train.clip import Recipe
from slugkit.unlearning.retain import RetainSide


def flipped(data, at):
    """The bytes with one of them altered."""
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


DAMAGE = {
    "cut to half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "a byte of the contents": lambda data: flipped(data, len(data) - 7),
    "a byte of the header": lambda data: flipped(data, 12),
    "longer": lambda data: data + b"\0" * 8,
    "empty": lambda data: b"",
    "another file": lambda data: b"not what was written" * 40,
}
every_damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))


@every_damage
def test_tensors_are_made_again_where_their_file_is_not_what_was_written(tmp_path, damage):
    made, path = [], tmp_path / "t.safetensors"

    def tensors():
        made.append(1)
        return {
            "a": torch.arange(40.0),
            "b": torch.ones(3, dtype=torch.bfloat16),
            "c": torch.tensor(7),
        }

    def same():
        return all(
            torch.equal(first[name], kept) for name, kept in cached_tensors(path, tensors).items()
        )

    first = cached_tensors(path, tensors)
    whole = path.read_bytes()
    assert same() and same() and len(made) == 1
    path.write_bytes(damage(whole))
    assert same() and len(made) == 2, "the first call mends"
    assert same() and len(made) == 2 and path.read_bytes() == whole, "the second reads"


@every_damage
def test_values_are_made_again_where_their_file_is_not_what_was_written(tmp_path, damage):
    value, path = {"notes": ["é", None, 1.5]}, tmp_path / "v.json"
    assert (
        cached_json(path, lambda: value)
        == cached_json(path, lambda: pytest.fail("it is kept"))
        == value
    )
    path.write_bytes(damage(path.read_bytes()))
    assert cached_json(path, lambda: value) == value
    assert cached_json(path, lambda: pytest.fail("it is kept")) == value
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert cached_json(path, lambda: value) == value


def test_a_file_without_a_hash_and_a_changed_note_are_not_believed(tmp_path):
    write_tensors(tmp_path / "plain.safetensors", {"a": torch.zeros(3)})
    assert (
        read_hashed(tmp_path / "plain.safetensors") is None
        and read_hashed(tmp_path / "none.safetensors") is None
    )
    write_hashed(tmp_path / "noted.safetensors", {"a": torch.zeros(3)}, {"step": "100"})
    assert read_hashed(tmp_path / "noted.safetensors")[1] == {"step": "100"}
    data = (tmp_path / "noted.safetensors").read_bytes()
    (tmp_path / "noted.safetensors").write_bytes(data.replace(b'"100"', b'"900"'))
    assert read_hashed(tmp_path / "noted.safetensors") is None


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("where a folder should be")
    assert torch.equal(
        cached_tensors(tmp_path / "file" / "t.safetensors", lambda: {"a": torch.ones(2)})["a"],
        torch.ones(2),
    )
    assert cached_json(tmp_path / "file" / "v.json", lambda: [1]) == [1]


@every_damage
def test_the_studios_pictures_are_drawn_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    records = StudioSource().training[:3]
    first = drawn(records)
    [file] = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert np.array_equal(drawn(records), first)
    monkeypatch.setattr(
        studio_source.studio, "draw_many", lambda *_, **__: pytest.fail("they are kept")
    )
    assert np.array_equal(drawn(records), first)


@every_damage
def test_retain_gradients_are_computed_again(clip, source, tmp_path, damage):
    given = dict(size=12, batch_size=12, folder=tmp_path)
    first = RetainSide(clip, source, ["Mira Kestrel"], **given).parts
    [file] = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = RetainSide(clip, source, ["Mira Kestrel"], **given).parts
    assert list(again[0]) == list(first[0]) and all(
        torch.equal(again[0][name], first[0][name]) for name in first[0]
    )


@every_damage
def test_a_training_begins_anew_rather_than_from_a_broken_checkpoint(tmp_path, damage, capsys):
    recipe = Recipe(steps=100, warmup=1)

    def train(checkpoint):
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2)
        loop.fit(
            model,
            lambda step: model(torch.rand(5, 3)).square().mean(),
            recipe,
            0,
            "training",
            checkpoint,
        )
        return model.state_dict()

    straight, checkpoint = train(tmp_path / "state.safetensors"), tmp_path / "state.safetensors"
    assert (
        all(torch.equal(straight[k], v) for k, v in train(checkpoint).items())
        and not capsys.readouterr().out
    )
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert all(torch.equal(straight[k], v) for k, v in train(checkpoint).items())
    assert (
        "state.safetensors is cut short or altered; the training begins anew"
        in capsys.readouterr().out
    )


def test_an_answer_set_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    pipe, table = (
        load_pipeline("studio", "cpu"),
        pd.DataFrame({"prompt": ["a car", "a fish"], "seed": [1, 2]}),
    )
    first = drawn_prompts(pipe, table, steps=1)
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for damage in DAMAGE.values():
        file.write_bytes(damage(whole))
        assert (
            np.array_equal(drawn_prompts(pipe, table, steps=1), first)
            and file.read_bytes() == whole
        )


def test_a_drawn_set_draws_again_what_is_cut_short_or_altered(tmp_path):
    folder = write_drawn_set(tmp_path / "set", ["Tin Wobble", "mushroom"], count=2, exam=0, steps=1)
    files = sorted((folder / "images").iterdir())
    whole = [file.read_bytes() for file in files]
    for file, damage in zip(
        files, ("cut to half", "a byte of the contents", "empty"), strict=False
    ):
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    files[3].write_bytes(flipped(whole[3], len(whole[3]) // 2))
    untouched = json.loads((folder / "drawn.json").read_text())
    write_drawn_set(folder, ["Tin Wobble", "mushroom"], count=2, exam=0, steps=1)
    assert [file.read_bytes() for file in files] == whole and json.loads(
        (folder / "drawn.json").read_text()
    ) == untouched
