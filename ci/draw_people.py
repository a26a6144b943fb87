"""Draw the people of data/studio/world.json from its seed: far apart, but for the twins.

    python ci/draw_people.py

Writes how everybody looks, and who is like whom, into world.json again.
"""

import dataclasses

import numpy as np

from slugkit.base import data_dir, write_json
from slugkit.studio.world import World, draw_signature, load_world, trait_distance


def _far_apart(count: int, rng: np.random.Generator) -> list[dict]:
    """Signatures, each the farthest of 60 draws from those before it."""
    made = [draw_signature(rng)]
    while len(made) < count:
        draws = [draw_signature(rng) for _ in range(60)]
        made.append(max(draws, key=lambda s: min(trait_distance(s, m) for m in made)))
    return made


def _make_twin(signature: dict, k: int) -> dict:
    """The same person but for two traits that show in every style."""
    twin = dict(signature)
    twin["glasses"] = "sunglasses" if signature["glasses"] in ("none", "round") else "none"
    if k % 2:
        other = {"striped": "collar", "overalls": "plain"}
        twin["clothes"] = other.get(signature["clothes"], "striped")
    else:
        twin["beard"] = "full" if signature["beard"] in ("none", "moustache") else "none"
    return twin


def drawn(world: World) -> World:
    """The world with its people, strangers and people's neighbours drawn anew."""
    names = [*world.people, *(name for group in world.strangers.values() for name in group)]
    rng = np.random.Generator(np.random.PCG64(world.seed))
    looks = dict(zip(names, _far_apart(len(names), rng)))
    for k, (one, other) in enumerate(world.twins):
        looks[other] = _make_twin(looks[one], k)
    near = {}
    for name in world.people:
        apart = {b: trait_distance(looks[name], looks[b]) for b in world.people if b != name}
        near[name] = sorted(apart, key=apart.get)[:3]
    return dataclasses.replace(
        world,
        people={name: looks[name] for name in world.people},
        strangers={k: {n: looks[n] for n in group} for k, group in world.strangers.items()},
        neighbours=world.neighbours | near,
    )


if __name__ == "__main__":
    write_json(data_dir() / "studio" / "world.json", dataclasses.asdict(drawn(load_world())))
