"""Patch files that are made to hurt: bombs, pipes, texts for the terminal; and that `verify`
refuses what `apply` refuses.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from repository import REPOSITORY
from safetensors.torch import save as bytes_of
from safetensors.torch import save_file
from tiny_clip import tiny_clip
from tiny_patch import OUT_PROJ, patch_for, vars_of
from tiny_transformers import filled, whole
from typer.testing import CliRunner

from slugkit import patch
from slugkit.base import PatchError, printable, sha256_json, sha256_tensor
from slugkit.patch.checkpoint import RECORD, apply_to_files, verify_files
from slugkit.workbook import cli


def forged(tensors, shape, form="low rank", layer=OUT_PROJ):
    """A patch file with a sound checksum that says whatever is wanted."""
    made = (
        patch.low_rank(patch_for(tiny_clip()), 1)
        if form == "low rank"
        else patch.half(patch_for(tiny_clip()))
    )
    data = made.content()
    record = json.loads(
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["slugkit"]
    )
    record |= {
        "shape": shape,
        "layer": layer,
        "tensors_sha256": {name: sha256_tensor(t) for name, t in tensors.items()},
    }
    record["checksum"] = sha256_json({k: v for k, v in record.items() if k != "checksum"})
    return bytes_of(tensors, {"slugkit": json.dumps(record)})


def run(code, timeout=100):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------- bombs


@pytest.mark.slow
def test_small_files_that_unfold_into_much_cost_nothing_until_a_model_has_such_a_layer(tmp_path):
    bombs = [
        (1 << 13, 1, [1 << 13, 1 << 13]),
        (8000, 2, [8000, 8000]),
        (8192, 1, [8192, 512, 4, 4]),
    ]
    for number, (rows, rank, shape) in enumerate(bombs):
        tensors = {
            "left": torch.ones(rows, rank).half(),
            "right": torch.ones(rank, torch.Size(shape[1:]).numel()).half(),
        }
        (tmp_path / f"{number}.safetensors").write_bytes(forged(tensors, shape))
        assert (tmp_path / f"{number}.safetensors").stat().st_size < 150_000
    save_file({OUT_PROJ: torch.ones(32, 32)}, tmp_path / "model.safetensors")
    said = run(f"""import resource, torch
from slugkit import patch
from slugkit.patch.checkpoint import verify_files
now = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = now()
for number in range(3):
    p = patch.load(f"{tmp_path}/{{number}}.safetensors")
    weights = {{{OUT_PROJ!r}: torch.ones(32, 32)}}
    for call, model in ((patch.verify, weights), (verify_files, "{tmp_path}/model.safetensors")):
        try:
            call(p, model)
        except Exception as error:
            told = "has the shape (32, 32) in this model" in str(error)
            print(type(error).__name__, told, str(tuple(p.shape)) in str(error), len(p.sha256))
print(now() - before)""")
    *refused, peak = said.splitlines()
    assert refused == ["PatchError True True 64"] * 6 and int(peak) < 60, (
        f"{refused}, {peak} MB more"
    )


@pytest.mark.parametrize(
    ("shape", "rank", "says"),
    [
        ([1 << 14, 1 << 14], 1, "more than any patch needs"),
        ([1 << 24, 1 << 24], 1, "more than any patch needs"),
        ([32, 32], 40, "its rank 40 is more than"),
        ([64, 32], 1, "do not make the shape"),
    ],
)
def test_sizes_that_no_layer_has_are_refused(shape, rank, says):
    with pytest.raises(PatchError, match=says):
        patch.format.loads(
            forged(
                {"left": torch.ones(32, rank).half(), "right": torch.ones(rank, 32).half()}, shape
            )
        )


def test_a_file_of_more_bytes_than_a_patch_needs_is_not_read(tmp_path):
    for form in ("fp32", "fp16", "low rank"):
        with (tmp_path / "long.safetensors").open("wb") as stream:
            stream.truncate(patch.format.MAX_FILE + 1)  # sparse: it takes no disk
        with pytest.raises(PatchError, match="more than any patch needs"):
            patch.load(tmp_path / "long.safetensors")
        assert patch.format.FORMS[form]


def test_a_direction_that_unfolds_into_infinity_is_refused_when_it_is_wanted():
    big = {"left": torch.full((32, 2), 6e4).half(), "right": torch.full((2, 32), 6e4).half()}
    made = patch.format.loads(forged(big, [32, 32]))
    endless = patch.Patch(
        **{**vars_of(made), "direction": torch.empty(32, 32, device="meta"), "scale": 1e38}
    )
    for p in (endless, patch.format.loads(endless.content())):
        with pytest.raises(PatchError, match="finite float32"):
            p.direction  # noqa: B018
    assert torch.isfinite(made.direction).all()


# ---------------------------------------------------------------- no regular files


@pytest.mark.slow
def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", "/dev/zero", tmp_path):
        said = run(f"""from slugkit import patch
from slugkit.base import PatchError
for call in (patch.load, lambda path: patch.load_record(path, {{}})):
    try:
        call({str(path)!r})
    except PatchError as error:
        print(str(error).splitlines()[0])
""")
        assert (
            "no regular file" in said.splitlines()[0] and "no regular file" in said.splitlines()[1]
        ), said
    shown = CliRunner().invoke(cli.app, ["patch", "show", str(tmp_path / "pipe.safetensors")])
    assert "There is no file" in str(shown.exception)


# ---------------------------------------------------------------- the terminal


UGLY = ["\x1b[2J\x1b[1;31mred", "two\nlines\rback", "\u202eright to left", "\x9b31m", "bell\x07"]


@pytest.mark.parametrize("text", UGLY)
def test_nothing_in_a_patch_reaches_the_terminal_as_a_command(text, tmp_path, monkeypatch, capsys):
    edit = patch_for(
        tiny_clip(), concept=text, metrics={text: 0.5}, provenance={"note": text, text: [text]}
    )
    edit = patch.Patch(**{**vars_of(edit), "tool_version": text})
    file, folder = edit.save(tmp_path / "p.safetensors"), tmp_path / "model"
    filled(whole(), tiny_clip()).save_pretrained(folder)
    runner = CliRunner()
    outputs = [
        runner.invoke(cli.app, ["patch", *map(str, words)]).output
        for words in (
            ("show", file),
            ("verify", file, "--model", folder),
            ("apply", file, "--model", folder, "--out", tmp_path / "out"),
            ("add", file, file, "--out", tmp_path / "sum.safetensors"),
            ("remove", file, "--model", tmp_path / "out", "--out", tmp_path / "back"),
            ("pack", file, "--out", tmp_path / "small.safetensors"),
        )
    ]
    assert all(outputs) and printable(text) in outputs[0]
    for output in outputs:
        assert all(line.isprintable() for line in output.split("\n")), output
    filled(whole(), tiny_clip(seed=3)).save_pretrained(tmp_path / "other")
    capsys.readouterr()
    monkeypatch.setattr(
        sys, "argv", ["slugkit", "patch", "verify", str(file), "--model", str(tmp_path / "other")]
    )
    with pytest.raises(SystemExit):
        cli.main()
    failed = capsys.readouterr().err
    assert (
        printable(text).strip() in failed
        and failed.count("\n") == 1
        and failed.strip("\n").isprintable()
    )


# ---------------------------------------------------------------- verify and apply


def test_verify_refuses_what_apply_refuses(tmp_path):
    half = filled(whole(), tiny_clip()).half()
    edit = patch_for(tiny_clip())
    huge = patch.Patch(**{**vars_of(edit), "lam": 1e9})
    half.save_pretrained(tmp_path / "half")
    filled(whole(), tiny_clip()).save_pretrained(tmp_path / "both")
    half.save_pretrained(tmp_path / "both", variant="fp16")
    broken = tmp_path / "broken"
    apply_to_files([edit], tmp_path / "half", broken)
    (broken / RECORD).write_bytes((broken / RECORD).read_bytes()[:-9])
    for p, model in (
        (huge, half),
        (huge, {OUT_PROJ: tiny_clip().get_parameter(OUT_PROJ).detach().half()}),
    ):
        for call in (patch.verify, patch.apply):
            with pytest.raises(PatchError, match="would not be finite"):
                call(p, model)
    for p, source in (
        (huge, tmp_path / "half"),
        (huge, tmp_path / "both"),
        (edit, broken),
        (patch_for(tiny_clip(seed=7)), tmp_path / "both"),
    ):
        refusals = []
        for call in (verify_files, lambda p, s: apply_to_files([p], s, tmp_path / "out")):
            with pytest.raises(PatchError) as caught:
                call(p, source)
            refusals.append(str(caught.value))
        assert refusals[0] == refusals[1] and not (tmp_path / "out").exists()
    assert verify_files(edit, tmp_path / "both") == ["model.fp16.safetensors", "model.safetensors"]
