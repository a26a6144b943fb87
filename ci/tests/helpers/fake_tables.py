"""Plausible made-up tables for the tests of figures; nothing in them was measured."""

import numpy as np
import pandas as pd

from slugkit.method.ranking import pareto_front

KINDS = {
    "attn.in_proj": ("attn.in_proj_weight", 3, 1),
    "attn.out_proj": ("attn.out_proj.weight", 1, 1),
    "mlp.c_fc": ("mlp.c_fc.weight", 4, 1),
    "mlp.c_proj": ("mlp.c_proj.weight", 1, 4),
}


def layers_table(seed: int = 7) -> pd.DataFrame:
    """A layers.parquet of the studio's size: 26 vision and 17 text candidates, and two layers
    without scores.
    """
    rng = np.random.default_rng(seed)
    rows = [("visual.conv1.weight", "vision", -1, "conv1", 128 * 192)]
    for tower, prefix, blocks in (("vision", "visual.", 6), ("text", "", 4)):
        for block in range(blocks):
            for kind, (tail, a, b) in KINDS.items():
                rows.append(
                    (
                        f"{prefix}transformer.resblocks.{block}.{tail}",
                        tower,
                        block,
                        kind,
                        128 * a * 128 * b,
                    )
                )
    rows += [
        ("visual.proj", "vision", -1, "proj", 128 * 64),
        ("text_projection", "text", -1, "proj", 128 * 64),
    ]
    table = pd.DataFrame(rows, columns=["layer", "tower", "block", "kind", "n_weights"])
    table["shape"] = "128 x 128"
    table["norm"] = rng.uniform(4, 12, len(table))
    table["importance"] = 10 ** rng.normal(-1.9, 0.35, len(table))
    table["cosine"] = 10 ** rng.normal(-1.5, 0.55, len(table)) * rng.choice([-1, 1], len(table))
    table["alignment"] = table["cosine"].abs()
    table["candidate"], table["reason"], table["front"], table["front_share"] = True, "", False, 0.0
    for tower in ("text", "vision"):
        own = table["tower"] == tower
        table.loc[own, "front"] = pareto_front(
            table.loc[own, "importance"].to_numpy(), table.loc[own, "alignment"].to_numpy()
        )
    table.loc[table["front"], "front_share"] = rng.choice(
        [0.4, 0.6, 0.8, 1.0, 1.0], int(table["front"].sum())
    )
    table.loc[table.index[[3, 9, 30]], "front_share"] = [0.2, 0.4, 0.2]
    table["noise"] = table["alignment"] * rng.uniform(0.1, 1.2, len(table))
    left_out = pd.DataFrame(
        [
            dict(
                layer="token_embedding.weight",
                tower="text",
                block=-1,
                kind="proj",
                n_weights=9000,
                candidate=False,
                reason="excluded: embedding",
                front=False,
            )
        ]
    )
    return pd.concat([table, left_out], ignore_index=True)


def search_table(threshold: float = 0.1287) -> pd.DataFrame:
    """A search.parquet of two layers, the first of which forgets beyond rho = threshold."""
    rows = []
    for layer, unit in (
        ("transformer.resblocks.0.attn.out_proj.weight", 3.7),
        ("text_projection", 9.1),
    ):
        rho, low, high = 0.1, 0.0, float("inf")
        for probe in range(1, 11):
            forgotten = rho >= threshold
            fa1 = (
                0.0 if forgotten else float(np.round(0.95 * (1 - rho / threshold) ** 0.7 + 0.01, 2))
            )
            retain = 0.95 - rho / 4 if forgotten else np.nan
            rows.append(
                [
                    layer,
                    "text",
                    probe,
                    rho * unit,
                    rho,
                    fa1,
                    min(1, fa1 * 1.6),
                    fa1,
                    forgotten,
                    retain,
                    False,
                ]
            )
            low, high = (low, rho) if forgotten else (rho, high)
            rho = 2 * rho if np.isinf(high) else (low + high) / 2
    columns = [
        "layer",
        "tower",
        "probe",
        "lam",
        "rho",
        "fa1",
        "fa5",
        "forget",
        "forgotten",
        "retain",
        "chosen",
    ]
    table = pd.DataFrame(rows, columns=columns)
    for _, part in table[table["forgotten"]].groupby("layer"):
        table.loc[part["retain"].idxmax(), "chosen"] = True
    return table


def sweep_table(points: int = 21) -> pd.DataFrame:
    """A sweep of one layer over five groups."""
    rows, rng = [], np.random.default_rng(1)
    shapes = {
        "target": (0.95, 0.085, 240),
        "neighbours": (0.96, 0.9, 300),
        "people": (0.972, 1.6, 1170),
        "objects": (0.88, 2.5, 800),
        "styles": (0.99, 3, 900),
    }
    for group, (top, where, n) in shapes.items():
        for rho in sorted([*np.linspace(0, 0.6, points), 0.12890625]):
            drop = 1 / (1 + np.exp((rho - where) / (0.009 if group == "target" else 0.22)))
            value = np.clip(top * drop + rng.normal(0, 0.002), 0, 1)
            half = 1.96 * np.sqrt(value * (1 - value) / n + 1e-6)
            rows.append(
                [
                    "transformer.resblocks.0.attn.out_proj.weight",
                    "text",
                    3.7 * rho,
                    rho,
                    group,
                    value,
                    max(value - half, 0),
                    min(value + half, 1),
                    n,
                ]
            )
    return pd.DataFrame(
        rows, columns=["layer", "tower", "lam", "rho", "group", "value", "low", "high", "n"]
    )


def metrics_table(two: bool = False, oracle: bool = True) -> pd.DataFrame:
    """A metrics.parquet of one concept: before, after (one method or two), oracle."""
    values = {
        "target": (0.951, 0.0, 0.012, 240),
        "neighbours": (0.96, 0.93, 0.957, 310),
        "people": (0.973, 0.968, 0.975, 2340),
    }
    values |= {"objects": (0.884, 0.881, 0.879, 1200), "styles": (0.991, 0.99, 0.992, 2400)}
    rows = []
    for group, (before, after, never, n) in values.items():
        stages = [("before", "none", before), ("after", "SLUG text", after)]
        stages += [("after", "SLUG vision", max(after - 0.06, 0.004))] if two else []
        stages += [("oracle", "none", never)] if oracle else []
        for stage, method, value in stages:
            half = 1.96 * np.sqrt(value * (1 - value) / n + 1e-5)
            rows.append(
                [
                    "clip",
                    "studio",
                    "Mira Kestrel",
                    method,
                    stage,
                    group,
                    "accuracy",
                    "report",
                    value,
                    max(0, value - half),
                    min(1, value + half),
                    n,
                ]
            )
    columns = [
        "family",
        "model",
        "concept",
        "method",
        "stage",
        "group",
        "metric",
        "split",
        "value",
        "low",
        "high",
        "n",
    ]
    return pd.DataFrame(rows, columns=columns)


def answers_table() -> pd.DataFrame:
    """What 240 pictures of the target are called before and after."""
    before = {"Mira Kestrel": 228, "Tove Lindqvist": 7, "Anselm Brandt": 5}
    after = {
        "Tove Lindqvist": 121,
        "Anselm Brandt": 44,
        "Yuki Tanabe": 30,
        "Kofi Okoye": 18,
        "Ines Carvalho": 9,
        "Bo Abara": 7,
        "Lena Hoff": 6,
        "Noor Aziz": 5,
    }
    rows = [("before", name, n) for name, n in before.items()] + [
        ("after", name, n) for name, n in after.items()
    ]
    return pd.DataFrame(rows, columns=["stage", "answer", "count"])


def agreement_table() -> pd.DataFrame:
    """Mean gradients of two draws against each other, and what noise predicts."""
    rows = [(n, 1 / (1 + 5 / n), 1 / (1.1 + 5 / n), "forget") for n in range(10, 121, 10)]
    rows += [(n, 1 / (1 + 9e3 / n), 1 / (1 + 8e3 / n), "retain") for n in range(128, 1025, 128)]
    return pd.DataFrame(rows, columns=["samples", "predicted", "cosine", "set"])


def outcomes_table():
    """Three outcomes for two groups and three states of a model."""
    states = [
        ("before", "SLUG", (0.98, 0.01, 0.01)),
        ("after", "step by CLIP", (0.9, 0.05, 0.05)),
        ("after", "step by answers", (0.0, 0.4, 0.6)),
    ]
    return pd.DataFrame(
        [
            dict(stage=stage, method=method, group=group, metric=outcome, value=value, n=84)
            for group in ("people", "target")
            for stage, method, values in states
            for outcome, value in zip(
                ("right name", "another name", "no name"),
                values if group == "target" else values[::-1],
            )
        ]
    )


def interference_table():
    """Two concepts and a group, unedited and with each of two edits; the second costs the first
    concept 40 points.
    """
    values = {"nothing": (0.9, 1.0, 0.98), "Ann": (0.0, 0.99, 0.97), "Ben": (0.5, 0.01, 0.98)}
    return pd.DataFrame(
        [
            dict(
                forgotten=edit,
                measured=name,
                group="people" if name == "people" else "target",
                value=value,
                low=value,
                high=value,
                n=10,
            )
            for edit, found in values.items()
            for name, value in zip(("Ann", "Ben", "people"), found)
        ]
    )


def curve_table():
    """Two ways, two orders, one to three concepts."""
    rows = [
        dict(way=way, order=order, count=count, group=group, low=value - 0.01, high=value + 0.01)
        | dict(value=value, n=50)
        for way, toll in (("SLUG, added", 0.1), ("SLUG-R, added", 0.0))
        for order in ("first", "backwards")
        for count in (1, 2, 3)
        for group, value in (
            ("targets, FA@1", 0.01 * count),
            ("targets, FA@5", 0.02 * count),
            ("worst target", 0.03 * count),
            ("worst wording", 0.03 * count),
            ("people", 0.98 - toll * count),
            ("characters", 0.9),
            ("styles", 0.9),
        )
    ]
    return pd.DataFrame(rows)


def pictures(count, seed=0):
    """Coarse pictures of random colours."""
    base = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.kron(base, np.ones((1, 8, 8, 1), dtype=np.uint8))


def title_of(fig):
    """What the title of a figure says, on one line."""
    return fig.get_suptitle().replace("\n", " ").replace("\u00a0", " ")
