"""How far to step: the search for lambda on one layer, and over all layers of a front (design,
section 4).

Knows an editable weight and a callable that measures, and no model library. The update is theta0 -
lambda * g_f, in fp32; rho = lambda * importance is the size of that change relative to the weight.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import pandas as pd

from slugkit.base import EmptySetError, SearchFailedError, SettingError, progress
from slugkit.method.criterion import Criterion
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import tower_of

PICTURES = "pictures"
"""Key of a retain measure: how many pictures its share is of."""
FIRST_RHO = 0.10
RHO_MAX = 100.0
STOP_RATIO = 1.02


class Measure(Protocol):
    """What the search asks of a model in its present state; search split only."""

    def forget(self) -> dict[str, float]:
        """Forget accuracy of the target: keys fa1 and fa5, shares in 0..1 (lower is more
        forgotten).
        """

    def retain(self) -> dict[str, float]:
        """What must stay: the key "retain", which steers the search (higher is better), and one key
        per group; "pictures", how many `retain` is a share of, where it is one.
        """


@dataclass(frozen=True)
class Probe:
    """One step tried, and what was measured there.

    number: from 1. lam, rho: the step. forget: the forget measures; forgotten: the verdict on them.
    retain: the retain measures, None for a probe that did not forget or was not asked for them.
    """

    number: int
    lam: float
    rho: float
    forget: dict[str, float]
    forgotten: bool
    retain: dict[str, float] | None = None


@dataclass(frozen=True)
class SearchResult:
    """All probes of one layer, in the order they were made.

    margin: above 1 where the last probe was made that much beyond the best of those before.
    """

    layer: str
    tower: str
    probes: list[Probe]
    criterion: Criterion
    margin: float = 1.0

    @property
    def chosen(self) -> Probe | None:
        """The forgetting probe with the best retain measure, of several within one picture of it
        the one with the smallest step; with a margin the probe beyond it, if that forgets.

        None if no probe forgets.
        """
        found = [(p, p.retain) for p in self.probes if p.forgotten and p.retain is not None]
        if not found:
            return None
        if self.margin > 1 and found[-1][0] is self.probes[-1]:
            return self.probes[-1]
        least = max(kept["retain"] - _one_picture(kept.get(PICTURES)) for _, kept in found)
        return min((p for p, kept in found if kept["retain"] >= least), key=lambda p: p.lam)

    def frame(self) -> pd.DataFrame:
        """One row per probe.

        Columns: layer, tower, probe, lam, rho, fa1, fa5, forget (what the criterion looks at),
        forgotten, retain, pictures, retain_<group>…, chosen. Retain columns are nan for probes that
        did not forget.
        """
        keys = dict.fromkeys(key for probe in self.probes for key in probe.retain or {})
        groups = [key for key in keys if key not in ("retain", PICTURES)]
        rows = []
        for probe in self.probes:
            retain = probe.retain or {}
            rows.append(
                {
                    "layer": self.layer,
                    "tower": self.tower,
                    "probe": probe.number,
                    "lam": probe.lam,
                    "rho": probe.rho,
                }
                | {
                    "fa1": probe.forget["fa1"],
                    "fa5": probe.forget["fa5"],
                    "forget": self.criterion.value(probe.forget),
                }
                | {"forgotten": probe.forgotten, "retain": retain.get("retain", math.nan)}
                | {PICTURES: retain.get(PICTURES, math.nan)}
                | {f"retain_{group}": retain.get(group, math.nan) for group in groups}
                | {"chosen": probe is self.chosen}
            )
        return pd.DataFrame(rows)


def _one_picture(pictures: float | None) -> float:
    """What one picture more or less changes in a share of so many; nothing where that is
    unknown.
    """
    return 1 / pictures + 1e-9 if pictures and math.isfinite(pictures) else 0.0


def _checked(measured: dict[str, float], keys: tuple[str, ...], what: str) -> dict[str, float]:
    missing = [key for key in keys if key not in measured]
    if missing:
        raise SearchFailedError(
            f"{what} gave no {', '.join(missing)}; {', '.join(keys)} was expected.\nMend the"
            " measure."
        )
    for key, value in measured.items():
        if not math.isfinite(value):
            raise SearchFailedError(
                f"{what} gave {key} = {value}; a finite number was expected. The model was"
                " restored.\nTry a smaller lam_init, or look into the measure."
            )
    return measured


def _checked_shares(measured: dict[str, float], what: str) -> dict[str, float]:
    _checked(measured, ("fa1", "fa5"), what)
    for key in ("fa1", "fa5"):
        if not 0.0 <= measured[key] <= 1.0:
            raise SearchFailedError(
                f"{what} gave {key} = {measured[key]}; a share in 0..1 was expected.\nReturn"
                " shares, not percentages."
            )
    return measured


def _probe(
    number: int,
    lam: float,
    layer: str,
    editable: EditableLayer,
    measure: Measure,
    criterion: Criterion,
    with_retain: bool = True,
) -> Probe:
    editable.set(lam)
    what = f"probe {number} of layer {layer} (lambda {lam:.4g})"
    forget = _checked_shares(measure.forget(), f"{what}: the forget measure")
    forgotten = criterion.forgotten(forget)
    retain = (
        _checked(measure.retain(), ("retain",), f"{what}: the retain measure")
        if forgotten and with_retain
        else None
    )
    return Probe(number, lam, editable.rho(lam), forget, forgotten, retain)


def _smallest_with_retain(
    probes: list[Probe], layer: str, editable: EditableLayer, measure: Measure
) -> list[Probe]:
    """The probes, the smallest forgetting one with its retain measure."""
    smallest = min(
        (probe for probe in probes if probe.forgotten), key=lambda probe: probe.lam, default=None
    )
    if smallest is None:
        return probes
    editable.set(smallest.lam)
    what = f"probe {smallest.number} of layer {layer}: the retain measure"
    retain = _checked(measure.retain(), ("retain",), what)
    return [replace(probe, retain=retain) if probe is smallest else probe for probe in probes]


def _check_limits(lam_init: float, max_trials: int) -> None:
    if not (math.isfinite(lam_init) and lam_init >= 0):
        raise SettingError(
            f"lam_init is {lam_init}; a number of at least 0 was expected.\nUse 0 to start at a"
            " relative step of 10 %."
        )
    if max_trials < 1:
        raise SettingError(f"max_trials is {max_trials}; 1 or more was expected.\nUse 10.")


def probe_steps(
    layer: str,
    editable: EditableLayer,
    measure: Measure,
    criterion: Criterion,
    lam_init: float = 0.0,
    max_trials: int = 10,
    *,
    stop_ratio: float | None = STOP_RATIO,
    tower: str | None = None,
    every_retain: bool = True,
    margin: float = 1.0,
) -> SearchResult:
    """Probe step sizes on one layer: double until forgotten, then bisect towards the smallest
    forgetting step.

    Every probe starts from theta0. lam_init: first lambda; 0 means rho = 10 %. max_trials: number
    of probes. Ends earlier once smallest forgetting step / largest not forgetting step < stop_ratio
    (None: never), and before a doubling that would pass rho = 100. A probe that does not forget is
    not asked for its retain measure. tower: by default from the name. every_retain: False asks for
    the retain measure of the smallest forgetting step alone, for measures that are dear. margin:
    how many times the step that was found is taken; above 1 the last of the `max_trials` probes is
    kept for it. The weight is restored bit for bit, also after an error. Returns the SearchResult;
    its `chosen` may be None. Raises SettingError, SearchFailedError (a measure that is missing, not
    finite or out of range).
    """
    _check_limits(lam_init, max_trials)
    beyond, lam = margin > 1 and max_trials > 1, lam_init or editable.lam(FIRST_RHO)
    probe = partial(_probe, layer=layer, editable=editable, measure=measure, criterion=criterion)
    with editable:
        asked = partial(probe, with_retain=every_retain)
        probes = _bisected(asked, editable, lam, max_trials - beyond, stop_ratio)
        probes = probes if every_retain else _smallest_with_retain(probes, layer, editable, measure)
        found = SearchResult(layer, tower or tower_of(layer), probes, criterion)
        if not beyond or found.chosen is None:
            return found
        last = probe(len(probes) + 1, margin * found.chosen.lam)
    return replace(found, probes=[*probes, last], margin=margin)


def _bisected(
    probe: Callable[..., Probe],
    editable: EditableLayer,
    lam: float,
    trials: int,
    stop_ratio: float | None,
) -> list[Probe]:
    """The probes from lam on, without the one that a margin adds.

    probe: number, lambda -> Probe.
    """
    low, high = 0.0, math.inf
    probes: list[Probe] = []
    while len(probes) < trials:
        probes.append(probe(len(probes) + 1, lam))
        low, high = (low, lam) if probes[-1].forgotten else (lam, high)
        if stop_ratio is not None and low > 0 and high / low < stop_ratio:
            break
        lam = (low + high) / 2 if math.isfinite(high) else 2 * lam
        if editable.rho(lam) > RHO_MAX:
            break
    return probes


def search_step(
    layer: str,
    editable: EditableLayer,
    measure: Measure,
    criterion: Criterion,
    lam_init: float = 0.0,
    max_trials: int = 10,
    **options,
) -> SearchResult:
    """Search the step on one layer: `probe_steps`, same arguments, but a search in which no probe
    forgets is an error.

    Returns the SearchResult, whose `chosen` is the forgetting probe with the best retain measure
    (ties to the smaller step), even if the last probe did not forget. Raises SearchFailedError, and
    what `probe_steps` raises.
    """
    result = probe_steps(layer, editable, measure, criterion, lam_init, max_trials, **options)
    if result.chosen is None:
        best = min(result.probes, key=lambda probe: criterion.value(probe.forget))
        raise SearchFailedError(
            f"no step on layer {layer} made the model forget: the lowest {criterion.name} in"
            f" {len(result.probes)} probes was {100 * criterion.value(best.forget):.1f} %, at"
            f" lambda {best.lam:.4g} (rho {100 * best.rho:.1f} %); {100 * criterion.at_most:g} % or"
            " less was expected.\nThe model was restored. Choose another layer of the front, or"
            " allow more probes (max_trials)."
        )
    return result


def search_front(
    layers: list[str],
    make_editable: Callable[[str], EditableLayer],
    make_measure: Callable[[str], Measure],
    criterion: Criterion,
    lam_init: float = 0.0,
    max_trials: int = 10,
    margins: dict[str, float] | None = None,
    **options,
) -> pd.DataFrame:
    """Search the step on every layer of a front.

    layers: names; make_editable, make_measure: called with a name, one layer after the other.
    margins: the margin of `probe_steps` by tower; 1 where none is given. The rest as in
    `probe_steps`. Returns the probes of all layers, columns as in `SearchResult.frame`; a layer
    that never forgets keeps its rows, none of them chosen. Raises EmptySetError (no layer), and
    what `probe_steps` raises.
    """
    if not layers:
        raise EmptySetError(
            "there is no layer to search; at least one was expected.\nPass the layers of the Pareto"
            " front."
        )
    frames = []
    for layer in progress(layers, "searching the front", total=len(layers)):
        options["margin"] = (margins or {}).get(tower_of(layer), 1.0)
        result = probe_steps(
            layer,
            make_editable(layer),
            make_measure(layer),
            criterion,
            lam_init,
            max_trials,
            **options,
        )
        frames.append(result.frame())
    table = pd.concat(frames, ignore_index=True)
    return table[[column for column in table if column != "chosen"] + ["chosen"]]


def winners(frame: pd.DataFrame, at_most: float = 0.0) -> pd.DataFrame:
    """The winning probe of each tower: lowest forget, then highest retain, of those within one
    picture of it the one with the smallest rho (then by layer name).

    frame: from `search_front`. at_most: that of the criterion; what is forgotten by it counts
    alike. Returns at most one row per tower, with the index of `frame`; a tower in which no layer
    forgets has none.
    """
    chosen = frame[frame["chosen"].astype(bool)]
    found = []
    for _, mine in chosen.groupby("tower"):
        forget = mine["forget"].clip(lower=at_most)
        mine = mine[forget == forget.min()]
        pictures = mine.get(PICTURES, pd.Series(math.nan, mine.index))
        slack = pictures.map(_one_picture)
        near = mine[mine["retain"] >= (mine["retain"] - slack).max()]
        found.append(near.sort_values(["rho", "layer"]).head(1))
    return pd.concat(found) if found else frame.head(0)


def winner(frame: pd.DataFrame, tower: str, at_most: float = 0.0) -> pd.Series:
    """The winning probe of one tower, as a row of `frame`; arguments as of `winners`.

    Raises SearchFailedError if no layer of that tower forgets.
    """
    found = winners(frame, at_most)
    found = found[found["tower"] == tower]
    if found.empty:
        tried = frame.loc[frame["tower"] == tower]
        lowest = (
            f"the lowest forget accuracy in {len(tried)} probes was"
            f" {100 * tried['forget'].min():.1f} %"
            if len(tried)
            else "none was searched"
        )
        raise SearchFailedError(
            f"no layer of the {tower} tower made the model forget: {lowest}; a probe with"
            f" {100 * at_most:g} % or less was expected.\nUse the other tower, search more layers,"
            " or allow more probes (max_trials)."
        )
    return found.iloc[0]
