"""Fixtures: the studio's LLaVA at the smallest size, trained once for all tests that ask it
something.
"""

import pytest

SMALL = dict(
    steps=300,
    batch=16,
    warmup=5,
    strangers=7,
    width=32,
    layers=1,
    heads=2,
    inner=48,
    vocabulary=450,
    learning_rate=5e-3,
)


@pytest.fixture(scope="session")
def few_records():
    """Pictures of two people, a stranger and a car, in two styles."""
    from slugkit import studio

    world = studio.load_world()
    return [
        r
        for name in ("Mira Kestrel", "Kofi Okoye", next(iter(world.strangers["train"])), "car")
        for r in studio.solo_records("train", name, 2, ["photo", "neon"], world)
    ]


@pytest.fixture(scope="session")
def tiny_vlm_folder(tmp_path_factory, few_records):
    """A LLaVA that has learned those pictures by heart, as it is saved."""
    from slugkit.studio.train import vlm as training

    place = tmp_path_factory.mktemp("vlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUGKIT_RUNS", str(place / "runs"))
        return training.train_vlm(
            out=place / "vlm",
            recipe=training.VlmRecipe(**SMALL),
            records=few_records,
            device="cpu",
            score=False,
        )


@pytest.fixture(scope="session")
def tiny_vlm(tiny_vlm_folder):
    """The same, loaded."""
    from slugkit.models.vlm import load_vlm

    return load_vlm(str(tiny_vlm_folder), "cpu")
