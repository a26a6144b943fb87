"""Notebook 05 where the search on a tower never made the model forget: it goes on with the other
tower, and says so.
"""

import nbformat
import pandas as pd
import pytest
import torch
from repository import REPOSITORY

from slugkit import patch
from slugkit.base import MissingArtefactError
from slugkit.workbook.run import open_run
from slugkit.workbook.settings import check_settings
from slugkit.workbook.start import searched


@pytest.fixture
def left(project, clip):
    """Leave what notebook 04 leaves, with a patch for each tower that forgot."""
    project.write(
        "05_evaluate_clip",
        nbformat.read(REPOSITORY / "notebooks" / "05_evaluate_clip.ipynb", as_version=4),
    )
    layers = {"text": "text_projection", "vision": "visual.proj"}

    def leave(*towers):
        run = open_run(check_settings({}), "04_one_step_update")
        run.leave(
            "search.parquet",
            pd.DataFrame({"tower": list(layers), "winner": [tower in towers for tower in layers]}),
        )
        for tower in towers:
            weight = clip.model.get_parameter(layers[tower]).detach()
            edit = patch.Patch(
                layer=layers[tower],
                tower=tower,
                direction=torch.ones_like(weight),
                lam=1e-3,
                rho=0.1,
                concept="Mira Kestrel",
                base_sha256={kind: "0" * 64 for kind in ("fp32", "fp16", "bf16")},
                tool_version="0",
            )
            patch.save(edit, run.path(f"patches/{tower}.safetensors"))
        run.finish()

    return leave


def begin(tower):
    """What notebook 05 begins with: the edits, that of the tower first."""
    cfg = check_settings({"tower": tower})
    return searched(cfg, open_run(cfg, "05_evaluate_clip"))


@pytest.mark.parametrize(("forgot", "asked"), [("vision", "text"), ("text", "vision")])
def test_it_goes_on_with_the_tower_that_has_a_patch(left, capsys, forgot, asked):
    left(forgot)
    assert list(begin(asked).patches) == [forgot]
    assert f"all that follows is about the edit of the {forgot} tower" in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["text", "vision"])
def test_with_both_it_shows_what_was_asked_for(left, capsys, asked):
    left("text", "vision")
    assert next(iter(begin(asked).patches)) == asked and capsys.readouterr().out == ""


def test_without_any_it_says_so(left):
    left()
    with pytest.raises(MissingArtefactError, match="No step on either tower made the model forget"):
        begin("text")
