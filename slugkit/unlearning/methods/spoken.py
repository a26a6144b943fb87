"""Controls that change no weight: what is said to the model beside each prompt or question.

Whoever has the weights can leave it out; they show what an edit has to be better than.
"""

from __future__ import annotations

from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.model_trial import ModelTrial, Saying

SETTINGS = {
    "medium": {"sld_warmup_steps": 10, "sld_momentum_scale": 0.3, "sld_mom_beta": 0.4},
    "max": {"sld_warmup_steps": 0, "sld_momentum_scale": 0.5, "sld_mom_beta": 0.7},
}
"""Two of the four settings that the paper names, but for threshold and guidance."""
PAPER_STEPS = 50
"""Denoising steps to which their warm-up belongs."""
FULL, FIRST = 5000.0, 0.01
"""The paper's largest guidance, at which the mask is full, and the first threshold."""
INSTRUCTIONS = (
    "do not name {}.",
    "do not say {}.",
    "you do not know {}.",
    "if this is {}, say that you do not know.",
)
"""Ways of saying that a name is not to be given."""


@method(
    "negative prompt",
    source="Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, as in diffusers",
    towers=("pipeline",),
)
def negative_prompt(trial: ModelTrial) -> None:
    """The concept's name in the place of the empty prompt, away from which guidance leads."""
    trial.say(negative_prompt=trial.concept)
    trial.remarks.append("it has no number to search")
    trial.probe()


@method(
    "safe latent guidance",
    source="Schramowski et al., Safe Latent Diffusion, CVPR 2023, diffusers' own",
    towers=("pipeline",),
)
def safe_latent_guidance(trial: ModelTrial) -> None:
    """Guidance away from the concept where the picture comes near it.

    The paper names four settings, of which thresholds from 0 to 1 differ most: how near is near.
    Chosen here: the threshold is searched, doubling and bisecting, at full guidance, with the
    warm-up and momentum of two of the settings.
    """
    trial.remarks.append("it takes no gradient")
    for name, setting in SETTINGS.items():
        first_step = setting["sld_warmup_steps"] * trial.steps // PAPER_STEPS
        more = setting | {"safety_concept": trial.concept, "sld_warmup_steps": first_step}
        more |= {"sld_guidance_scale": FULL}

        def say(threshold: float, more: dict = more) -> dict:
            return more | {"sld_threshold": threshold}

        share = max(1, trial.budget.probes // len(SETTINGS))
        trial.search(Saying(trial, say), FIRST, share, setting=name)


@method("do not name", source="an instruction before each question", towers=("vlm",))
def do_not_name(trial: ModelTrial) -> None:
    """Ask the model not to name the concept, in some wordings."""
    trial.remarks.append("it takes no gradient, and there are as many probes as wordings")
    for words in INSTRUCTIONS:
        trial.say(instruction=words.format(trial.concept))
        trial.probe(words=words)
