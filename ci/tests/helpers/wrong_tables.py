"""Right and wrong answers to the exercises of notebooks 05 and 09 that hand in a table, and to what
the retain set feels.
"""

FIRST = {"concept": "a", "FA@5": (0.99, 0.0), "neighbours": (0.95, 0.90), "people": (0.97, 0.96)}
SECOND = {"concept": "b", "FA@5": (0.98, 0.0), "neighbours": (0.96, 0.70), "people": (0.97, 0.94)}
CONCEPTS = [
    FIRST | {"expected": "more", "seen": "less"},
    SECOND | {"expected": "more", "seen": "more"},
]
LOOSE = {"layer": "x", "damping": 1.0, "rho": 0.5, "FA@5": 0.0, "neighbours": 0.6, "people": 0.85}
TIGHT = {"layer": "x", "damping": 0.01, "rho": 1.2, "FA@5": 0.0, "neighbours": 0.8, "people": 0.9}


def with_(rows, at, **changes):
    """A function that hands in the rows, with one of them changed."""
    return lambda: [row | changes if i == at else row for i, row in enumerate(rows)]


def felt(d, x):
    return (x @ d.T).square().sum(1).mean()


RIGHT = {"felt": felt, "two_concepts": lambda: CONCEPTS, "dampings": lambda: [LOOSE, TIGHT]}
WRONG = [
    ("felt", lambda d, x: (x @ d.T).square().sum(), "divide by the number"),
    ("felt", lambda d, x: (x @ d.T).square().mean(), "sum over the outputs"),
    ("felt", lambda d, x: (x @ d.T).norm(dim=1).mean(), "to be squared"),
    ("felt", lambda d, x: (x @ d.T).mean(0).square().sum(), "square first"),
    ("felt", lambda d, x: felt(d, x).sqrt(), "the root"),
    ("felt", lambda d, x: d.square().sum(), "do not come in"),
    ("felt", lambda d, x: (x @ d).square().sum(1).mean(), "stopped|formula"),
    ("felt", lambda d, x: (x @ d.T).square().sum(1), "one number was expected"),
    ("felt", lambda d, x: None, "return at the end"),
    ("felt", lambda d, x: -felt(d, x), "formula"),
    ("two_concepts", lambda: CONCEPTS[0], "list of dictionaries"),
    ("two_concepts", lambda: CONCEPTS[:1], "two or more"),
    ("two_concepts", lambda: [CONCEPTS[0]] * 2, "each once"),
    ("two_concepts", lambda: [*CONCEPTS, CONCEPTS[0] | {"concept": "c"}], "two were expected"),
    ("two_concepts", with_(CONCEPTS, 0, **{"FA@5": (0.0, 0.99)}), "swapped"),
    ("two_concepts", with_(CONCEPTS, 1, neighbours=(96.0, 70.0)), "in percent"),
    ("two_concepts", with_(CONCEPTS, 1, neighbours=0.7), "(before, after)"),
    ("two_concepts", with_(CONCEPTS, 0, people=None), "(before, after)"),
    ("two_concepts", with_(CONCEPTS, 0, seen="more"), "'more' was seen"),
    ("two_concepts", with_(CONCEPTS, 1, expected="worse"), "one of ('more', 'less')"),
    ("dampings", with_([LOOSE, TIGHT], 0, layer=None), "a name was expected"),
    ("dampings", lambda: {1.0: LOOSE}, "list of dictionaries"),
    ("dampings", lambda: [LOOSE], "two or more"),
    ("dampings", with_([LOOSE, TIGHT], 1, damping=1.0), "each once"),
    ("dampings", with_([LOOSE, TIGHT], 1, damping=0.0), "above 0"),
    ("dampings", with_([LOOSE, TIGHT], 1, damping=0.5), "factor of 10"),
    ("dampings", with_([LOOSE, TIGHT], 0, rho=None), "a number above 0"),
    ("dampings", with_([LOOSE, TIGHT], 0, people=85.0), "in percent"),
    ("dampings", with_([LOOSE, TIGHT], 0, neighbours=(0.9, 0.6)), "one share"),
    ("dampings", with_([LOOSE, TIGHT], 1, **{"FA@5": 0.99}), "was to forget"),
    ("dampings", with_([LOOSE, TIGHT], 0, rho=2.0), "rows swapped"),
]
