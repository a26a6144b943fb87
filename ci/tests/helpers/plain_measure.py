"""The straightforward way to measure a probe, as in the authors' search: what the fast one is held
against.
"""

import copy

from slugkit.evaluation.clip import Scorer


class PlainMeasure:
    """Deep copy of the model, everything encoded for every probe."""

    def __init__(self, clip, exam):
        self.clip, self.exam, self._retain = clip, exam, {}

    def forget(self):
        """FA@1 and FA@5; the rest is measured along with it."""
        clip = copy.copy(self.clip)
        clip.model = copy.deepcopy(self.clip.model)
        scorer = Scorer(clip, self.exam)
        self._retain = scorer.retain(scorer.exam.concepts, scorer.words)
        return scorer.forget(scorer.exam.concepts, scorer.words)

    def retain(self):
        """Accuracy of the groups that must stay, measured with the last `forget`."""
        return self._retain
