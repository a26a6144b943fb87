"""One step on all layers of a tower at once, along SLUG's forget gradient."""

from __future__ import annotations

from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.probing import Joint
from slugkit.unlearning.trial import Trial


@method("every layer", source="an ablation of SLUG: its step without the choice of a layer")
def every_layer(trial: Trial) -> None:
    """theta - lam * g_f on every candidate layer, lam found as SLUG finds it."""
    trial.remarks.append("it asks for no retain gradient")
    trial.search(Joint(trial, trial.g_forget))
