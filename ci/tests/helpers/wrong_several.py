"""Right and wrong answers to the exercises of notebook 08."""


def one_off(theta, steps, i):
    """The weight with all steps but the i-th taken, one after the other."""
    for number, step in enumerate(steps):
        theta = theta if number == i else theta - step
    return theta


def claim(table, column="gain", near=1, least=0.02):
    """What the more alike half of a table of pairs says beside the other half."""
    gain = table.assign(gain=table["both"] - table["alone"]).sort_values("alike")[column]
    half = len(gain) // 2
    apart = near * (gain.iloc[-half:].mean() - gain.iloc[:half].mean())
    return "more" if apart > least else "less" if apart < -least else "no difference"


RIGHT = {
    "take_one_off": one_off,
    "side_effect": lambda g, d, lam: -lam * (g * d).sum().item(),
    "pair_experiment": claim,
}
WRONG = [
    ("take_one_off", lambda w, s, i: one_off(w, s, -1) + s[i], "rounds once more"),
    ("take_one_off", lambda w, s, i: one_off(w, s, -1), "all the steps"),
    ("take_one_off", lambda w, s, i: w - s[i], "the one to leave out"),
    ("take_one_off", lambda w, s, i: w - sum(d for k, d in enumerate(s) if k != i), "one after"),
    ("take_one_off", lambda w, s, i: one_off(w, [-d for d in s], i), "subtracted"),
    ("take_one_off", lambda w, s, i: one_off(w, s, len(s) - 1), "not the i-th"),
    ("take_one_off", lambda w, s, i: one_off(w, s, i - 1), "all the steps|count from 0"),
    ("take_one_off", lambda w, s, i: w.sub_(s[0]), "was changed"),
    ("take_one_off", lambda w, s, i: w.norm().item(), "tensor"),
    ("take_one_off", lambda w, s, i: None, "return at the end"),
    ("side_effect", lambda g, d, lam: lam * (g * d).sum(), "minus"),
    ("side_effect", lambda g, d, lam: -lam * (g * d).sum() / (g.norm() * d.norm()), "norms"),
    ("side_effect", lambda g, d, lam: -(g * d).sum(), "multiply by lam_j"),
    ("side_effect", lambda g, d, lam: -(g * d).sum() / lam, "do not divide by lam_j"),
    ("side_effect", lambda g, d, lam: -lam * (g * d).mean(), "not their mean"),
    ("side_effect", lambda g, d, lam: -lam * (g * d).sum().abs(), "has a minus"),
    ("side_effect", lambda g, d, lam: -lam * (g * g).sum(), "take d_j"),
    ("side_effect", lambda g, d, lam: -lam * (d * d).sum(), "take g_i too"),
    ("side_effect", lambda g, d, lam: -lam * g * d, "one number"),
    ("side_effect", lambda g, d, lam: None, "return at the end"),
    ("pair_experiment", lambda t: "more", "less"),
    ("pair_experiment", lambda t: "less", "more"),
    ("pair_experiment", lambda t: "no difference", "more alike half"),
    ("pair_experiment", lambda t: True, "one of"),
    ("pair_experiment", lambda t: "yes", "one of"),
    ("pair_experiment", lambda t: None, "return at the end"),
    ("pair_experiment", lambda t: claim(t, column="both", near=-1), "both - alone"),
    ("pair_experiment", lambda t: claim(t, least=0.0), "2 points"),
    ("pair_experiment", lambda t: claim(t, least=0.5), "2 points"),
    ("pair_experiment", lambda t: t["both"], "one of"),
]
