"""slugkit.workbook.run without a kernel: artefacts, staleness, the report, the choice of notebooks
and settings.
"""

import os
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from repository import REPOSITORY
from throwaway_workbook import WORK, code

from slugkit.base import CheckFailed, MissingArtefactError, SettingError, StaleArtefactError
from slugkit.workbook.run import open_run, pages, report, run_series, stages
from slugkit.workbook.run.folder import COLUMNS
from slugkit.workbook.run.manifest import Manifest
from slugkit.workbook.settings import check_settings


def do(notebook, **settings):
    """Do by hand what the throwaway notebook does: the artefacts are small texts."""
    run = open_run(check_settings({"concept": "Oskar Marlow", **settings}), notebook)
    text = f"{run.cfg.concept}"
    if notebook == "02_gradients":
        text = "gradient of " + run.need("sets/forget.parquet").read_text()
    if notebook == "03_rank_layers":
        text = "layers by " + run.need("gradients.safetensors").read_text()
    name = {"01": "sets", "02": "gradients.safetensors", "03": "layers.parquet"}[notebook[:2]]
    path = run.path(name)
    (path / "forget.parquet" if name == "sets" else path).write_text(text)
    run.finish()
    return run


def has(notebook, name, **settings):
    """Whether an artefact is there and fits a notebook with these settings."""
    run = open_run(check_settings(settings), notebook)
    return run.manifest.sha_of(name, run.settings) != ""


# -- what a notebook needs and leaves --------------------------------------------------------------


def test_a_missing_artefact_names_the_notebook_and_the_command(project):
    run = open_run(
        check_settings({"concept": "Bo Lind", "run": "mine", "seed": 3}), "03_rank_layers"
    )
    with pytest.raises(MissingArtefactError) as caught:
        run.need("gradients.safetensors")
    text = str(caught.value)
    assert "notebook 02_gradients, which leaves it, has not been run" in text
    assert "slugkit run --run mine --notebooks 01-02 -p concept 'Bo Lind' -p seed 3" in text
    assert not (project.runs / "mine").exists() and not has(
        "03_rank_layers", "gradients.safetensors", concept="Bo Lind", run="mine", seed=3
    )


def test_expected_values_hold_for_a_run_of_the_defaults_alone(project):
    do("01_data_curation", run="plain"), do("01_data_curation", run="own", data="recipe.yaml")
    assert open_run(
        check_settings({"run": "plain", "device": "cpu"}), "03_rank_layers"
    ).of_defaults()
    assert not open_run(check_settings({"run": "own"}), "03_rank_layers").of_defaults()
    assert not open_run(check_settings({"run": "plain", "seed": 1}), "03_rank_layers").of_defaults()


def test_a_name_that_nothing_leaves_is_refused(project):
    run = open_run(check_settings({}), "03_rank_layers")
    with pytest.raises(MissingArtefactError, match="did you mean gradients.safetensors"):
        run.need("gradient.safetensors")
    with pytest.raises(MissingArtefactError, match="did you mean 03_rank_layers"):
        open_run(check_settings({}), "03_rank_layer")


def test_what_was_written_but_not_finished_does_not_count(project):
    run = open_run(check_settings({}), "01_data_curation")
    (run.path("sets") / "forget.parquet").write_text("half")
    with pytest.raises(MissingArtefactError, match="was started but not finished"):
        open_run(check_settings({}), "02_gradients").need("sets/forget.parquet")
    run.finish()
    assert (
        open_run(check_settings({}), "02_gradients").need("sets/forget.parquet").read_text()
        == "half"
    )


def test_a_fresh_artefact_is_had_without_reading_the_notebooks(project, monkeypatch):
    do("01_data_curation")
    monkeypatch.setattr(
        "slugkit.workbook.run.manifest.call_for",
        lambda *given: pytest.fail("spelling out the command costs seconds"),
    )
    assert open_run(check_settings({}), "02_gradients").need("sets").is_dir()


def test_finishing_without_the_promised_file_is_refused(project):
    with pytest.raises(MissingArtefactError, match="finishing without sets"):
        open_run(check_settings({}), "01_data_curation").finish()


def test_a_changed_artefact_is_stale(project):
    do("01_data_curation")
    (project.runs / "workbook" / "sets" / "forget.parquet").write_text("tampered")
    with pytest.raises(
        StaleArtefactError, match="sets was changed after notebook 01_data_curation left it"
    ):
        open_run(check_settings({}), "02_gradients").need("sets")
    (project.runs / "workbook" / "sets" / "forget.parquet").unlink()
    with pytest.raises(MissingArtefactError, match="was deleted"):
        open_run(check_settings({}), "02_gradients").need("sets/forget.parquet")


def test_other_settings_make_an_artefact_stale(project):
    do("01_data_curation")
    with pytest.raises(StaleArtefactError) as caught:
        open_run(check_settings({"concept": "Bo Lind"}), "02_gradients").need("sets")
    assert "concept 'Oskar Marlow'; concept 'Bo Lind' was expected" in str(caught.value)
    assert "-p concept 'Bo Lind'" in str(caught.value)
    assert has("02_gradients", "sets", concept="Oskar Marlow", max_trials=3)
    # a setting that only one of the two notebooks lists is not compared
    assert has("02_gradients", "sets", seed=5, batch_size=64)


def test_an_upstream_rerun_makes_all_below_stale(project):
    for name in WORK:
        do(name)
    assert has("04_one_step_update", "layers.parquet")
    do("01_data_curation")
    assert has("04_one_step_update", "layers.parquet"), "the same result again is not stale"
    # 01 anew with another content
    run = open_run(check_settings({"concept": "Oskar Marlow"}), "01_data_curation")
    (run.path("sets") / "forget.parquet").write_text("other pairs")
    with pytest.raises(
        StaleArtefactError, match="notebook 01_data_curation was started again and has not finished"
    ):
        open_run(check_settings({}), "04_one_step_update").need("layers.parquet")
    run.finish()
    with pytest.raises(
        StaleArtefactError, match="has left a different sets since notebook 02_gradients ran"
    ):
        open_run(check_settings({}), "04_one_step_update").need("layers.parquet")


def test_changed_weights_make_a_stage_stale(project):
    weights = project.root / "clip.safetensors"
    weights.write_text("one")
    run = open_run(check_settings({}), "01_data_curation")
    run.uses(SimpleNamespace(weights=weights))
    (run.path("sets") / "forget.parquet").write_text("x")
    run.finish()
    assert has("02_gradients", "sets")
    os.utime(weights, (1, 1))
    assert has("02_gradients", "sets"), "the same weights, only touched"
    weights.write_text("two")
    with pytest.raises(
        StaleArtefactError,
        match="clip.safetensors, which notebook 01_data_curation used, has changed",
    ):
        open_run(check_settings({}), "02_gradients").need("sets")


def test_editing_source_does_not_block_a_notebook_opened_alone(project):
    do("01_data_curation")
    project.edit("01_data_curation", 2, WORK["01_data_curation"] + "  # edited")
    assert open_run(check_settings({}), "02_gradients").need("sets").is_dir()


def test_sets_are_emptied_before_they_are_made_again(project):
    run = do("01_data_curation")
    (run.folder / "sets" / "old.png").write_text("left over")
    again = open_run(check_settings({}), "01_data_curation")
    folder = again.path("sets")
    (folder / "new.png").write_text("x")
    assert [path.name for path in again.path("sets").iterdir()] == ["new.png"]


def test_a_path_outside_the_run_is_refused(project):
    with pytest.raises(MissingArtefactError, match="outside the run folder"):
        open_run(check_settings({}), "01_data_curation").path("../elsewhere")


def test_leave_writes_each_kind(project):
    import matplotlib
    from matplotlib.figure import Figure

    run = open_run(check_settings({}), "05_evaluate_clip")
    frame = pd.DataFrame({"a": [1, 2]})
    pd.testing.assert_frame_equal(pd.read_parquet(run.leave("extra", frame)), frame)
    figure = Figure()
    figure.subplots().plot([1, 2])
    picture = run.leave("curve", figure, csv=frame, says="It rises.")
    first = picture.with_suffix(".svg").read_bytes()
    run.leave("curve", figure, csv=frame, says="It rises.")
    assert first == picture.with_suffix(".svg").read_bytes(), (
        f"SVG must not hold dates ({matplotlib.__version__})"
    )
    with pytest.raises(MissingArtefactError, match="is to be left but is not there"):
        run.leave("patches/text.safetensors")
    run.finish()
    record = Manifest(run.folder).stage("05_evaluate_clip")
    left = {"extra.parquet", "figures/curve.png", "figures/curve.svg", "figures/curve.csv"}
    assert (
        set(record["outputs"]) == left
        and record["outputs"]["figures/curve.png"]["says"] == "It rises."
    )
    assert {"seconds", "peak_mb", "versions", "threads", "device", "settings", "uses"} <= set(
        record
    )


def test_a_patch_that_no_tower_gave_is_reported_as_such(project):
    run = open_run(check_settings({}), "04_one_step_update")
    run.path("search.parquet").write_text("x")
    run.path("patches/text.safetensors").write_text("patch")
    run.finish()
    later = open_run(check_settings({}), "05_evaluate_clip")
    assert later.need("patches/text.safetensors").read_text() == "patch"
    with pytest.raises(
        MissingArtefactError, match="finished without leaving patches/vision.safetensors"
    ):
        later.need("patches/vision.safetensors")


def test_a_broken_manifest_is_named(project):
    do("01_data_curation")
    (project.runs / "workbook" / "manifest.json").write_text('{"stages": ')
    with pytest.raises(StaleArtefactError, match="is not a manifest that slugkit wrote"):
        open_run(check_settings({}), "02_gradients").need("sets")


def rows(**changes):
    base = dict(
        family="clip",
        model="studio",
        concept="Oskar Marlow",
        method="SLUG",
        split="report",
        metric="FA@1",
        wording="mean",
        n=200,
    )
    made = [
        dict(base, stage="before", group="target", value=0.95, low=0.9, high=0.98),
        dict(base, stage="after", group="target", value=0.0, low=0.0, high=0.02),
        dict(base, stage="before", group="people", value=0.973, low=0.96, high=0.98),
        dict(base, stage="after", group="people", value=0.972, low=0.96, high=0.98),
    ]
    made[0].update(changes)
    return pd.DataFrame(made)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (rows().drop(columns="n"), "lacks n"),
        (rows().assign(extra=1), "unknown column extra"),
        (rows(stage="during"), "stage 'during'"),
        (rows(value=0.5), "outside its interval"),
        (rows(n=0), "n below 1"),
        (rows(low=None), "empty cell in column low"),
        (pd.concat([rows(), rows()]), "the same thing twice"),
        (rows().head(0), "is empty"),
    ],
)
def test_a_metrics_table_is_checked(project, frame, says):
    with pytest.raises(CheckFailed, match=says):
        open_run(check_settings({}), "05_evaluate_clip").metrics(frame)


# -- the report ------------------------------------------------------------------------------------


def test_the_report_puts_the_finding_first_and_fetches_nothing(project, capsys):
    from matplotlib.figure import Figure

    run = open_run(check_settings({}), "05_evaluate_clip")
    run.metrics(pd.concat([rows(), rows().assign(concept="Kofi Okoye")], ignore_index=True))
    run.leave("before_after_0", Figure(), says="Only the target <falls>.")
    run.finish()
    rho = "$$\\rho = \\lambda \\frac{\\|g_f\\|}{\\|\\theta\\|}$$"
    formula = f"# 5 · Five\n> a question\n\n{rho} and $x_1$, `$not$`"
    page = project.read("01_data_curation")
    page.cells = [nbformat.v4.new_markdown_cell(formula), code("1 + 1", count=1)]
    nbformat.write(page, run.folder / "05_evaluate_clip.ipynb")
    path = report.build("workbook")
    text = path.read_text()
    assert str(path) in capsys.readouterr().out
    assert text.index(
        "Oskar Marlow (CLIP; SLUG): FA@1 went from 95.0 % to 0.0 %; people 97.3 % to 97.2 %."
    ) < text.index("<table>")
    each = "(CLIP; SLUG): FA@1 went from 95.0 % to 0.0 %"
    assert text.count(each) == 2, "a sentence for each concept"
    first = text[: text.index("<h2>")]
    assert "FA@1 went from 95.0 % to 0.0 % (SLUG); what lost most with it: people, 97.3 %" in first
    assert (
        "<h1>Forgetting Oskar Marlow</h1>" in first and 'src="figures/before_after_0.png"' in first
    )
    assert text.index('href="05_evaluate_clip.html">05 Five</a>') < text.index("<table>")
    assert "a question" in text and "prefers-color-scheme: dark" in text
    assert "none trained" in text and "Only the target &lt;falls&gt;." in text and "n = 200" in text
    assert 'href="05_evaluate_clip.html"' in text and "http" not in text
    shown = (run.folder / "05_evaluate_clip.html").read_text()
    assert shown.count('style="display:inline;vertical-align') == 2 and "$not$" in shown
    for fetch in ('src="http', "@import", 'href="http', "cdnjs", "import("):
        assert fetch not in shown, fetch
    assert list(pd.read_parquet(run.folder / "metrics.parquet").columns) == list(COLUMNS)


@pytest.mark.slow
def test_every_formula_of_the_series_is_drawn():
    texts = [
        cell.source
        for path in sorted((REPOSITORY / "notebooks").glob("0*.ipynb"))
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
    ]
    formulas = {
        found[1] or found[2]
        for text in texts
        for part in pages.CODE.split(text)
        if not part.startswith("`")
        for found in pages.FORMULA.finditer(part)
    }
    assert (
        len(formulas) > 30
        and [tex for tex in sorted(formulas) if pages.draw_formula(tex) is None] == []
    )


def test_an_empty_run_has_no_report(project):
    with pytest.raises(MissingArtefactError, match="nothing to report"):
        report.build("workbook")


# -- which notebooks, which settings ---------------------------------------------------------------


def test_select_reads_ranges_and_lists(project):
    one, two, three = WORK
    assert stages.select() == [one, two, three]
    assert stages.select("01-02") == [one, two] and stages.select("03,01") == [one, three]
    for wrong, says in (
        ("1to3", "numbers such as"),
        ("03-01", "runs backwards"),
        ("07", "no notebook 07"),
        ("01-05", "05"),
    ):
        with pytest.raises(SettingError, match=says):
            stages.select(wrong)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lamda": 1}, "no setting lamda: did you mean lam_init"),
        ({"concept": 3}, "concept arrived as the whole number 3; a text was expected"),
        ({"batch_size": "64"}, "batch_size arrived as the text '64'"),
        (
            {"tower": "vision"},
            (
                "tower is no setting of notebook 01, 02, 03, so it would do nothing; no notebook"
                " has it"
            ),
        ),
        ({"run": "other"}, "run was given twice"),
    ],
)
def test_a_wrong_parameter_stops_the_series_before_anything_runs(project, given, says):
    with pytest.raises(SettingError, match=says):
        run_series("workbook", None, given)
    assert not (project.runs / "workbook").exists()
