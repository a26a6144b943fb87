"""Honest measuring of an edited model, one module per model family, and the intervals that go with
every number.
"""
