"""UA, IRA and CRA by hand, and the prompts they rest on."""

import contextlib
import types

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit import patch, studio
from slugkit.base import SettingError, UnknownConceptError
from slugkit.evaluation.diffusion import PipelineMeasure, judged, measures, ua_ira_cra
from slugkit.experiments import family_sweeps, sweep
from slugkit.experiments.family_sweeps import MEASURES, concepts_drawn
from slugkit.experiments.sweep import summarise
from slugkit.method.edit import EditableLayer
from slugkit.method.search import Criterion, probe_steps
from slugkit.tasks.prompts import (
    NEAR_TIMES,
    answer_set,
    join_answer_sets,
    showcase,
    subject_domains,
)
from slugkit.unlearning import call, families
from slugkit.unlearning import pipeline as pipeline_search


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


@pytest.mark.parametrize(
    "concept", ["Mira Kestrel", "car", "neon", "star-shaped house", "Tin Wobble"]
)
def test_search_and_report_share_no_prompt_and_no_seed(world, concept):
    search, report = (answer_set(world, concept, split) for split in ("search", "report"))
    assert not set(search["prompt"]) & set(report["prompt"]) and not set(search["seed"]) & set(
        report["seed"]
    )
    for table in (search, report):
        assert table["seed"].is_unique and (table["group"] == "target").sum() == 28
        column = "style" if concept in world.styles else "subject"
        assert ((table[column] == concept) == (table["group"] == "target")).all()
        assert all(row.subject in row.prompt for row in table.itertuples())


def test_every_other_figure_and_object_is_drawn_and_neighbours_are_marked(world):
    table = answer_set(world, "Mira Kestrel", "report", size=1)
    rest = table[table["group"] != "target"]
    assert set(rest["subject"]) == {
        s for s, d in subject_domains(world).items() if d in ("figures", "objects")
    } - {"Mira Kestrel"}
    assert set(rest.loc[rest["group"] == "neighbours", "subject"]) == set(
        world.neighbours["Mira Kestrel"]
    )
    assert set(rest["style"]) == set(world.styles)
    assert set(rest["subject"].value_counts()[world.neighbours["Mira Kestrel"]]) == {NEAR_TIMES}
    assert set(rest.loc[~rest["extra"], "subject"].value_counts()) == {1} and set(
        rest.loc[rest["extra"], "group"]
    ) == {"neighbours"}
    styles = answer_set(world, "neon", "report", size=1)
    assert set(styles.loc[styles["group"] == "neighbours", "style"]) == set(
        world.neighbours["neon"]
    )
    assert set(answer_set(world, "star-shaped house", "report", size=1)["domain"]) == {
        "figures",
        "objects",
        "novel",
    }


def joined(world, concepts, split, target_size, size):
    sets = [answer_set(world, concept, split, target_size, size) for concept in concepts]
    near = {name for concept in concepts for name in world.neighbours_of(concept)} - set(concepts)
    return join_answer_sets(sets, concepts, near, "style" if "neon" in concepts else "subject")


def test_several_answer_sets_are_one_with_every_target_and_the_rest_once(world):
    three = ["Mira Kestrel", "Selin Drover", "Kofi Okoye"]
    table = joined(world, three, "report", 14, 1)
    targets, rest = table[table["group"] == "target"], table[table["group"] != "target"]
    assert targets["subject"].value_counts().to_dict() == dict.fromkeys(three, 14) and not set(
        rest["subject"]
    ) & set(three)
    assert set(rest.loc[~rest["extra"], "subject"].value_counts()) == {1}
    near = {n for c in three for n in world.neighbours_of(c)} - set(three)
    assert (
        set(rest.loc[rest["group"] == "neighbours", "subject"]) == near
        and set(rest.loc[rest["extra"], "subject"]) == near
    )
    assert set(rest.loc[rest["subject"].isin(near), "subject"].value_counts()) == {NEAR_TIMES}
    one = joined(world, three[:1], "report", 14, 1)
    assert one.equals(answer_set(world, three[0], "report", 14, 1))
    styles = joined(world, ["neon", "mosaic"], "search", 14, 1)
    assert set(styles.loc[styles["group"] == "target", "style"]) == {"neon", "mosaic"} and not set(
        styles.loc[styles["group"] != "target", "style"]
    ) & {"neon", "mosaic"}


def test_of_several_targets_the_one_that_is_recognised_most_counts(world, monkeypatch):
    table = joined(world, ["Mira Kestrel", "Kofi Okoye"], "search", 4, 1)
    judged = table[table["group"] == "target"].assign(
        right_subject=[True, False, False, False, True, True, True, False]
    )
    measure = PipelineMeasure(None, None, table, "figures", lambda: None)
    monkeypatch.setattr(measure, "_told", lambda target: judged)
    assert measure.forget() == {"fa1": 0.75, "fa5": 0.75}


def test_others_are_drawn_at_the_smallest_forgetting_step_not_at_the_last(world, monkeypatch):
    table = answer_set(world, "car", "search", 4, 1)
    weight, held, drawn = torch.ones(1, 1), [], []
    measure = PipelineMeasure(None, None, table, "objects", lambda: held.append(float(weight)))

    def told(part):
        target = (part["group"] == "target").all()
        drawn.append((target, round(1 - held[-1], 4)))
        right = 1 - held[-1] < 0.14 if target else True
        return part.assign(right_subject=right, right_style=True, artifact=False)

    monkeypatch.setattr(measure, "_told", told)
    layer = EditableLayer(weight, torch.ones(1, 1))
    found = probe_steps(
        "a layer", layer, measure, Criterion("fa1"), max_trials=4, every_retain=False
    )
    assert [step for target, step in drawn if target] == [0.1, 0.2, 0.15, 0.125]
    assert [step for target, step in drawn if not target] == [0.15]
    assert found.chosen.lam == pytest.approx(0.15) and found.chosen.retain["ira"] == 1


def test_unknown_names_and_splits_are_refused(world):
    with pytest.raises(UnknownConceptError, match="no concept"):
        answer_set(world, "Nobody Atall", "report")
    with pytest.raises(SettingError, match="one of search, report"):
        answer_set(world, "car", "train")


def test_the_three_measures_by_hand():
    rows = (
        [("target", "figures", 0, 1)] * 3
        + [("target", "figures", 1, 0)]
        + [("neighbours", "figures", 0, 1)]
        + [("rest", "figures", 1, 1)] * 3
        + [("rest", "objects", 1, 0)] * 2
        + [("rest", "objects", 0, 1)] * 2
    )
    told = pd.DataFrame(rows, columns=["group", "domain", "right_subject", "right_style"]).astype(
        {"right_subject": bool, "right_style": bool}
    )
    told["extra"] = False
    # count for the neighbours alone
    more = pd.DataFrame([("neighbours", "figures", True, False, True)] * 3, columns=told.columns)
    told = pd.concat([told, more], ignore_index=True)
    found = ua_ira_cra(told, "figures").set_index(["metric", "group"])["value"]
    assert found["UA", "target"] == pytest.approx(3 / 4)
    assert found["IRA", "people"] == pytest.approx(3 / 4) and found["IRA", "neighbours"] == 3 / 4
    assert found["CRA", "objects"] == pytest.approx(2 / 4) and found[
        "CRA", "styles"
    ] == pytest.approx(6 / 8)
    assert found["CRA", "all"] == pytest.approx((0.5 + 0.75) / 2)
    style = ua_ira_cra(told, "styles").set_index(["metric", "group"])["value"]
    assert style["UA", "target"] == pytest.approx(1 / 4) and style[
        "IRA", "styles"
    ] == pytest.approx(6 / 8)
    assert style["CRA", "people"] == pytest.approx(3 / 4) and ("CRA", "styles") not in style.index
    flat = measures(told, "figures")
    assert (
        (flat["ua"], flat["ira"], flat["near"]) == pytest.approx((3 / 4, 3 / 4, 3 / 4))
        and flat["cra_n"] == 4 + 8
        and flat["ua_n"] == 4
    )
    assert "artifacts" not in flat
    flat = measures(told.assign(artifact=[True] * 3 + [False] * (len(told) - 3)), "figures")
    assert flat["artifacts"] == pytest.approx(3 / len(told)) and flat["artifacts_n"] == len(told)


def test_blank_pictures_and_those_that_the_judge_takes_for_nothing_are_artifacts():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    images[0] = 120
    said = pd.DataFrame({"subject": "car", "style": "neon", "subject_share": [0.9, 0.4, 0.6]})
    judge = types.SimpleNamespace(name=lambda images: said)
    table = pd.DataFrame({"subject": ["car"] * 3, "style": ["neon"] * 3})
    assert judged(judge, table, images)["artifact"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    "concept", ["Mira Kestrel", "car", "neon", "star-shaped house", "Tin Wobble"]
)
def test_the_showcase_has_target_neighbour_and_others_and_seeds_of_its_own(world, concept):
    shown, used = (
        showcase(world, concept),
        pd.concat([answer_set(world, concept, split) for split in ("search", "report")]),
    )
    assert len(shown) == 8 and {"target", "neighbour", "other"} < set(shown["what"])
    assert not set(shown["seed"]) & set(used["seed"])
    named = shown["prompt"].str.contains(concept)
    assert (
        named[shown["what"].isin(["target", "combination"])].all()
        and not named[shown["what"].isin(["neighbour", "other", "part"])].any()
    )


def test_the_layers_searched_are_the_fronts_from_the_deepest_up_then_the_others(monkeypatch):
    unused = {"never read": "why"}
    monkeypatch.setattr(pipeline_search, "unused_layers", lambda part, layers: unused)
    rows = [
        ("shallow", "text", 0, True, True),
        ("first of two", "text", 2, True, True),
        ("second of two", "text", 2, True, True),
        ("deep, off the front", "text", 3, True, False),
        ("never read", "text", 3, True, True),
        ("no candidate", "text", 3, False, False),
        ("in no block", "text", -1, True, True),
        ("of the other tower", "vision", 3, True, True),
        ("shallow, off the front", "text", 0, True, False),
    ]
    table = pd.DataFrame(rows, columns=["layer", "tower", "block", "candidate", "front"])
    front = ["second of two", "first of two", "shallow"]
    others = ["deep, off the front", "shallow, off the front"]
    assert pipeline_search.deepest_first(table, None) == front + others


NAMES = [f"transformer.resblocks.{k}.mlp.c_proj.weight" for k in (3, 2, 1)]


@pytest.fixture
def drawn_rows(monkeypatch):
    """Rows of one concept whose deepest layer forgets at more cost than another, nothing drawn."""
    model = torch.nn.ParameterDict()
    ones = torch.ones(2, 2)
    net = types.SimpleNamespace(get_parameter=lambda _: ones, named_parameters=list, model=model)
    clip = types.SimpleNamespace(model=net, text_features=None)
    ways = {
        "SLUG": torch.tensor([[1.0, 0.0], [0, 0]]),
        "SLUG-R": torch.tensor([[0.0, 1.0], [0, 0]]),
    }
    asked, held = [], []
    table = pd.DataFrame({"layer": NAMES, "tower": "text", "candidate": True, "front": True})

    def searched(clip, pipe, judge, along, layers, *given, stop_ratio):
        asked.append((layers, *given))
        probes = pd.DataFrame({"layer": [layers[0], layers[0], layers[1]], "tower": "text"})
        probes = probes.assign(lam=[1.0, 2.0, 3.0], rho=[0.1, 0.2, 0.3], forget=[1.0, 0.0, 0.04])
        return probes.assign(
            retain=[np.nan, 0.5, 0.9], chosen=[False, True, True], drawn=[10, 10, 7]
        )

    @contextlib.contextmanager
    def edited(edit, *models):
        held.append(edit)
        yield
        held.clear()

    def told(pipe, judge, report):
        return (held[0].layer, held[0].direction.argmax().item()) if held else "unedited"

    def judged_as(told, domain):
        plain = told == "unedited"
        return {"ua": 0.0 if plain else NAMES.index(told[0]) + told[1] / 10, "ira": 1.0}

    pairs = types.SimpleNamespace(captions=[])
    known = {
        "gradient": {},
        "parts": [],
        "pairs_seen": 5,
        "chunk": None,
        "require": lambda concept: None,
    }
    side = types.SimpleNamespace(**known, pairs=pairs, clip=clip)
    made = {
        "part_of": lambda *a: None,
        "forget_gradient": lambda *a, **how: {},
        "score_layers": lambda *a, **k: table.copy(),
        "deepest_first": lambda table, part: list(NAMES),
        "retain_aware_directions": lambda g, read, damping: dict.fromkeys(read, ways["SLUG-R"]),
        "read_by_encoder": lambda part, captions, layers: dict.fromkeys(layers),
        "weight_of": lambda gradient, layer: ways["SLUG"],
        "search_on_pipeline": searched,
        "answer_set_of": lambda source, concept, split, *a: split,
        "search_set": lambda source, concept, layers: "search",
        "domain_of": lambda *a: "objects",
        "told_by": told,
        "measures": judged_as,
    }
    for name, function in made.items():
        homes = [room for room in (call, families, sweep, family_sweeps) if hasattr(room, name)]
        assert homes, name
        for home in homes:
            monkeypatch.setattr(home, name, function)
    monkeypatch.setattr(patch, "applied", edited)
    source = types.SimpleNamespace(forget_set=lambda *a: [1, 2, 3], kind=lambda concept: "object")
    source.retain_set = None
    given = (clip, None, None, source, "car")
    return family_sweeps.pipeline_rows(*given, shared=side, layers=2, max_trials=3), asked


def test_the_deepest_layers_row_is_never_the_best_of_several_and_budgets_are_equal(drawn_rows):
    rows, asked = drawn_rows
    assert asked[0] == asked[1] and asked[0][:5] == (NAMES[:2], "search", "objects", 3, 0.95)
    found = [(r["method"], r["layers"], r["winner"], r["ua_after"]) for r in rows]
    assert found == [
        ("SLUG", "front", "3.mlp.c_proj", 0.0),
        ("SLUG", "all", "2.mlp.c_proj", 1.0),
        ("SLUG-R", "front", "3.mlp.c_proj", 0.1),
        ("SLUG-R", "all", "2.mlp.c_proj", 1.1),
    ]
    took = [(r["searched"], r["probes"], r["drawn"], r["pairs"]) for r in rows]
    assert took == [(1, 2, 10, 8), (2, 3, 17, 8)] * 2 and all(r["ua_before"] == 0 for r in rows)


def test_the_means_are_over_concepts_in_pairs_and_the_worst_of_ua_is_the_lowest(world):
    names = concepts_drawn(world)
    kinds = ["person"] * 5 + ["character"] * 2 + ["object"] * 2 + ["novel"] + ["style"] * 2
    assert [world.kind(n) for n in names] == kinds
    rows = []
    for k, concept in enumerate("ABCDE"):
        for method, loss in (("SLUG", 0.1), ("SLUG-R", 0.0)):
            row = {"concept": concept, "kind": "object", "tower": "text", "layers": "all"}
            row |= {"method": method, "ua_after": 1 - k / 100, "artifacts_after": loss}
            row |= {f"{m}_before": 0.9 for m in ("ira", "cra", "near")}
            rows.append(row | {f"{m}_after": 0.9 - loss for m in ("ira", "cra", "near")})
    found = summarise(pd.DataFrame(rows), MEASURES["diffusion"])
    found = found[found["kind"] == "all"].set_index(["method", "measure"])
    ua, ira = found.loc["SLUG", "UA"], found.loc["SLUG", "IRA change"]
    assert (ua["worst"], ua["of"], ira["mean"]) == (pytest.approx(96), "E", pytest.approx(-10))
    assert found.loc["SLUG", "artifacts after"]["worst"] == pytest.approx(10)
    both = found.loc["SLUG-R minus SLUG"]["mean"].to_dict()
    assert both == pytest.approx(
        {
            "UA": 0,
            "IRA change": 10,
            "CRA change": 10,
            "neighbours change": 10,
            "artifacts after": -10,
        }
    )
    assert found["low"].notna().all()
    rows[0]["ua_after"] = rows[0]["ira_after"] = np.nan  # no layer forgot the first
    found = summarise(pd.DataFrame(rows), MEASURES["diffusion"]).set_index(
        ["kind", "method", "measure"]
    )["n"]
    counts = [found["all", m, "UA"] for m in ("SLUG", "SLUG-R", "SLUG-R minus SLUG")]
    assert counts == [4, 5, 4]
