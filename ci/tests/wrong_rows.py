"""Right and wrong tables of the experiments of notebooks 06 and 07."""

KINDS = [
    {"concept": "car", "predicted": "nobody", "paid": "neighbours", "UA": (0.0, 1.0)}
    | {"neighbours": (1.0, 0.8), "IRA": (1.0, 1.0), "CRA": (0.9, 1.0)},
    {"concept": "neon", "predicted": "CRA", "paid": "nobody", "UA": (0.1, 0.9)}
    | {"neighbours": (1.0, 1.0), "IRA": (0.9, 0.9), "CRA": (0.9, 0.89)},
]


def _kinds(**wrong):
    """The right rows, but for what is wrong in the first."""
    return [KINDS[0] | wrong, KINDS[1]]


OF_KINDS = [
    ("other_kinds", lambda: KINDS[0], "a list of dictionaries"),
    ("other_kinds", lambda: KINDS[:1], "two or more concepts"),
    ("other_kinds", lambda: [KINDS[0], KINDS[0]], "each once"),
    ("other_kinds", lambda: _kinds(concept=""), "two or more concepts"),
    ("other_kinds", lambda: _kinds(UA=(0.0, 96.0)), "percent"),
    ("other_kinds", lambda: _kinds(UA=(1.0, 0.0)), "swapped"),
    ("other_kinds", lambda: _kinds(IRA=0.9), "(before, after)"),
    ("other_kinds", lambda: _kinds(CRA=None), "(before, after)"),
    ("other_kinds", lambda: _kinds(predicted="the neighbour"), "predicted"),
    ("other_kinds", lambda: _kinds(paid="CRA"), "neighbours loses most"),
    ("other_kinds", lambda: _kinds(paid="nobody"), "neighbours loses most"),
    ("other_kinds", lambda: _kinds(neighbours=(0.995, 0.99)), "nobody loses most"),
    ("other_kinds", lambda: _kinds(neighbours=(0.5, 0.9)), "nobody loses most"),
]

PEOPLE = [
    {"concept": "Ann Grey", "predicted": "people", "paid": "neighbours"}
    | {"right name": (1.0, 0.1), "neighbours": (1.0, 0.7), "people": (1.0, 0.9)}
    | {"battery": (0.9, 0.9)},
    {"concept": "Ben Moss", "predicted": "nobody", "paid": "nobody", "right name": (0.9, 0.0)}
    | {"neighbours": (1.0, 1.0), "people": (0.9, 0.9), "battery": (0.9, 0.91)},
]


def _people(**wrong):
    """The right rows, but for what is wrong in the first."""
    return [PEOPLE[0] | wrong, PEOPLE[1]]


OF_PEOPLE = [
    ("another_person", lambda: PEOPLE[0], "a list of dictionaries"),
    ("another_person", lambda: PEOPLE[1:], "two or more concepts"),
    ("another_person", lambda: [PEOPLE[1], PEOPLE[1]], "each once"),
    ("another_person", lambda: _people(concept=""), "two or more concepts"),
    ("another_person", lambda: _people(**{"right name": (100, 10)}), "percent"),
    ("another_person", lambda: _people(**{"right name": (0.1, 1.0)}), "swapped"),
    ("another_person", lambda: _people(people=0.9), "(before, after)"),
    ("another_person", lambda: _people(battery=None), "(before, after)"),
    ("another_person", lambda: _people(predicted="twins"), "predicted"),
    ("another_person", lambda: _people(paid="people"), "neighbours loses most"),
    ("another_person", lambda: _people(paid="nobody"), "neighbours loses most"),
    ("another_person", lambda: _people(neighbours=(0.4, 0.9)), "people loses most"),
]
