"""slugkit: the helper package of the SLUG workbook (Single Layer Unlearning Gradient)."""

__version__ = "0.1.0"
