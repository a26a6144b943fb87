"""The exam of pictures: shared prompts, what is judged, the rows of the one table; the concepts
that a notebook chooses itself; the page of UnlearnCanvas's own protocol.
"""

import ast
import importlib
from contextlib import contextmanager
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from repository import REPOSITORY

from slugkit.base import SearchFailedError, UnknownConceptError
from slugkit.data import open_data
from slugkit.evaluation import pictures
from slugkit.evaluation.diffusion import measures
from slugkit.evaluation.pictures import PictureExam
from slugkit.evaluation.statistics import COLUMNS
from slugkit.experiments import published
from slugkit.models import load_clip
from slugkit.tasks import answer_set_of
from slugkit.tasks.prompts import NEAR_TIMES
from slugkit.unlearning import concepts
from slugkit.unlearning.pipeline import OTHERS_ASKED, search_set
from slugkit.workbook import plots
from slugkit.workbook.run.folder import check_metrics
from slugkit.workbook.settings import Settings

THREE = ["Oskar Marlow", "Tin Wobble", "Foxglove Pip"]


@pytest.fixture(scope="module")
def source():
    return open_data("studio")


@pytest.fixture(scope="module")
def exam(source):
    return PictureExam.of(source, load_clip("studio", "cpu"), THREE)


def test_concepts_of_one_domain_share_the_pictures_of_everybody_else(source, exam):
    others = {}
    for concept, table in exam.tables.items():
        alone = answer_set_of(source, concept, "report", 28, 1)
        assert (table["subject"] == concept).sum() == 28 == (table["group"] == "target").sum()
        rest = table[(table["group"] != "target") & ~table["extra"]]
        others[concept] = set(zip(rest["prompt"], rest["seed"]))
        assert set(rest["subject"]) == set(alone["subject"]) - set(THREE)
        near = table[table["group"] == "neighbours"]
        assert set(near["subject"]) == set(source.neighbours(concept)) - set(THREE)
        assert (near["subject"].value_counts() == NEAR_TIMES).all()
    assert len(set(map(frozenset, others.values()))) == 1
    apart = PictureExam.of(source, exam.clip, ["car", "neon"])
    for concept in ("car", "neon"):
        assert apart.tables[concept].equals(answer_set_of(source, concept, "report", 28, 1))
    assert (apart.own("car"), apart.own("neon")) == ("subject", "style")


def drawn(pipe, table, *sampling):
    """Pictures whose first pixel says what they show; an edited pipeline never the target."""
    pipe.asked.append(len(table))
    names = sorted(pipe.known)
    images = np.zeros((len(table), 4, 4, 3), dtype=np.uint8)
    for row, picture in zip(table.itertuples(), images):
        picture[:] = np.arange(48).reshape(4, 4, 3)
        picture[0, 0, 0] = names.index("car" if row.subject == pipe.forgotten else row.subject)
    return images


class Judge:
    """Reads the pictures of `drawn`; is never right about the style."""

    styles = ("photo",)

    def __init__(self, known):
        self.subjects = sorted(known)

    def name(self, images):
        said = [self.subjects[picture[0, 0, 0]] for picture in images]
        return pd.DataFrame({"subject": said, "subject_share": 1.0, "style": "photo"})


@pytest.fixture()
def asked(exam, monkeypatch):
    """The exam with a stub for pipeline, judge and CLIP, and what edits of it would be."""
    known = set(pd.concat(exam.tables.values())["subject"])
    pipe = SimpleNamespace(known=known, forgotten="", asked=[])
    monkeypatch.setattr(pictures, "drawn_prompts", drawn)
    monkeypatch.setattr(pictures, "require_askable", lambda *given: None)
    monkeypatch.setattr(
        pictures, "text_image_cosines", lambda clip, said, made: np.full(len(made), 0.3)
    )
    monkeypatch.setattr(exam, "judge", Judge(known))

    class Result:
        method = "SLUG"

        def __init__(self, concept):
            self.concept = concept

        @contextmanager
        def applied(self, pipe):
            pipe.forgotten = self.concept
            yield pipe
            pipe.forgotten = ""

    return exam, pipe, [Result(concept) for concept in THREE]


def test_every_picture_is_drawn_once_and_each_edit_answers_for_its_concept(asked):
    exam, pipe, results = asked
    told = exam.told(pipe, results)
    sizes = [len(table) for table in exam.tables.values()]
    assert pipe.asked[0] < sum(sizes) and pipe.asked[1:] == sizes
    assert len(told) == 2 * sum(sizes) and not told["called"].isna().any()
    for concept in THREE:
        after = told[(told["concept"] == concept) & (told["stage"] == "after")]
        flat = measures(after, exam.domains[concept])
        assert (flat["ua"], flat["ira"], flat["artifacts"]) == (1.0, 1.0, 0.0)
        assert (after["method"] == "SLUG").all()
    only = exam.told(pipe, results[:1], before=False)
    assert set(only["concept"]) == {THREE[0]} and set(only["stage"]) == {"after"}


def test_the_questions_give_the_same_shares_as_the_package(asked):
    exam, pipe, results = asked
    told = exam.told(pipe, results)
    questions = exam.answers(told)
    for concept in THREE:
        mine = questions[(questions["concept"] == concept) & (questions["stage"] == "after")]
        target = mine[mine["group"] == "target"]
        assert len(target) == 28 and set(target["domain"]) == {exam.domains[concept]}
        others = mine[mine["group"] != "target"]
        right = (others["answer"] == others["true"]).groupby(others["domain"]).mean()
        after = told[(told["concept"] == concept) & (told["stage"] == "after")]
        flat = measures(after, exam.domains[concept])
        own = exam.domains[concept]
        assert right[own] == flat["ira"] and right.drop(own).mean() == pytest.approx(flat["cra"])
        assert 0 < right["styles"] < 0.5


def test_its_rows_are_those_of_the_runs_one_table(asked):
    exam, pipe, results = asked
    metrics = exam.metrics(exam.told(pipe, results))
    check_metrics(metrics)
    assert list(metrics.columns) == COLUMNS and set(metrics["concept"]) == set(THREE)
    table = plots.changes(metrics[metrics["metric"].isin(["UA", "artifacts"])])
    assert table.index.tolist() == THREE
    assert table.loc[THREE[0], "UA (%)"].startswith("0.0 → 100.0 [")
    assert table.loc[THREE[0], "UA (%)"].endswith("(28)")


def test_the_search_of_a_single_layer_asks_less_and_of_every_domain(source):
    few, whole = (search_set(source, "Oskar Marlow", layers) for layers in (1, 4))
    assert whole.equals(answer_set_of(source, "Oskar Marlow", "search", 28, 1))
    assert few["group"].value_counts()["target"] == 20 and len(few) == 20 + OTHERS_ASKED
    assert set(few["domain"]) == set(whole["domain"]) and few["seed"].is_unique


def test_a_probe_that_cannot_forget_draws_no_more(source, monkeypatch):
    from slugkit.evaluation import diffusion

    table, still = search_set(source, "Oskar Marlow"), []

    def told_by(pipe, judge, part, *sampling):
        right = np.arange(len(part)) < still.pop(0)
        return part.assign(right_subject=right, right_style=True, called="", artifact=False)

    monkeypatch.setattr(diffusion, "told_by", told_by)
    given = None, None, table, "figures", lambda: None
    measure = diffusion.PipelineMeasure(*given, at_most=0.05)
    still += [8, 2, 1, 0, 0, 1, 0, 3]
    assert measure.forget()["fa1"] == 1.0 and measure.drawn == 8
    assert measure.forget()["fa1"] == 0.25 and measure.drawn == 16
    assert measure.forget()["fa1"] == 0.05 and measure.drawn == 36
    assert measure.forget()["fa1"] == 0.05 and measure.forget()["fa1"] == 0.15
    assert diffusion.PipelineMeasure(*given).at_most == 1.0


def test_what_is_forgotten_beside_the_concept_is_named_or_drawn(source, monkeypatch):
    refused = []

    def drawn_only(pipe, judge, table, *more):
        if table["subject"].iloc[0] in refused:
            raise SearchFailedError("not drawn")

    monkeypatch.setattr(concepts, "require_drawn", drawn_only)
    given = source, load_clip("studio", "cpu"), None
    assert concepts.drawn_concepts(*given, "Oskar Marlow", []) == THREE
    assert concepts.drawn_concepts(*given, "Tin Wobble", [])[0] == "Tin Wobble"
    assert len(set(concepts.drawn_concepts(*given, "Tin Wobble", []))) == 3
    refused.append("Tin Wobble")
    found = concepts.drawn_concepts(*given, "Oskar Marlow", [])
    assert found[1] == "Foxglove Pip" and len(found) == 3 and "Tin Wobble" not in found
    assert concepts.drawn_concepts(*given, "car", ["neon", "car"]) == ["car", "neon"]
    with pytest.raises(UnknownConceptError):
        concepts.drawn_concepts(*given, "car", ["Nobody"])


def test_the_swept_table_is_the_studios_and_of_the_papers_layers(source, tmp_path, monkeypatch):
    said = published.swept(SimpleNamespace(name="own"), "diffusion")
    assert "--family diffusion" in said["no table"].item()
    monkeypatch.setattr(published, "data_dir", lambda: tmp_path)
    assert "no table" in published.swept(source, "diffusion")
    (tmp_path / "studio").mkdir()
    row = {"tower": "text", "measure": "UA", "mean": 98.04, "median": 1, "low": 90, "high": 99}
    row |= {"worst": 80, "of": "car", "n": 12}
    rows = [row | {"layers": layers, "method": method, "kind": kind} for layers, method, kind in (
        ("front", "SLUG", "all"), ("all", "SLUG", "all"), ("front", "SLUG-R", "all"),
        ("front", "SLUG", "person"))]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "studio" / "diffusion_concepts_summary.csv", index=False)
    assert published.swept(source, "diffusion")["mean"].tolist() == [98.0]


def test_the_page_of_the_benchmarks_protocol_names_what_there_is():
    path = REPOSITORY / "notebooks" / "paper_scale" / "unlearncanvas.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    settings = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    known = {node.target.id for node in ast.parse(settings.source).body}
    assert known <= set(Settings.model_fields)
    for cell in code:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("slugkit"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "cfg":
                assert node.attr in known, node.attr


def test_a_setting_of_the_page_alone_is_no_setting_of_notebook_6():
    path = REPOSITORY / "notebooks" / "06_evaluate_stable_diffusion.ipynb"
    text = path.read_text("utf-8")
    assert not any(name in text for name in ("answer_tier", "frechet_size", "CanvasSource"))
