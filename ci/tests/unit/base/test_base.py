"""slugkit.base: settings, hashes, atomic files, paths, progress."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit import base
from slugkit.base import SettingError
from slugkit.workbook.settings import Settings, check_settings, read_settings


def test_defaults_are_the_studio():
    cfg = read_settings({})
    assert (cfg.model, cfg.data, cfg.concept, cfg.run) == (
        "studio",
        "studio",
        "Oskar Marlow",
        "workbook",
    )
    assert cfg.exclude == ["bias", "ln_", "embedding", "logit_scale"] and cfg.layers == []


def test_read_settings_takes_known_names_and_leaves_the_rest():
    cfg = read_settings({"seed": 7, "lam_init": 1, "np": np, "_": None})
    assert (cfg.seed, cfg.lam_init) == (7, 1.0) and isinstance(cfg.lam_init, float)
    assert cfg.model_fields_set == {"seed", "lam_init"}


def test_a_number_read_as_text_says_how_to_write_it():
    with pytest.raises(SettingError) as caught:
        check_settings({"lam_init": "1e-3"})
    assert (
        str(caught.value)
        == "lam_init arrived as the text '1e-3'; a number was expected.\nYAML reads 1e-3 as text."
        " Write 1.0e-3 or 0.001."
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"seed": "5"},
            "seed arrived as the text '5'; a whole number was expected.\nWrite 5 without quotes.",
        ),
        ({"seed": 2.0}, "seed arrived as the number 2.0; a whole number was expected."),
        ({"seed": -1}, "0 to 4294967295"),
        ({"seed": 2**32}, "0 to 4294967295"),
        ({"seed": True}, "seed arrived as the truth value True; a whole number was expected."),
        ({"split_qkv": 1}, "True or False was expected"),
        ({"lam_init": float("nan")}, "lam_init arrived as the number nan"),
        ({"lam_init": float("inf")}, "lam_init arrived as the number inf"),
        ({"lam_init": -0.1}, "0 or more"),
        ({"layers": "a"}, "layers arrived as the text 'a'; a list of texts was expected."),
        ({"layers": [1]}, "a list of texts was expected"),
        ({"tower": "txt"}, "'text' or 'vision' was expected"),
        ({"target": "fa2"}, "'fa1' or 'fa5' was expected"),
        ({"run": "a/b"}, "a plain folder name"),
        ({"run": ".."}, "a plain folder name"),
        ({"run": ".hidden"}, "a plain folder name"),
        ({"batch_size": 1}, "2 to 4096"),
        ({"max_trials": 61}, "1 to 60"),
        ({"lamda": 0.1}, "There is no setting lamda: did you mean lam_init?"),
        ({"concpt": "x"}, "did you mean concept"),
        ({"zzzzqq": 1}, "the settings are model, data"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(values, says):
    with pytest.raises(SettingError) as caught:
        check_settings(values)
    assert says in str(caught.value)


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(Exception, match="frozen"):
        Settings().seed = 3


def test_require_choice_offers_the_nearest():
    with pytest.raises(base.UnknownConceptError, match="did you mean Mira Kestrel"):
        base.require_choice(
            "mira kestral", ["Bo Lind", "Mira Kestrel"], "concept", base.UnknownConceptError
        )
    assert base.require_choice("a", "abc", "letter") == "a"
    assert base.nearest("qqq", ["Mira Kestrel"]) == []


def test_hashes_tell_bits_apart():
    plain = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (
        base.sha256_tensor(plain)
        == base.sha256_tensor(plain.clone())
        == base.sha256_tensor(plain.t().contiguous().t())
    )
    others = [
        plain.t(),
        plain.half(),
        plain.bfloat16(),
        plain.reshape(4),
        -plain,
        torch.zeros(0, 2),
        torch.tensor(1.0),
    ]
    assert len({base.sha256_tensor(tensor) for tensor in [plain, *others]}) == len(others) + 1
    assert base.sha256_tensor(torch.tensor(0.0)) != base.sha256_tensor(torch.tensor(-0.0))


def test_json_hash_ignores_the_order_of_keys():
    assert (
        base.sha256_json({"a": 1, "b": [2]})
        == base.sha256_json({"b": [2], "a": 1})
        != base.sha256_json({"a": 1, "b": [3]})
    )


def test_tree_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_text("1")
    first = base.sha256_tree(tmp_path)
    (tmp_path / "a" / "x.py").rename(tmp_path / "a" / "y.py")
    assert base.sha256_tree(tmp_path) != first
    (tmp_path / "a" / "y.py").rename(tmp_path / "a" / "x.py")
    assert base.sha256_tree(tmp_path) == first
    (tmp_path / "a" / "note.txt").write_text("1")
    assert base.sha256_tree(tmp_path, "*.py") == first != base.sha256_tree(tmp_path)


def test_atomic_writers_round_trip(tmp_path):
    from safetensors.torch import load_file

    frame = pd.DataFrame({"layer": ["a", "b"], "value": [0.5, float("nan")]})
    base.write_parquet(tmp_path / "deep" / "t.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "deep" / "t.parquet"), frame)
    base.write_tensors(
        tmp_path / "g.safetensors", {"w": torch.arange(6.0).reshape(2, 3).t()}, {"k": "v"}
    )
    assert torch.equal(
        load_file(tmp_path / "g.safetensors")["w"], torch.arange(6.0).reshape(2, 3).t()
    )
    base.write_csv(tmp_path / "t.csv", frame)
    assert (tmp_path / "t.csv").read_text() == "layer,value\na,0.5\nb,\n"
    base.write_json(tmp_path / "x.json", {"name": "Zoë"})
    assert "Zoë" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "deep",
        "g.safetensors",
        "t.csv",
        "x.json",
    ]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    base.write_text(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        base.write_json(tmp_path / "a.json", {"x": object()})
    with pytest.raises(RuntimeError):
        base.replace_atomically(
            tmp_path / "a.json", lambda beside: (_ for _ in ()).throw(RuntimeError("disk"))
        )
    assert (tmp_path / "a.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("x")
    path = base.write_text(tmp_path / "ours", "x")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_paths_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_ROOT", str(tmp_path))
    monkeypatch.delenv("SLUGKIT_RUNS", raising=False)
    monkeypatch.delenv("SLUGKIT_CACHE", raising=False)
    assert base.runs_dir() == tmp_path / "runs" and base.cache_dir() == tmp_path / "runs" / ".cache"
    assert (base.data_dir(), base.notebooks_dir()) == (tmp_path / "data", tmp_path / "notebooks")
    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path / "elsewhere"))
    assert (
        base.runs_dir() == tmp_path / "elsewhere"
        and base.cache_dir() == tmp_path / "elsewhere" / ".cache"
    )
    monkeypatch.setenv("SLUGKIT_ROOT", str(tmp_path / "missing"))
    with pytest.raises(SettingError, match="SLUGKIT_ROOT names"):
        base.root()


def test_progress_says_a_line_per_tenth_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("SLUGKIT_HEADLESS", "1")
    assert list(base.progress(range(50), "counting")) == list(range(50))
    assert list(base.progress(iter("ab"), "letters")) == ["a", "b"]
    assert capsys.readouterr().err == "", "work of a moment"
    monkeypatch.setattr(sys.modules["slugkit.base.progress"], "QUICK", 0.0)
    assert list(base.progress(range(50), "counting")) == list(range(50))
    lines = capsys.readouterr().err.splitlines()
    assert (
        len(lines) == 10
        and lines[0].startswith("counting: 5/50")
        and lines[-1].startswith("counting: 50/50")
    )
    assert list(base.progress(iter("ab"), "letters")) == ["a", "b"]
    assert "letters: 2 done" in capsys.readouterr().err
    assert list(base.progress([], "nothing")) == []


def test_progress_is_a_bar_otherwise(monkeypatch, capsys):
    monkeypatch.setenv("SLUGKIT_HEADLESS", "0")
    assert list(base.progress(range(3), "counting")) == [0, 1, 2]
    assert "counting" in capsys.readouterr().err


def test_seed_everything_repeats_numbers():
    def draw():
        base.seed_everything(5)
        return np.random.rand(), torch.rand(1).item(), __import__("random").random()

    assert draw() == draw()


def test_base_does_not_load_torch():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import slugkit.base, slugkit.workbook.run, slugkit.workbook.cli, sys\n"
            "print('torch' in sys.modules, 'pandas' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(base.paths.Path(__file__).resolve().parents[2])},
    )
    assert done.stdout.strip() == "False False", done.stderr
