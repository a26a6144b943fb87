"""The benchmark's protocol: its names, its answer set and the parts of it, its classifiers, its
pictures on disk.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from statsmodels.stats.proportion import proportion_confint

from slugkit.base import (
    EmptySetError,
    MissingArtefactError,
    ModelLoadError,
    SettingError,
    UnknownConceptError,
    write_tensors,
)
from slugkit.data import unlearncanvas as canvas_names
from slugkit.data.unlearncanvas import (
    OBJECTS,
    STYLES,
    CanvasSource,
    concept_kind,
    prompt,
    read_unlearncanvas,
)
from slugkit.evaluation import unlearncanvas as canvas
from slugkit.evaluation.diffusion import told_by, ua_ira_cra
from slugkit.tasks.canvas_prompts import TIERS

SMALL, EDGE = "test_vit", 160
"""timm's smallest ViT, and the pixels along an edge that it reads."""


def test_there_are_51_style_entries_and_20_objects_in_alphabetical_order():
    assert (
        len(STYLES) == 51
        and len(OBJECTS) == 20
        and list(STYLES) == sorted(STYLES)
        and list(OBJECTS) == sorted(OBJECTS)
    )
    assert (
        concept_kind("Van_Gogh") == "style"
        and concept_kind("Dogs") == "object"
        and prompt("Dogs", "Van_Gogh") == "A Dogs image in Van Gogh style."
    )


@pytest.mark.parametrize("name", ["Van Gogh", "Seed_Images", "Dog"])
def test_what_the_benchmark_does_not_unlearn_is_refused(name):
    with pytest.raises(UnknownConceptError, match="50 styles or 20 objects"):
        canvas.answer_set(name)


def test_the_full_answer_set_is_every_object_in_every_style_from_every_seed():
    table = canvas.answer_set("Van_Gogh")
    assert (
        len(table) == 51 * 20 * 5
        and not table.duplicated(["prompt", "seed"]).any()
        and set(table["seed"]) == {188, 288, 588, 688, 888}
    )
    assert (table["group"] == "target").sum() == 100 and set(
        table.loc[table["group"] == "target", "style"]
    ) == {"Van_Gogh"}
    assert (canvas.answer_set("Dogs")["group"] == "target").sum() == 255


@pytest.mark.parametrize(
    ("concept", "tier", "target", "rest"),
    [
        ("Van_Gogh", "lite", 100, 1000),
        ("Dogs", "lite", 255, 969),
        ("Winter", "smoke", 20, 50),
        ("Birds", "smoke", 20, 50),
    ],
)
def test_a_smaller_tier_is_a_part_of_the_full_set_and_covers_styles_and_objects(
    concept, tier, target, rest
):
    table, full = canvas.answer_set(concept, tier), canvas.answer_set(concept)
    assert table["group"].value_counts().to_dict() == {"target": target, "rest": rest}
    assert len(table.merge(full)) == len(table) and not table.duplicated(["prompt", "seed"]).any()
    others = table[table["group"] == "rest"]
    assert others["style"].nunique() >= 50 and others["subject"].nunique() >= 19
    assert concept not in set(others["style"]) | set(others["subject"])
    mine = table[table["group"] == "target"]
    assert max(mine["style"].nunique(), mine["subject"].nunique()) == (
        51 if tier == "lite" and concept == "Dogs" else 20
    )


def test_error_bars_are_half_the_widest_wilson_interval_at_the_tiers_size():
    bars = canvas.error_bars("Van_Gogh", "lite").set_index("metric")
    low, high = proportion_confint(50, 100, method="wilson")
    assert bars.loc["UA", "n"] == 100 and bars.loc["UA", "half_width"] == pytest.approx(
        50 * (high - low)
    )
    widths = [
        canvas.error_bars("Dogs", tier)["half_width"].to_numpy()
        for tier in ("full", "lite", "smoke")
    ]
    assert (
        (widths[0] <= widths[1]).all()
        and (widths[1] < widths[2]).all()
        and (canvas.error_bars("Dogs", "full", 0.9)["half_width"] < widths[0]).all()
    )
    with pytest.raises(SettingError, match="full, lite, smoke"):
        canvas.answer_set("Dogs", "tiny")


@pytest.mark.parametrize("tier", TIERS)
def test_the_page_states_the_tiers_sizes_and_error_bars_as_computed(tier):
    page = (Path(canvas_names.__file__).parent / "pages" / "unlearncanvas.md").read_text(
        encoding="utf-8"
    )
    row = next(line for line in page.splitlines() if line.startswith(f"| {tier} "))
    both = [
        (len(canvas.answer_set(c, tier)), canvas.error_bars(c, tier).set_index("metric"))
        for c in ("Van_Gogh", "Dogs")
    ]
    cells = [
        " / ".join(f"{size:,}" for size, _ in both),
        " / ".join(str(bars.loc["UA", "n"]) for _, bars in both),
    ]
    cells += [
        " / ".join(f"{bars.loc[metric, 'half_width']:.1f}" for _, bars in both)
        for metric in ("UA", "IRA")
    ]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == cells


def scores(table, said, domain):
    """UA, IRA and CRA of answers to an answer set, by metric."""
    right = {f"right_{c}": said[c].to_numpy() == table[c].to_numpy() for c in ("subject", "style")}
    found = ua_ira_cra(table.assign(**right), domain)
    return found[(found["metric"] != "CRA") | (found["group"] == "all")].set_index("metric")


def test_scores_of_a_style_count_its_pictures_for_ua_and_all_others_for_ira_and_cra():
    table = canvas.answer_set("Van_Gogh")
    said = table[["subject", "style"]].copy()
    target = np.flatnonzero(table["group"] == "target")
    said.iloc[target[:90], 1] = "Monet"  # 90 of 100 no longer called Van Gogh
    said.iloc[target, 0] = "Sea"  # the target's own objects count nowhere
    rest = np.flatnonzero(table["group"] == "rest")
    said.iloc[rest[:500], 1] = "Van_Gogh"  # 500 of 5,000 other styles wrong
    said.iloc[rest[:1000], 0] = "nothing"  # 1,000 of 5,000 objects wrong
    found = scores(table, said, "styles")
    assert found["value"].to_dict() == pytest.approx({"UA": 0.9, "IRA": 0.9, "CRA": 0.8}) and found[
        "n"
    ].tolist() == [100, 5000, 5000]
    assert (found.loc["UA", "low"], found.loc["UA", "high"]) == pytest.approx(
        proportion_confint(90, 100, method="wilson")
    )


def test_scores_of_an_object_swap_the_domains():
    table = canvas.answer_set("Dogs", "smoke")
    said = table[["subject", "style"]].assign(
        style=lambda t: t["style"].where(table.index % 2 == 0, "Rust")
    )
    found = scores(table, said, "objects")
    rest = table["group"] == "rest"
    kept = (said["style"] == table["style"])[rest].mean()
    assert (
        found.loc["UA", "value"] == 0
        and found.loc["IRA", "value"] == 1
        and found.loc["CRA", "value"] == pytest.approx(kept)
        and kept < 0.6
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The two classifiers at a small size with random weights, as safetensors."""
    place = tmp_path_factory.mktemp("judge")
    for name, classes in (("style50", 51), ("style50_cls", 20)):
        torch.manual_seed(classes)
        write_tensors(
            place / f"{name}.safetensors", canvas.build_judge(classes, SMALL).state_dict()
        )
    return place / "style50.safetensors", place / "style50_cls.safetensors"


def test_the_classifiers_come_back_from_safetensors_and_answer_as_before(files):
    judge = canvas.load_canvas_judge(*files, "cpu", SMALL)
    torch.manual_seed(51)
    model = canvas.build_judge(51, SMALL)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, EDGE, EDGE, 3), dtype=np.uint8)
    with torch.no_grad():
        shares = model(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1).softmax(
            1
        )
    best, rounded = shares.argmax(1), []
    judge.style.register_forward_pre_hook(
        lambda *_: rounded.append(torch.backends.cudnn.allow_tf32)
    )
    said = judge.name(pictures)
    assert rounded and not any(rounded), "on a GPU its convolutions would be rounded"
    assert said["style"].tolist() == [STYLES[i] for i in best] and set(said["subject"]) <= set(
        OBJECTS
    )
    assert torch.allclose(judge.shares(pictures, "style"), shares, atol=1e-5) and judge.shares(
        pictures
    ).shape == (3, 20)
    assert len(judge.name(rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8))) == 2


def test_at_full_size_the_head_reads_1024_features():
    with torch.device("meta"):
        model = canvas.build_judge(51)
    assert (
        model.head.weight.shape == (51, 1024) and sum(p.numel() for p in model.parameters()) > 3e8
    )


def test_a_wrong_head_another_kind_of_file_and_unfit_weights_are_refused(files, tmp_path):
    style, names = files
    with pytest.raises(ModelLoadError, match="has 20 outputs; 51 were expected"):
        canvas.load_canvas_judge(names, style, "cpu", SMALL)
    (tmp_path / "style50.pth").write_bytes(b"could run code")
    with pytest.raises(ModelLoadError, match="only such a file is read"):
        canvas.load_canvas_judge(tmp_path / "style50.pth", names, "cpu", SMALL)
    with pytest.raises(ModelLoadError, match="not there"):
        canvas.load_canvas_judge(tmp_path / "style50.safetensors", names, "cpu", SMALL)
    with pytest.raises(ModelLoadError, match="does not fit"):
        canvas.load_canvas_judge(style, names, "cpu", "vit_tiny_patch16_384")
    (tmp_path / "broken.safetensors").write_bytes(style.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="unlearncanvas.md"):
        canvas.load_canvas_judge(tmp_path / "broken.safetensors", names, "cpu", SMALL)


def test_the_sampler_is_ddim_with_the_pipelines_own_noise_schedule():
    from diffusers import DDIMScheduler, PNDMScheduler

    from slugkit.models.diffusion import load_pipeline

    pipe = load_pipeline("studio", "cpu")
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    found = canvas.ddim(pipe)
    assert isinstance(found, DDIMScheduler) and isinstance(pipe.scheduler, PNDMScheduler)
    assert found.config.beta_schedule == pipe.scheduler.config.beta_schedule
    wanted = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    assert {name: found.config[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("subject", "Mira Kestrel"),
        ("style", "fresco"),
        ("prompt", "A Dogs image in Van Gogh style. " * 9),
    ],
)
def test_what_pipeline_and_judge_cannot_answer_is_not_drawn(
    files, tmp_path, monkeypatch, column, other
):
    from slugkit.models.diffusion import load_pipeline

    monkeypatch.setenv("SLUGKIT_RUNS", str(tmp_path))
    pipe, judge = load_pipeline("studio", "cpu"), canvas.load_canvas_judge(*files, "cpu", SMALL)
    table = canvas.answer_set("Dogs", "smoke").head(3)
    table["prompt"] = "Dogs"
    table.loc[2, column] = other
    with pytest.raises(
        SettingError,
        match=(
            "longer than the 16 tokens" if column == "prompt" else f"{column}s apart, and {other!r}"
        ),
    ):
        told_by(pipe, judge, table, 2)
    assert not list((tmp_path / ".cache").glob("generated-*"))


@pytest.fixture
def folder(tmp_path):
    """A little of the data set: three styles, the photographs under their other name, two objects,
    two pictures each and a tenth.
    """
    for style in ("Van_Gogh", "Monet", "Winter", "Seed_Image", "Techno"):
        for name in ("Dogs", "Sea"):
            (tmp_path / style / name).mkdir(parents=True)
            for number in (1, 2, 10):
                Image.new("RGB", (20, 20), (number * 20, 10, 10)).save(
                    tmp_path / style / name / f"{number}.jpg"
                )
    return tmp_path


def test_the_data_set_is_read_in_order_with_the_benchmarks_prompt_as_caption(folder):
    pairs = read_unlearncanvas(folder, 16)
    assert len(pairs) == 4 * 2 * 3 and set(pairs.table["style"]) == {
        "Van_Gogh",
        "Monet",
        "Winter",
        "Seed_Images",
    }
    assert pairs.table["key"].tolist()[:3] == [
        "Monet/Dogs/1.jpg",
        "Monet/Dogs/2.jpg",
        "Monet/Dogs/10.jpg",
    ]
    assert (
        pairs.images[:2].shape == (2, 16, 16, 3)
        and pairs.captions[0] == "A Dogs image in Monet style."
    )
    source = CanvasSource(folder, 16)
    style, thing = source.forget_set("Van_Gogh", 99), source.forget_set("Dogs", 99)
    assert (
        set(style.table["style"]) == {"Van_Gogh"}
        and len(style) == 2
        and set(thing.table["concept"]) == {"Dogs"}
        and len(thing) == 4
    )
    assert (
        not set(source.retain_set("Dogs", 99).table["key"]) & set(thing.table["key"])
        and len(source.retain_set("Dogs", 99)) == 4
    )


def test_a_folder_that_is_not_the_data_set_says_what_was_expected(folder, tmp_path_factory):
    with pytest.raises(UnknownConceptError, match="lacks pictures of 'Cats'"):
        CanvasSource(folder).forget_set("Cats", 9)
    (folder / "Monet" / "Sea" / "cover.jpg").write_bytes(b"")
    with pytest.raises(SettingError, match="cover.jpg"):
        read_unlearncanvas(folder)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(MissingArtefactError, match="unlearncanvas.md"):
        read_unlearncanvas(empty)
    (empty / "Rust").mkdir()
    with pytest.raises(EmptySetError, match="Rust"):
        read_unlearncanvas(empty)
