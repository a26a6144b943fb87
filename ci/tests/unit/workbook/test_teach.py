"""The teaching helpers: figures with alternative texts, folded sources, expected values, contracts,
exercise checks.
"""

import inspect
import io
import json
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from wrong_answers import RIGHT, WRONG

from slugkit.base import CheckFailed, MissingArtefactError, SettingError
from slugkit.method.ranking import importance
from slugkit.workbook.run.pages import convert
from slugkit.workbook.teach import (
    check_close,
    checks,
    contract,
    display,
    expect_error,
    facts,
    read_expected,
    show,
    show_figure,
)


@pytest.mark.parametrize("name", RIGHT)
def test_right_solution_passes_and_says_how_many_checks(name, capsys):
    getattr(checks, name)(RIGHT[name])
    said = capsys.readouterr().out
    assert re.fullmatch(r"\d+ checks passed\n", said)
    assert int(said.split()[0]) >= 4


@pytest.mark.parametrize(
    "name, wrong, hint", WRONG, ids=[f"{row[0]}-{i}" for i, row in enumerate(WRONG)]
)
def test_wrong_solution_is_caught_with_the_likely_slip(name, wrong, hint, capsys):
    with pytest.raises(CheckFailed) as caught:
        getattr(checks, name)(wrong)
    assert re.search(hint if "|" in hint else re.escape(hint), str(caught.value)), str(caught.value)
    assert "checks passed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", RIGHT)
def test_unsolved_exercise_passes_its_own_error_through(name):
    def unsolved(*inputs):
        raise NotImplementedError(f"write {name}")

    with pytest.raises(NotImplementedError, match=f"write {name}"):
        getattr(checks, name)(unsolved)


def test_every_check_has_right_and_wrong_answers():
    public = {name for name, found in vars(checks).items() if inspect.isfunction(found)}
    assert public == set(RIGHT) == {row[0] for row in WRONG}


def test_wrong_number_of_inputs_is_named():
    with pytest.raises(CheckFailed, match="stopped with TypeError"):
        checks.alignment(lambda g: g.norm())


class Shell:
    """Stands for a notebook: remembers what is displayed."""

    def __init__(self, monkeypatch):
        self.shown = []
        monkeypatch.setattr(display, "get_ipython", lambda: self)
        monkeypatch.setattr(
            display, "display", lambda data, **more: self.shown.append((data, more))
        )


def _picture_figure(count, size=900):
    noise = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    fig = plt.figure(figsize=(size / 100, size / 100))
    for i, picture in enumerate(noise):
        fig.add_axes([i % 5 / 5, i // 5 / 5, 0.19, 0.19]).imshow(picture, interpolation="nearest")
    return fig


def test_show_figure_sets_the_alternative_text_prints_it_and_closes(monkeypatch, capsys):
    shell = Shell(monkeypatch)
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    show_figure(fig, "A line that  goes up.")
    ((bundle, more),) = shell.shown
    assert more["metadata"] == {"image/png": {"alt": "A line that goes up."}} and more["raw"]
    assert bundle["text/plain"] == "A line that goes up."
    assert capsys.readouterr().out == "A line that goes up.\n"
    assert not plt.fignum_exists(fig.number)


def test_show_figure_without_notebook_only_prints(capsys):
    show_figure(plt.figure(), "Nothing to see.")
    assert capsys.readouterr().out == "Nothing to see.\n"


def test_show_figure_refuses_an_empty_description():
    with pytest.raises(SettingError, match="one sentence"):
        show_figure(plt.figure(), "  ")


@pytest.mark.slow
def test_png_sizes_stay_within_the_limits():
    chart, axes = plt.subplots(3, 3, figsize=(10, 8))
    for ax in axes.ravel():
        ax.plot(np.random.default_rng(1).normal(size=(40, 4)), marker="o")
    assert len(display.small_png(chart)) <= 80_000
    grid = _picture_figure(10, 600)
    packed = display.small_png(grid)
    assert len(packed) <= 300_000
    assert Image.open(io.BytesIO(packed)).size[0] > 300
    plt.close("all")


def test_png_is_the_same_twice():
    fig, ax = plt.subplots()
    ax.plot([1, 3, 2])
    assert display.small_png(fig) == display.small_png(fig)
    plt.close(fig)


def test_alternative_text_reaches_the_web_page(tmp_path):
    image = "iVBORw0KGgo="
    output = nbformat.v4.new_output(
        "display_data", data={"image/png": image}, metadata={"image/png": {"alt": 'A "line" <up>.'}}
    )
    other = nbformat.v4.new_output("display_data", data={"text/plain": "x"})
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("1", outputs=[output, other]),
            nbformat.v4.new_markdown_cell("y"),
        ]
    )
    nbformat.write(notebook, tmp_path / "page.ipynb")
    page = convert(tmp_path / "page.ipynb", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alt='A \"line\" &lt;up&gt;.'" in page or 'alt="A &quot;line&quot; &lt;up&gt;."' in page
    assert "No description has been provided" not in page


def test_show_folds_the_source_with_a_link(monkeypatch):
    shell = Shell(monkeypatch)
    show(importance)
    bundle = shell.shown[0][0]
    text = bundle["text/html"]
    assert text.startswith("<details>") and 'href="../slugkit/method/ranking.py"' in text
    assert "def importance" in text and str(inspect.getsourcefile(importance)) not in text
    assert "from slugkit/method/ranking.py" in bundle["text/plain"]


def test_show_prints_the_source_outside_a_notebook(capsys):
    show(importance)
    said = capsys.readouterr().out
    assert said.startswith("Source of importance, from slugkit/method/ranking.py:")
    assert "def importance" in said


def test_show_needs_something_with_a_source():
    with pytest.raises(SettingError, match="without calling it"):
        show(3)
    with pytest.raises(SettingError, match="no Python source"):
        show(len)


@pytest.fixture
def book(tmp_path, monkeypatch):
    folder = tmp_path / "expected"
    folder.mkdir()
    monkeypatch.setattr(facts, "data_dir", lambda: tmp_path)
    entry = {"value": 0.5, "tolerance": 0.01, "reason": "two cores, seed 0"}
    (folder / "studio.json").write_text(json.dumps({"03_rank_layers": {"importance": entry}}))
    (folder / "broken.json").write_text("{")
    return entry


def test_read_expected_by_full_and_short_name(book):
    assert (
        read_expected("studio", "03_rank_layers")
        == read_expected("studio", "rank_layers")
        == {"importance": book}
    )


@pytest.mark.parametrize(
    "scale, notebook, kind, words",
    [
        ("paper", "x", MissingArtefactError, "missing"),
        ("broken", "x", SettingError, "no JSON"),
        ("studio", "rank_layer", SettingError, "knows no notebook"),
    ],
)
def test_read_expected_says_what_is_wrong(book, scale, notebook, kind, words):
    with pytest.raises(kind, match=words):
        read_expected(scale, notebook)


def test_check_close_holds_within_tolerance(book, capsys):
    check_close("importance", torch.tensor(0.509), book)
    check_close("importance", 0.52, book, rel=0.05)
    check_close("importance", 0.5000001, 0.5, abs=1e-6)
    check_close("importance", 0.7, None)
    said = capsys.readouterr().out.splitlines()
    assert [line.endswith("holds") for line in said] == [True, True, True, False]
    assert "no expected value" in said[3]


@pytest.mark.parametrize("value", [0.52, float("nan"), float("inf"), "much"])
def test_check_close_fails_with_the_reason_and_what_to_look_at(book, value):
    with pytest.raises(CheckFailed, match="was expected"):
        check_close("importance", value, book)


def test_check_close_names_the_reason_and_wants_a_tolerance(book):
    with pytest.raises(CheckFailed, match="two cores, seed 0.*Look at"):
        check_close("importance", 0.9, book)
    with pytest.raises(SettingError, match="no tolerance"):
        check_close("importance", 0.9, 0.9)


def test_contract_prints_one_exact_line_a_fact(capsys):
    contract(
        forget_pairs=120,
        front=["conv1", "proj"],
        shape=torch.Size([128, 64]),
        disjoint=True,
        names={"b", "a"},
        by_tower={"text": 3, "vision": np.int64(4)},
        count=torch.tensor(3),
        none=[],
        picks=np.array([1, 2]),
        one=(5,),
        missing=None,
    )
    assert capsys.readouterr().out.splitlines() == [
        "forget pairs: 120",
        "front: conv1, proj",
        "shape: 128 x 64",
        "disjoint: yes",
        "names: a, b",
        "by tower: text: 3, vision: 4",
        "count: 3",
        "none: none",
        "picks: 1, 2",
        "one: 5",
        "missing: none",
    ]


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), [1, 0.5], {"a": 0.5}])
def test_contract_refuses_floats(value):
    with pytest.raises(CheckFailed, match="check_close"):
        contract(accuracy=value)


def test_expect_error_prints_the_message(capsys):
    def stop():
        raise SettingError("lam_init arrived as text.")

    expect_error(SettingError, stop)
    assert capsys.readouterr().out == "SettingError: lam_init arrived as text.\n"


def test_expect_error_fails_on_silence_and_on_another_error():
    with pytest.raises(CheckFailed, match="Nothing was raised"):
        expect_error(SettingError, lambda: 3)
    with pytest.raises(
        CheckFailed, match="ZeroDivisionError was raised.*SettingError was expected"
    ):
        expect_error(SettingError, lambda: 1 / 0)
