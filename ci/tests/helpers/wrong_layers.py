"""Right and wrong tables of the experiments of notebooks 03 and 04."""


def batch_rows(**changes):
    base = [
        dict(batch_size=128, noise=0.03, shared=1.0),
        dict(batch_size=16, noise=0.04, shared=0.5),
    ]
    base[1] |= changes
    return base


def criteria_rows(fa5=0.5, **changes):
    base = dict(concept="Bo Lind", kept=0.9)
    rows = [dict(base, criterion="fa1", rho=0.3), dict(base, criterion="fa5", rho=fa5)]
    rows[1] |= changes
    return rows


RIGHT = {"batch_fronts": batch_rows, "two_criteria": criteria_rows}
WRONG = [
    ("batch_fronts", lambda: None, "return at the end"),
    ("batch_fronts", lambda: [], "list of dictionaries"),
    ("batch_fronts", lambda: batch_rows(extra=1), "other keys"),
    ("batch_fronts", lambda: [dict(batch_size=128, noise=0.03)], "other keys"),
    ("batch_fronts", lambda: batch_rows(shared=50), "not in percent"),
    ("batch_fronts", lambda: batch_rows(noise=0.0), "out of range"),
    ("batch_fronts", lambda: batch_rows(noise="small"), "plain numbers"),
    ("batch_fronts", lambda: batch_rows(batch_size=128), "two or more, each once"),
    ("batch_fronts", lambda: batch_rows()[:1], "two or more, each once"),
    ("batch_fronts", lambda: batch_rows()[::-1], "first row"),
    ("two_criteria", lambda: None, "return at the end"),
    ("two_criteria", lambda: {}, "list of dictionaries"),
    ("two_criteria", lambda: criteria_rows(lam=3.0), "other keys"),
    ("two_criteria", lambda: criteria_rows(fa5=0.1), "swapped"),
    ("two_criteria", lambda: criteria_rows(criterion="fa1"), "one row for each"),
    ("two_criteria", lambda: criteria_rows(criterion="FA@5"), "one of ('fa1', 'fa5')"),
    ("two_criteria", lambda: criteria_rows()[:1], "one row for each"),
    ("two_criteria", lambda: criteria_rows(kept=93), "not in percent"),
    ("two_criteria", lambda: criteria_rows(concept=""), "a name was expected"),
    ("two_criteria", lambda: criteria_rows(rho=0), "out of range"),
]
