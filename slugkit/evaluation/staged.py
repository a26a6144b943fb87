"""The one protocol by which generated pictures and answers are measured: before, and under each
result's edits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from slugkit.evaluation.statistics import tidy


class StagedExam:
    """What a model is asked about concepts that are forgotten one at a time.

    A family says what it asks before (`_before`) and about one concept (`_told`), and how answers
    are scored (`_scored`).
    """

    family: str
    model: str

    def told(self, model: Any, results: Iterable[Any] = (), before: bool = True) -> pd.DataFrame:
        """Ask everything of the model as it stands, then what concerns each result's concept under
        its edits; the same questions, prompts and seeds each time.

        Args:
            results: of `slugkit.unlearn`, at most one a concept and method.
            before: whether the model as it stands is asked, too.

        Returns:
            One row an answer or picture and concept: concept, stage ("before" or "after"), method
            ("" before), the columns of what was asked, and those of the family.

        Raises PatchError for a model that does not hold the tower, SettingError where it cannot
        answer.
        """
        parts = self._before(model) if before else []
        for result in results:
            with result.applied(model) as edited:
                parts.append(self._told(edited, result.concept, "after", result.method))
        return pd.concat(parts, ignore_index=True)

    def metrics(self, told: pd.DataFrame) -> pd.DataFrame:
        """The family's scores as rows of a run's one table of metrics
        (`slugkit.evaluation.statistics.COLUMNS`).
        """
        states = told.groupby(["concept", "stage", "method"], sort=False)
        rows = [
            tidy(self._scored(part, concept), self.family, concept, stage, method, self.model)
            for (concept, stage, method), part in states
        ]
        return pd.concat(rows, ignore_index=True)
