"""Every figure of the workbook, in one look. Takes pandas tables and numpy arrays, never models.

Each drawing function returns (figure, says): says is one or two plain sentences computed from the
data, which `slugkit.workbook.teach.show_figure` sets as the figure's alternative text and prints
underneath.
"""

from slugkit.workbook.plots.answers import dialogue, layer_costs, outcome_bars
from slugkit.workbook.plots.generated import before_after, step_strip, unlearning_bars
from slugkit.workbook.plots.layers import front_membership, gradient_agreement, layer_scores, pareto
from slugkit.workbook.plots.look import GROUPS, OKABE_ITO, STAGES, use_style
from slugkit.workbook.plots.pictures import cosine_matrix, picture_grid
from slugkit.workbook.plots.results import confusions, results_bars, results_table
from slugkit.workbook.plots.several import forgetting_curves, interference
from slugkit.workbook.plots.slider import step_slider
from slugkit.workbook.plots.steps import search_trail, step_sweep
