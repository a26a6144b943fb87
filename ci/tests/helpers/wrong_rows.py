"""Right and wrong answers: the experiments of notebooks 06 and 07, and who lost a name."""

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
    ("other_kinds", lambda: KINDS[:1], "two or more, each once"),
    ("other_kinds", lambda: [KINDS[0], KINDS[0]], "each once"),
    ("other_kinds", lambda: _kinds(concept=""), "a name was expected"),
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
    ("another_person", lambda: PEOPLE[1:], "two or more, each once"),
    ("another_person", lambda: [PEOPLE[1], PEOPLE[1]], "each once"),
    ("another_person", lambda: _people(concept=""), "a name was expected"),
    ("another_person", lambda: _people(**{"right name": (100, 10)}), "percent"),
    ("another_person", lambda: _people(**{"right name": (0.1, 1.0)}), "swapped"),
    ("another_person", lambda: _people(people=0.9), "(before, after)"),
    ("another_person", lambda: _people(battery=None), "(before, after)"),
    ("another_person", lambda: _people(predicted="twins"), "predicted"),
    ("another_person", lambda: _people(paid="people"), "neighbours loses most"),
    ("another_person", lambda: _people(paid="nobody"), "neighbours loses most"),
    ("another_person", lambda: _people(neighbours=(0.4, 0.9)), "people loses most"),
]


def lost(names, before, after):
    """Share of the pictures right before that are wrong after, by name."""
    rows = [(name, not a) for name, b, a in zip(names, before, after) if b]
    found = {name: [gone for other, gone in rows if other == name] for name, _ in rows}
    return {name: sum(gone) / len(gone) for name, gone in found.items()}


OF_NAMES = [
    ("lost_names", lambda n, b, a: lost(n, [True] * len(b), a), "wrong before cannot lose"),
    (
        "lost_names",
        lambda n, b, a: {
            x: sum(p and not q for y, p, q in zip(n, b, a) if y == x) / n.count(x) for x in set(n)
        },
        "not by all",
    ),
    (
        "lost_names",
        lambda n, b, a: {
            x: sum(p - q for y, p, q in zip(n, b, a) if y == x)
            / sum(p for y, p in zip(n, b) if y == x)
            for x in lost(n, b, a)
        },
        "gained do not make up",
    ),
    ("lost_names", lambda n, b, a: {x: 1 - v for x, v in lost(n, b, a).items()}, "kept the name"),
    (
        "lost_names",
        lambda n, b, a: {
            x: sum(p and not q for y, p, q in zip(n, b, a) if y == x) for x in lost(n, b, a)
        },
        "divide for a share",
    ),
    (
        "lost_names",
        lambda n, b, a: dict.fromkeys(n, 0.0) | lost(n, b, a),
        "no right picture before",
    ),
    ("lost_names", lambda n, b, a: list(lost(n, b, a).values()), "a dictionary"),
    ("lost_names", lambda n, b, a: {x: v for x, v in lost(n, b, a).items() if v}, "one share"),
    ("lost_names", lambda n, b, a: {x: 100 * v for x, v in lost(n, b, a).items()}, "one share"),
    ("lost_names", lambda n, b, a: lost(n, a, b), "one share"),
]
