"""Every figure of the workbook, in one look. Takes pandas tables and numpy arrays, never models.

Each drawing function returns (figure, says): says is one or two plain sentences computed from the
data, which `slugkit.workbook.teach.show_figure` sets as the figure's alternative text and prints
underneath. A table without a needed column raises SettingError, one without rows EmptySetError.
"""

from slugkit.workbook.plots.layers import (
    alignment_cost,
    front_membership,
    gradient_agreement,
    layer_arrows,
    layer_scores,
    pareto,
)
from slugkit.workbook.plots.look import use_style
from slugkit.workbook.plots.methods import PICTURES, trade_off
from slugkit.workbook.plots.pictures import before_after, dialogue, picture_grid, step_strip
from slugkit.workbook.plots.results import (
    changes,
    confusions,
    outcome_bars,
    results_bars,
    results_table,
    two_arms,
    unlearning_bars,
)
from slugkit.workbook.plots.several import cosine_matrix, forgetting_curves, interference
from slugkit.workbook.plots.steps import search_trail, step_sweep
from slugkit.workbook.plots.stress import relearned, under_stress, way_back
