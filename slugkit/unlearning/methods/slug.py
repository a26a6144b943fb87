"""SLUG, SLUG-R, and SLUG without one of its choices."""

from __future__ import annotations

from slugkit.unlearning.methods.registry import Method, add

PAPER = "Cai, Tan and Asif, Single Layer Unlearning Gradient, ICML 2025"
OURS = "ours: SLUG along what the retain set hardly feels"
CHOICES = {
    "random layers": "as many layers as the front has, drawn at random",
    "most important layer": "importance alone",
    "least aligned layer": "alignment alone",
    "product score": "the one layer with the best importance * (1 - alignment), the saliency score"
    " by which RAZOR (Ranjan et al., CVPR 2026) ranks layers, with its exponent at 1",
    "deepest layer": "the deepest layer of the front above the first block, else the last"
    " attn.out_proj: the rule of the authors' code for diffusion",
}

add(Method("SLUG", PAPER))
add(Method("SLUG-R", OURS, retain_aware=True))
add(
    Method("SLUG-R, no margin", f"{OURS}, the step that was found", retain_aware=True, margin=False)
)
for choice, why in CHOICES.items():
    add(Method(f"SLUG, {choice}", f"an ablation of SLUG: {why}", which=choice))
EVERY = "an ablation of SLUG: every candidate layer, each with its share of the probes"
add(Method("SLUG, all candidates", EVERY, which="all"))
