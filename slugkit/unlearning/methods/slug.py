"""SLUG, SLUG-R, and SLUG with another choice of layers."""

from __future__ import annotations

from slugkit.unlearning.methods.registry import Method, add

PAPER = "Cai, Tan and Asif, Single Layer Unlearning Gradient, ICML 2025"
ABLATION = "an ablation of SLUG"

add(Method("SLUG", PAPER))
add(Method("SLUG-R", "ours: SLUG along what the retain set hardly feels", retain_aware=True))
for _which, _why in {
    "random layers": "as many layers as the front has, drawn at random",
    "most important layer": "importance alone",
    "least aligned layer": "alignment alone",
    "product score": "the one layer with the best importance * (1 - alignment), the saliency score "
    "by which RAZOR (Ranjan et al., CVPR 2026) ranks layers, with its exponent at 1",
    "deepest layer": "the deepest layer of the front, as in the authors' code for diffusion",
    "all": "every candidate layer, each with its share of the probes",
}.items():
    _name = "all candidates" if _which == "all" else _which
    add(Method(f"SLUG, {_name}", f"{ABLATION}: {_why}", which=_which))
