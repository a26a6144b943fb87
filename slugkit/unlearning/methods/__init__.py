"""Every method under one call, each in a file of its own: SLUG, SLUG-R, what is left of SLUG
without one of its choices, and the rivals.

A method of your own is a function of a `slugkit.unlearning.trial.Trial` under `method`.
"""

from slugkit.unlearning.methods import (
    ascent_and_retain,
    esd,
    every_layer,
    fine_tuning,
    gradient_ascent,
    npo,
    null_space,
    salun,
    slug,
    spoken,
    ssd,
    uce,
)
from slugkit.unlearning.methods.registry import METHODS, Method, add, method, method_named
