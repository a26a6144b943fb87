"""What a notebook needs to teach: show figures and sources, compare with expected values, check
exercises.
"""

from slugkit.teach import checks
from slugkit.teach.display import show, show_figure, with_alt_texts
from slugkit.teach.facts import check_close, contract, expect_error, read_expected
