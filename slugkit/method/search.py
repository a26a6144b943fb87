"""How far to step: the search for lambda on one layer, and over all layers of a front (Cai,
Tan and Asif, ICML 2025, appendix B).

The update is theta0 - lambda * g_f, in fp32; rho = lambda * importance is the size of that change
relative to the weight.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import pandas as pd

from slugkit.base import EmptySetError, SearchFailedError, SettingError, progress
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import tower_of

TOP = {"fa1": 1, "fa5": 5}
"""What a criterion looks at -> its k."""
MANY = 20
"""Classes from which on the criterion asks that the name be not among the first five."""


@dataclass(frozen=True)
class Criterion:
    """When the model counts as having forgotten: the target's forget accuracy FA@k is exactly 0, or
    at most `at_most`.

    target: "fa1" (no picture is called by the name) or "fa5" (the name is not among the first five
    answers, as in the authors' code). at_most: 0 to less than 1. A measure
    gives the accuracy in the search wording in which it is largest.
    """

    target: str = "fa5"
    at_most: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.at_most < 1:
            raise SettingError(
                f"at_most is {self.at_most}; a share of 0 or more and less than 1 was expected,"
                " such as 0: none is recognised."
            )
        if self.target not in TOP:
            raise SettingError(f"target is {self.target!r}; 'fa1' or 'fa5' was expected.")

    @classmethod
    def among(cls, classes: int, target: str = "auto") -> "Criterion":
        """The criterion for a name among so many classes.

        target: "auto" is FA@5 from 20 classes up, else FA@1 (among seven, "not in the first five"
        is no sensible demand); "fa1", "fa5".
        """
        return cls(("fa5" if classes >= MANY else "fa1") if target == "auto" else target)

    @property
    def name(self) -> str:
        """As it is written: FA@1 or FA@5."""
        return f"FA@{TOP[self.target]}"

    def value(self, forget: dict[str, float]) -> float:
        """The forget accuracy the criterion looks at, of shares fa1 and fa5: 0..1."""
        return float(forget[self.target])

    def forgotten(self, forget: dict[str, float]) -> bool:
        """Whether that accuracy is `at_most` or less."""
        return self.value(forget) <= self.at_most


PICTURES = "pictures"
"""Key of a retain measure: how many pictures its share is of."""
FIRST_RHO, RHO_MAX = 0.10, 100.0
STOP_RATIO = 1.02


class Measure(Protocol):
    """What the search asks of a model in its present state; search split only."""

    def forget(self) -> dict[str, float]:
        """Forget accuracy of the target: fa1 and fa5, shares in 0..1 (lower is more forgotten)."""

    def retain(self) -> dict[str, float]:
        """What must stay: the key "retain", which steers the search (higher is better), and one key
        per group; "pictures", how many `retain` is a share of, where it is one.
        """


@dataclass(frozen=True)
class Probe:
    """One step tried, numbered from 1, and what was measured there; retain is None for a probe that
    did not forget or was not asked for it.
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
        rows = []
        for probe in self.probes:
            kept = {"retain": math.nan, PICTURES: math.nan} | (probe.retain or {})
            row = {
                "layer": self.layer,
                "tower": tower_of(self.layer),
                "probe": probe.number,
                "lam": probe.lam,
                "rho": probe.rho,
                "fa1": probe.forget["fa1"],
                "fa5": probe.forget["fa5"],
                "forget": self.criterion.value(probe.forget),
                "forgotten": probe.forgotten,
            }
            named = {k if k in ("retain", PICTURES) else f"retain_{k}": v for k, v in kept.items()}
            rows.append(row | named)
        chosen = self.chosen
        return pd.DataFrame(rows).assign(chosen=[probe is chosen for probe in self.probes])


def _one_picture(pictures: float | None) -> float:
    """What one picture changes in a share of so many; 0 where that is not known."""
    return 1 / pictures + 1e-9 if pictures and math.isfinite(pictures) else 0.0


def _checked(measured: dict[str, float], keys: tuple[str, ...], what: str) -> dict[str, float]:
    """What was measured, or SearchFailedError where it is missing, not finite, or no share."""
    for key in (*keys, *measured):
        value = measured.get(key, math.nan)
        if not math.isfinite(value) or key in TOP and not 0 <= value <= 1:
            wanted = "a share in 0..1" if key in TOP else "a finite number"
            raise SearchFailedError(
                f"{what} gave {key} = {measured.get(key, 'nothing')}; {wanted} was expected. The"
                " model was restored. Try a smaller lam_init, or look into the measure."
            )
    return measured


def probe_steps(
    layer: str,
    editable: EditableLayer,
    measure: Measure,
    criterion: Criterion,
    lam_init: float = 0.0,
    max_trials: int = 10,
    *,
    stop_ratio: float | None = STOP_RATIO,
    every_retain: bool = True,
    margin: float = 1.0,
) -> SearchResult:
    """Probe step sizes on one layer: double until forgotten, then bisect towards the smallest
    forgetting step (the paper's appendix B).

    Every probe starts from theta0; a probe that does not forget is not asked for its retain
    measure. The weight is restored bit for bit, also after an error.

    Args:
        lam_init: first lambda; 0 means rho = 10 %.
        max_trials: probes at most. None is made beyond rho = 100.
        stop_ratio: the search ends once smallest forgetting step / largest not forgetting step is
            below it; None: never.
        every_retain: False asks for the retain measure of the smallest forgetting step alone, for
            measures that are dear.
        margin: how many times the step that was found is taken; above 1 the last of the
            `max_trials` probes is kept for it.

    Returns:
        The SearchResult; its `chosen` is None where no probe forgets.

    Raises:
        SettingError: limits out of range.
        SearchFailedError: a measure that is missing, not finite or out of range.
    """
    if not (math.isfinite(lam_init) and lam_init >= 0 and max_trials >= 1):
        raise SettingError(
            f"lam_init is {lam_init} and max_trials is {max_trials}; a number of at least 0 (0"
            " starts at a relative step of 10 %) and 1 or more were expected."
        )
    search = _Search(layer, editable, measure, criterion)
    beyond = margin > 1 and max_trials > 1
    with editable:
        first = lam_init or editable.lam(FIRST_RHO)
        search.bisect(first, max_trials - beyond, stop_ratio, every_retain)
        if not every_retain:
            search.ask_smallest()
        found = SearchResult(layer, search.probes, criterion)
        if not beyond or found.chosen is None:
            return found
        search.probe(margin * found.chosen.lam)
    return replace(found, margin=margin)


@dataclass
class _Search:
    """The probes made so far on one layer."""

    layer: str
    editable: EditableLayer
    measure: Measure
    criterion: Criterion
    probes: list[Probe] = field(default_factory=list)

    def _retain(self, what: str) -> dict[str, float]:
        return _checked(self.measure.retain(), ("retain",), f"{what}: the retain measure")

    def probe(self, lam: float, with_retain: bool = True) -> bool:
        """Step to theta0 - lam * g_f and measure; whether that forgets."""
        self.editable.set(lam)
        number, rho = len(self.probes) + 1, self.editable.rho(lam)
        what = f"probe {number} of layer {self.layer} (lambda {lam:.4g})"
        forget = _checked(self.measure.forget(), tuple(TOP), f"{what}: the forget measure")
        forgotten = self.criterion.forgotten(forget)
        retain = self._retain(what) if forgotten and with_retain else None
        self.probes.append(Probe(number, lam, rho, forget, forgotten, retain))
        return forgotten

    def bisect(self, lam: float, trials: int, stop_ratio: float | None, with_retain: bool) -> None:
        """Double from lam on while not forgotten, then halve the interval."""
        low, high = 0.0, math.inf
        while len(self.probes) < trials:
            low, high = (low, lam) if self.probe(lam, with_retain) else (lam, high)
            if stop_ratio is not None and low > 0 and high / low < stop_ratio:
                break
            lam = (low + high) / 2 if math.isfinite(high) else 2 * lam
            if self.editable.rho(lam) > RHO_MAX:
                break

    def ask_smallest(self) -> None:
        """The retain measure of the smallest forgetting probe."""
        forgotten = [probe for probe in self.probes if probe.forgotten]
        if forgotten:
            smallest = min(forgotten, key=lambda probe: probe.lam)
            self.editable.set(smallest.lam)
            retain = self._retain(f"probe {smallest.number} of layer {self.layer}")
            self.probes[smallest.number - 1] = replace(smallest, retain=retain)


def search_front(
    layers: list[str],
    make_editable: Callable[[str], EditableLayer],
    make_measure: Callable[[str], Measure],
    criterion: Criterion,
    lam_init: float = 0.0,
    max_trials: int = 10,
    margins: dict[str, float] | None = None,
) -> pd.DataFrame:
    """Search the step on every layer of a front.

    layers: names; make_editable, make_measure: called with a name, one layer after the other.
    margins: the margin of `probe_steps` by tower; 1 where none is given. The rest as in
    `probe_steps`. Returns the probes of all layers, columns as in `SearchResult.frame`; a layer
    that never forgets keeps its rows, none of them chosen. Raises EmptySetError (no layer), and
    what `probe_steps` raises.
    """
    if not layers:
        raise EmptySetError("there is no layer to search; the layers of a front were expected.")
    frames = []
    for layer in progress(layers, "searching the front", total=len(layers)):
        given = make_editable(layer), make_measure(layer), criterion, lam_init, max_trials
        margin = (margins or {}).get(tower_of(layer), 1.0)
        frames.append(probe_steps(layer, *given, margin=margin).frame())
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
        slack = mine.get(PICTURES, pd.Series(math.nan, mine.index)).map(_one_picture)
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
        tried = frame.loc[frame["tower"] == tower, "forget"]
        lowest = f"the lowest forget accuracy in {len(tried)} probes was {100 * tried.min():.1f} %"
        raise SearchFailedError(
            f"no layer of the {tower} tower made the model forget:"
            f" {lowest if len(tried) else 'none was searched'}; a probe with {100 * at_most:g} % or"
            " less was expected. Use the other tower, search more layers, or allow more probes"
            " (max_trials)."
        )
    return found.iloc[0]
