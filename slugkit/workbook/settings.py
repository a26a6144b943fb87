"""The settings of all notebooks: one class, checked before anything expensive starts."""

import math
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from slugkit.base import SettingError, did_you_mean, plain_name

KINDS = {str: "text", int: "whole number", float: "number", bool: "truth value", list: "list"}
Text = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """Every parameter that a notebook of the series may list, with type, default and range."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    model: Text = "studio"
    """studio, an open_clip tag such as ViT-B-32:laion400m_e32, a hub id, or a folder"""
    data: Text = "studio"
    """studio, or your own pictures: a folder, table, shards or recipe"""
    concept: Text = "Oskar Marlow"
    """name to forget, as the data writes it"""
    tower: Literal["text", "vision"] = "text"
    """the tower whose edit notebook 05 shows: text or vision"""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """seeds python, numpy and torch; 0 to 4294967295"""
    run: Annotated[str, AfterValidator(plain_name)] = "workbook"
    """name of the run folder under runs/: letters, digits, . _ and -"""
    forget_size: Annotated[int, Field(ge=1)] = 120
    """pairs in the forget set, 1 or more"""
    retain_size: Annotated[int, Field(ge=2)] = 2560
    """pairs in the retain set, 2 or more"""
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 128
    """micro-batch of the retain loss, 2 to 4096 pairs"""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """what the towers multiply in: fp32, tf32 (float32 that a GPU rounds), bf16 or fp16; sums stay
    in fp32"""
    chunk: Annotated[int, Field(ge=0, le=4096)] = 0
    """pairs encoded at a time, for the same gradient in less memory; 0 takes what memory allows"""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """processes that share the micro-batches, one for each GPU, 1 to 64"""
    layers: list[str] = []
    """canonical layer names to rank; empty means every candidate"""
    exclude: list[str] = ["bias", "ln_", "embedding", "logit_scale"]
    """a weight whose name holds one of these is no candidate"""
    split_qkv: bool = False
    """rank the three slices of packed q/k/v apart"""
    target: Literal["auto", "fa1", "fa5"] = "auto"
    """forgotten when, in every search wording, FA@1 is 0 (fa1) or FA@5 is 0 (fa5); auto takes fa5
    among 20 classes or more, else fa1"""
    search_front: Literal["front", "all"] = "front"
    """layers searched: those on the Pareto front (the paper), or all candidates"""
    damping: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    """SLUG-R: how far the retain set's inputs are spared, above 0; large is SLUG"""
    lam_init: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """first step length, unitless, 0 or more; 0 starts at rho = 10 %"""
    max_trials: Annotated[int, Field(ge=1, le=60)] = 10
    """upper bound on step lengths tried per layer, 1 to 60"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto, cpu, cuda or mps"""
    pipeline: Text = "studio"
    """studio, or a folder or hub id of a Stable Diffusion pipeline whose text encoder is the
    CLIP's"""
    judge_model: str = ""
    """CLIP that judges pictures of other data than the studio's, or folder of UnlearnCanvas's
    classifiers; with the studio, folder of a classifier; empty takes the unedited CLIP, with the
    studio its own classifier"""
    answer_tier: Literal["smoke", "lite", "full"] = "smoke"
    """how much of UnlearnCanvas's answer set is drawn: smoke (70 pictures), lite (about 1,100) or
    full (5,100)"""
    device_map: Literal["", "auto", "balanced", "sequential"] = ""
    """how accelerate spreads a pipeline or language model: empty (one device), auto, balanced or
    sequential"""
    size: Annotated[int, Field(ge=1, le=100)] = 1
    """report pictures of every other subject, 28 times as many of the target; 1 to 100"""
    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 10
    """denoising steps per picture, 1 to 1000"""
    guidance: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] = 4.0
    """scale of classifier-free guidance, 0 to 50"""
    pipeline_layers: Annotated[int, Field(ge=1, le=50)] = 1
    """layers searched on generated pictures, the deepest of the front first; 1 is the authors'
    rule"""
    pipeline_trials: Annotated[int, Field(ge=1, le=60)] = 10
    """upper bound on step lengths tried per layer on generated pictures, 1 to 60"""
    pipeline_ua: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.95
    """share of the target's search pictures that must no longer show it, above 0 to 1"""
    frechet_size: Annotated[int, Field(ge=0)] = 0
    """pictures for the Frechet distance, 1000 or more; 0 leaves it out"""
    vision_language_model: Text = "studio"
    """studio, or a folder or hub id of a LLaVA whose vision tower is the CLIP's"""
    questions: Annotated[int, Field(ge=1, le=100)] = 2
    """pictures of every other subject that questions are about, 28 times as many of each concept;
    1 to 100"""
    answer_trials: Annotated[int, Field(ge=1, le=60)] = 10
    """upper bound on step lengths tried per layer on answers, 1 to 60"""
    answer_forgotten: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.97
    """share of the target's search pictures that must lose the right name, above 0 to 1"""
    concepts: list[str] = []
    """names to forget together; empty means concept and others of its kind, up to ten"""
    further: list[str] = []
    """further names, each forgotten on its own; empty takes two characters (06), another person
    (07)"""
    report_per_style: Annotated[int, Field(ge=0)] = 0
    """report pictures per style and class; 0 means all"""
    recompute: bool = False
    """notebooks 10 and 11: compute the concept's part of the tables again, some minutes"""


def setting_type(name: str) -> type:
    """str, int, float, bool or list; NoneType for a name that is no setting."""
    known = Settings.model_fields.get(name)
    return type(known.default if known else None)


def _how_to_write(value: Any, wanted: type) -> str:
    """What to write where YAML or papermill read a value as another type; "" for any other."""
    if wanted is str or wanted is list and isinstance(value, list):
        return (
            "\nYAML and papermill's -p read 007, 1984, 1e5, true and None as something else "
            "than text: quote it in YAML, pass it with papermill's -r NAME VALUE, "
            "or use `slugkit run`, which keeps it as it is written."
        )
    if wanted is list and isinstance(value, str):
        return f"\nWrite [{value}]."
    with suppress(ValueError):
        number = wanted(value) if wanted in (int, float) and isinstance(value, str) else math.nan
        mantissa, e, exponent = str(value).lower().partition("e")
        if math.isfinite(number) and e and "." not in mantissa:
            return f"\nYAML reads {value} as text. Write {mantissa}.0e{exponent} or {number!r}."
        if math.isfinite(number):
            return f"\nWrite {number!r} without quotes."
    return ""


def _explain(name: str, value: Any, problem: Any) -> str:
    """One sentence or two for a problem that pydantic found."""
    kind, wanted = "value" if value is None else KINDS.get(type(value)), setting_type(name)
    arrived = f"{name} arrived as {f'the {kind}' if kind else type(value).__name__} {value!r}"
    if problem["type"] == "literal_error":
        return f"{arrived}; {problem['ctx']['expected']} was expected."
    if problem["type"].endswith(("_type", "_parsing")):
        plain = {bool: "True or False", list: "a list of texts"}
        expected = plain.get(wanted, f"a {KINDS.get(wanted)}")
        return f"{arrived}; {expected} was expected.{_how_to_write(value, wanted)}"
    reason = problem.get("ctx", {}).get("error") or "that is outside its range"
    meaning = " ".join(Settings.model_fields[name].description.split())
    return f"{arrived}; {reason}. {name}: {meaning}."


def check_settings(values: dict[str, Any]) -> Settings:
    """Settings made of `values`; the others keep their defaults.

    Raises: SettingError for an unknown name, a wrong type or a value out of range.
    """
    known = Settings.model_fields
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f"the settings are {', '.join(known)}."
            raise SettingError(f"There is no setting {name}: {hint}")
    # papermill hands a whole number to a float setting as an int; nothing else is converted
    whole = {n: float(v) for n, v in values.items() if setting_type(n) is float and type(v) is int}
    try:
        return Settings(**{**values, **whole})
    except ValidationError as broken:
        problem = broken.errors()[0]
        name = str(problem["loc"][0])
        raise SettingError(_explain(name, values[name], problem)) from None


def read_settings(namespace: dict[str, Any]) -> Settings:
    """Settings of a notebook: `read_settings(globals())` takes what its settings cell set.

    Other names are left alone. Raises: SettingError for a wrong type or a value out of range.
    """
    return check_settings(
        {name: namespace[name] for name in Settings.model_fields if name in namespace}
    )
