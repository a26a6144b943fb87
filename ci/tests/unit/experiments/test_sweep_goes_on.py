"""A sweep that was stopped goes on: what is finished is kept, unless other settings or other
weights made it.
"""

import sys
import types
from functools import partial
from itertools import permutations

import pandas as pd
import pytest
import torch

from slugkit.base import SettingError
from slugkit.experiments import family_sweeps, sweep
from slugkit.experiments.sweep import made_by, made_of, one_at_a_time, place_of, summarise
from slugkit.workbook import cli

ORDER = ["Ada", "car", "007", "neon"]


class Rows:
    """Rows of one concept, counted; the concept `stop_at` is where somebody presses Ctrl+C."""

    def __init__(self, stop_at=None, towers=("text",)):
        self.computed, self.stop_at, self.towers = [], stop_at, towers

    def __call__(self, concept):
        if concept == self.stop_at:
            raise KeyboardInterrupt
        self.computed.append(concept)
        value = 1 / 3 + len(concept)
        told = {"winner": "none forgets", "rho": None if concept == "car" else value}
        return [{"concept": concept, "tower": t, "method": "SLUG", **told} for t in self.towers]


def test_a_sweep_that_was_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path, capsys):
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    one_at_a_time(Rows(), ORDER, ORDER, whole, "w")
    with pytest.raises(KeyboardInterrupt):
        one_at_a_time(Rows(stop_at="007"), ORDER, ORDER, cut, "w")
    capsys.readouterr()
    rest = Rows()
    table = one_at_a_time(rest, ORDER, ORDER, cut, "w")
    assert rest.computed == ["007", "neon"] and table["concept"].tolist() == ORDER
    assert cut.read_bytes() == whole.read_bytes()
    assert "2 of 4 concepts" in capsys.readouterr().err
    again = Rows()
    assert len(one_at_a_time(again, ORDER, ORDER, cut, "w")) == 4
    assert again.computed == [] and cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("finished", list(permutations(ORDER)))
def test_in_whatever_order_concepts_are_finished_the_table_has_the_same_bytes(tmp_path, finished):
    def rows_of(concept):  # two of them have an oracle, one has nothing else
        known = {"concept": concept, "n": len(concept)}
        oracle = {"fa1_oracle": 1 / 3} if concept in ("Ada", "007") else {}
        return [known | oracle | ({} if concept == "neon" else {"fa1": 0.25, "last": 1})]

    whole, other = tmp_path / "whole.csv", tmp_path / "other.csv"
    one_at_a_time(rows_of, ORDER, ORDER, whole, "w")
    one_at_a_time(rows_of, list(finished), ORDER, other, "w")
    assert other.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "other", [made_by("a" * 64, {"seed": 1}), made_by("a" * 64, {}), made_by("b" * 64, {"seed": 2})]
)
def test_what_other_settings_or_other_weights_made_is_begun_anew_and_said(tmp_path, capsys, other):
    path = tmp_path / "table.csv"
    one_at_a_time(Rows(), ORDER, ORDER, path, made_by("a" * 64, {"seed": 2}))
    assert "begun anew" not in capsys.readouterr().err
    anew = Rows()
    table = one_at_a_time(anew, ["car"], ORDER, path, other)
    assert anew.computed == ["car"] and table["concept"].tolist() == ["car"]
    said = capsys.readouterr().err
    assert "begun anew" in said and other in said and made_by("a" * 64, {"seed": 2}) in said


def test_a_table_that_says_no_weights_is_begun_anew_and_said(tmp_path, capsys):
    path = tmp_path / "table.csv"
    pd.DataFrame({"concept": ["car"], "rho": [1.0]}).to_csv(path, index=False)
    one_at_a_time(Rows(), ["car"], ORDER, path, "w")
    assert "begun anew" in capsys.readouterr().err


def test_a_concept_is_finished_when_every_tower_that_is_asked_for_is(tmp_path):
    path, both = tmp_path / "table.csv", ("text", "vision")
    one_at_a_time(Rows(), ["Ada", "car"], ORDER, path, "w", ("text",))
    for asked, computed in ((("text",), []), (both, ["Ada", "car"]), (("vision",), [])):
        rows = Rows(towers=asked)
        table = one_at_a_time(rows, ["Ada", "car"], ORDER, path, "w", asked)
        assert rows.computed == computed
    assert table[["concept", "tower"]].value_counts().eq(1).all() and len(table) == 4


@pytest.fixture
def families(monkeypatch):
    """The three sweeps with nothing to load; each concept's rows are counted."""
    made = []
    weights = types.SimpleNamespace(weights=None, source="none", inputs=(), model="clip")
    kinds = {"person": ["Ada"], "character": [], "object": ["car"], "style": ["neon"]}
    world = types.SimpleNamespace(report=kinds)
    source = types.SimpleNamespace(world=world, kind=lambda c: "person", concepts=lambda: ORDER)
    source.reported = lambda: [name for names in kinds.values() for name in names]

    def rows(concept):
        made.append(concept)
        return [{"concept": concept, "tower": "text", "layers": "all", "method": "SLUG"}]

    for room in (sweep, family_sweeps):
        monkeypatch.setattr(room, "load_clip", lambda *_: weights)
        monkeypatch.setattr(room, "open_data", lambda *_: source)
        monkeypatch.setattr(room, "summarise", lambda table, *_: table, raising=False)
    loaded = types.SimpleNamespace(model=None)
    monkeypatch.setattr(family_sweeps, "load_vlm", lambda *_: loaded)
    monkeypatch.setattr(family_sweeps, "load_pipeline", lambda *_: loaded)
    monkeypatch.setattr(family_sweeps, "load_classifier", lambda **_: loaded)
    monkeypatch.setattr(family_sweeps, "pipeline_sha256", lambda *_: "p" * 64)
    monkeypatch.setattr(family_sweeps, "weights_sha256", lambda *_: "v" * 64)
    monkeypatch.setattr(sweep, "clip_rows", lambda clip, source, c, *_, **__: rows(c))
    monkeypatch.setattr(family_sweeps, "vlm_rows", lambda clip, vlm, source, c, **_: rows(c))
    monkeypatch.setattr(
        family_sweeps, "pipeline_rows", lambda clip, pipe, judge, source, c, **_: rows(c)
    )
    for opened in (sweep.opened, family_sweeps.opened_family):
        opened.cache_clear()
    yield made
    for opened in (sweep.opened, family_sweeps.opened_family):
        opened.cache_clear()


@pytest.mark.parametrize("family", ["clip", "vlm", "diffusion"])
def test_every_family_keeps_what_the_same_call_made(families, tmp_path, family):
    ran = {
        "clip": lambda **how: sweep.sweep(towers=("text",), **how),
        "vlm": partial(family_sweeps.family_sweep, "vlm"),
        "diffusion": partial(family_sweeps.family_sweep, "diffusion"),
    }[family]
    path = tmp_path / "table.csv"
    for settings, computed in (({}, 2), ({}, 0), ({"max_trials": 3}, 2), ({"max_trials": 3}, 0)):
        families.clear()
        table = ran(concepts=["Ada", "car"], out=path, **settings)
        assert len(families) == computed and set(table["concept"]) == {"Ada", "car"}
    assert (tmp_path / "table_summary.csv").is_file()
    families.clear()
    ran(concepts=["neon"], out=path, max_trials=3)
    assert families == ["neon"] and len(pd.read_csv(path)) == 3


def test_where_no_layer_forgets_anything_there_are_no_means_and_no_crash():
    row = {"concept": "Ada", "kind": "person", "tower": "text", "layers": "all", "fa1_before": 0.9}
    table = pd.DataFrame([row | {"method": method} for method in ("SLUG", "SLUG-R")])
    found = summarise(table)
    assert found.empty and {"kind", "measure", "mean", "n"} <= set(found)


def test_a_stopped_sweep_says_that_the_same_command_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: sys.exit(cli.INTERRUPTED))
    monkeypatch.setattr(sys, "argv", ["slugkit", "sweep", "--family", "vlm"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "goes on where it stopped: slugkit sweep --family vlm" in capsys.readouterr().err


def test_a_model_folder_is_told_by_its_weights_and_data_by_where_they_lie(tmp_path):
    net = torch.nn.Linear(2, 2)
    clip = types.SimpleNamespace(weights=tmp_path, model=net, source="mine")
    made = made_of(clip, "studio", {})
    there = [made_of(clip, str(tmp_path / place / "pictures"), {}) for place in ("old", "new")]
    assert there[0] != there[1] and all(each.startswith(made) for each in there)
    with torch.no_grad():
        net.weight.add_(1)
    assert made_of(clip, "studio", {}) != made


def test_a_table_that_is_not_the_studios_own_asks_for_a_place():
    assert place_of(None, "t.csv", "studio", "studio").name == "t.csv"
    for which, settings in ((("mine", "studio"), {}), (("studio", "mine"), {}), ((), {"seed": 1})):
        with pytest.raises(SettingError, match="mine|seed 1"):
            place_of(None, "t.csv", *which, **settings)
