"""What a notebook needs to teach: show figures and sources, compare with expected values, check
exercises.
"""

from slugkit.workbook.teach import checks
from slugkit.workbook.teach.display import show, show_figure
from slugkit.workbook.teach.facts import check_close, contract, expect_error, read_expected
