"""The studio's pictures in the formats of the published data sets: from shards, CelebA and ImageNet
folders to a forgotten name, with the studio's own CLIP.
"""

import numpy as np
import pytest
from studio_files import write_studio_files

from slugkit import patch
from slugkit.data import drawn, open_data
from slugkit.data.pictures import Pictures
from slugkit.evaluation.clip import evaluate_clip
from slugkit.evaluation.leftover import class_pictures
from slugkit.evaluation.statistics import headline
from slugkit.experiments.published import paper_rows
from slugkit.method.search import Criterion
from slugkit.unlearning.concept import score_layers, search_layers
from slugkit.unlearning.gradients import forget_gradient, retain_gradient
from slugkit.unlearning.result import front_layers, winning_patch

NAME = "Mira Kestrel"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_studio_files(tmp_path_factory.mktemp("files"), training=1500, per_style=1)


@pytest.fixture(scope="module")
def files(recipe):
    return open_data(str(recipe))


def test_shards_hold_the_training_pictures_and_captions(files, source):
    pairs, records = files.pool.pairs, source.training[:1500]
    assert isinstance(pairs.images, Pictures) and pairs.captions == [r.caption() for r in records]
    apart = np.abs(pairs.images[:40].astype(int) - drawn(records[:40]).astype(int))
    assert apart.mean() < 2, "JPEG of the highest quality is near the drawing"


def test_people_and_objects_are_examined_on_pictures_of_their_own(files, source):
    exam = files.exam(NAME, "report")
    assert set(exam.prompts) == {"figures", "objects"} and len(exam.classes("figures")) == len(
        source.world.people
    )
    assert (
        files.neighbours(NAME) == source.world.neighbours_of(NAME)[:3]
        and files.kind("umbrella") == "object"
    )
    known = class_pictures(files, exam, 2, 0)
    assert set(known) == set(source.world.people) and max(map(len, known.values())) == 2
    report = {i.tobytes() for i in exam.pairs.images}
    assert not any(
        picture.tobytes() in report for pictures in known.values() for picture in pictures
    )


def test_the_name_is_forgotten_from_shards_to_the_papers_names(files, clip):
    forget, retain = files.forget_set(NAME, 40, 0), files.retain_set(NAME, 128, 0)
    assert len(forget) >= 10 and not any(NAME in caption for caption in retain.captions)
    g_f, g_r = forget_gradient(clip, forget, 32), retain_gradient(clip, retain, 64)
    layers = front_layers(score_layers(clip, g_f, g_r), "text")
    probes = search_layers(
        clip, files.exam(NAME, "search"), g_f, layers, Criterion("fa1"), max_trials=6
    )
    edit, report = winning_patch(clip, g_f, probes, "text", NAME), files.exam(NAME, "report")
    rows = [evaluate_clip(clip, report, "before")]
    with patch.applied(edit, clip.model):
        rows.append(evaluate_clip(clip, report, "after"))
    before, after = (paper_rows(headline(r)).set_index("metric")["value"] for r in rows)
    assert before["FA@1"] >= 60 and after["FA@1"] <= before["FA@1"] / 2
    assert after["TA_CA@1"] >= before["TA_CA@1"] - 10 and after["TA_IN@1"] >= before["TA_IN@1"] - 10
