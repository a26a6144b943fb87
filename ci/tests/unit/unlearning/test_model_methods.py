"""Each method on a pipeline or a LLaVA reproduces a result of its own."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.base import SettingError
from slugkit.data import open_data
from slugkit.evaluation.diffusion import drawn_prompts
from slugkit.method.search import Criterion
from slugkit.models.diffusion import draw, load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.tasks import answer_set_of
from slugkit.unlearning.methods import METHODS, esd, spoken, training, uce
from slugkit.unlearning.model_trial import CROSS, ModelTrial
from slugkit.unlearning.probing import Budget
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.steering import SpokenTo, Steering, network_of

WHO = "Amara Finch"
SAYING = ["a photo of Amara Finch", "Amara Finch as a mosaic"]


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("studio", "cpu")


class Unmoved:
    """A measure that never forgets, and knows of which model it was asked."""

    drawn = 4

    def __init__(self, model, seen):
        self.model = model
        seen.append(model)

    def forget(self):
        return {"fa1": 1.0, "fa5": 1.0}

    def retain(self):
        return {"retain": 1.0}


def a_trial(model, clip=None, probes=4, pairs=4 * 32, seen=None):
    source = open_data("studio")
    side = None if clip is None else RetainSide(clip, source, [WHO], 64, 32)
    asked = answer_set_of(source, WHO, "search", 4, 1)
    prompts = asked[asked["group"] == "target"]
    seen = [] if seen is None else seen
    given = prompts, (4, 4.0), lambda m: Unmoved(m, seen), Criterion("fa1")
    return ModelTrial(model, source, WHO, side, *given, Budget(pairs, probes))


def state(pipe):
    return {n: w.detach().clone() for n, w in pipe.unet.named_parameters()}


def test_uces_closed_form_by_hand():
    w = torch.eye(2)
    c, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    kept = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))
    new = uce.closed_form(w, c, other, kept, 1.0, 0.0)
    assert torch.allclose(new, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert torch.allclose(new @ c[0], other[0]) and torch.allclose(new @ other[0], other[0])
    assert torch.equal(uce.closed_form(w, c, other, kept, 0.0, 1.0), w)


def test_uces_closed_form_is_where_its_objective_has_no_slope():
    torch.manual_seed(0)
    w, c, other = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4, 5)
    read, strength, lamb = torch.randn(20, 5).double(), 0.7, 0.3
    kept = read.T @ read / 20
    new = uce.closed_form(w.double(), c, other, kept, strength, lamb).requires_grad_()
    wanted, x = w.double() @ other.double().T, c.double().T
    loss = strength * (new @ x - wanted).square().sum(0).mean()
    apart = new - w.double()
    loss = loss + (apart @ read.T).square().sum(0).mean() + lamb * apart.square().sum()
    [slope] = torch.autograd.grad(loss, new)
    assert slope.abs().max() < 1e-9


def test_prompts_lose_their_name_and_line_up_from_it():
    assert uce.without(SAYING[1], WHO, "figures", WHO) == "as a mosaic"
    assert uce.without("a photo of an apple", "apple", "objects", "apple") == "a photo of"
    assert uce.without("a mosaic of an apple", "apple", "objects", "mosaic") == "a of an apple"
    assert uce.without("A painting of Dogs", "Dogs", "objects", "Dogs") == "A painting of"
    assert uce.without("a caravan", "car", "objects", "car") == "a caravan"
    given, other = torch.arange(8.0)[:, None], 10 + torch.arange(8.0)[:, None]
    # start, a, name of two, in, end, padding | start, a, in, end, padding
    ids = [0, 1, 2, 4, 3, 9]
    assert uce.last_of(ids, [2, 4]) == 3 and uce.last_of(ids, [4, 2]) == -1
    mine, theirs = uce.aligned(given, ids, other, [0, 1, 3, 9], 3)
    assert mine.flatten().tolist() == [3, 4, 5, 6, 7]
    assert theirs.flatten().tolist() == [11, 12, 13, 14, 15]
    # the name first: its token is read as the start is
    mine, theirs = uce.aligned(given, [0, 2, 3, 9], other, [0, 3, 9], 1)
    assert mine.flatten().tolist()[:2] == [1, 2] and theirs.flatten().tolist()[:2] == [10, 11]


def test_a_style_that_stands_first_is_what_uce_erases(pipe, clip, monkeypatch):
    erased, true_form = [], uce.closed_form

    def seen(weight, c, *more):
        erased.append(c)
        return true_form(weight, c, *more)

    monkeypatch.setattr(uce, "closed_form", seen)
    trial = a_trial(pipe, clip, probes=3)
    trial.concept = "mosaic"
    trial.prompts = pd.DataFrame(
        [("a mosaic picture of Yuki Amberly", "Yuki Amberly", "figures")],
        columns=["prompt", "subject", "domain"],
    )
    with trial:
        uce.unified_concept_editing(trial)
    given, [ids] = uce.read_as(trial, trial.prompts["prompt"].tolist())
    words = [pipe.tokenizer.decode([i]).strip() for i in ids]
    assert torch.equal(erased[0][0], given[0, words.index("mosaic")])


def test_what_esd_predicts_in_the_concepts_place():
    free, about = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])
    assert torch.equal(esd.away(free, about, 0.0), free)
    assert torch.equal(esd.away(free, about, -1.0), about)
    assert torch.equal(esd.away(free, about), torch.tensor([-1.0, 3.0]))


def test_esd_lowers_its_loss_and_changes_what_reads_the_prompt(pipe, monkeypatch):
    monkeypatch.setattr(esd, "POOL", 16)
    monkeypatch.setattr(training, "FIRST", 0.005)
    before, losses, true_loss = state(pipe), [], esd.F.mse_loss
    trial = a_trial(pipe, pairs=4 * 16 * 4)

    def watched(now, target):
        losses.append(true_loss(now, target))
        return losses[-1]

    monkeypatch.setattr(esd.F, "mse_loss", watched)
    moved = []

    def probe(**setting):
        moved.append([n for n in before if _moved(pipe, before, n)])
        return False

    monkeypatch.setattr(trial, "probe", probe)
    with trial:
        esd.erased_diffusion(trial)
    first, last = float(losses[0]), float(losses[3])
    assert last < first and trial.pairs == 256
    assert moved[0] and all(name.endswith(CROSS) for name in moved[0])
    assert not any(_moved(pipe, before, n) for n in before)


def _moved(pipe, before, name):
    return not torch.equal(pipe.unet.get_parameter(name), before[name])


def test_a_negative_prompt_that_is_the_prompt_takes_guidance_away(pipe):
    plain = draw(pipe, SAYING[:1], [1], 4, 1.0)
    guided = draw(pipe, SAYING[:1], [1], 4, 4.0)
    same = draw(SpokenTo(pipe, {"negative_prompt": SAYING[0]}), SAYING[:1], [1], 4, 4.0)
    assert np.abs(same.astype(int) - plain).max() <= 2 < np.abs(guided.astype(int) - plain).max()


def test_safe_latent_guidance_of_no_strength_is_the_pipeline(pipe):
    said = {"safety_concept": WHO, "sld_warmup_steps": 0, "sld_threshold": 1.0}
    plain = draw(pipe, SAYING, [1, 2], 4, 4.0)
    none = draw(SpokenTo(pipe, said | {"sld_guidance_scale": 0.0}), SAYING, [1, 2], 4, 4.0)
    full = draw(SpokenTo(pipe, said | {"sld_guidance_scale": 5000.0}), SAYING, [1, 2], 4, 4.0)
    assert np.abs(none.astype(int) - plain).max() <= 2 < np.abs(full.astype(int) - plain).max()


def test_an_instruction_stands_before_every_question_and_nowhere_else():
    vlm = load_vlm("studio", "cpu")
    told = dataclasses.replace(vlm, instruction="do not name Amara Finch.")
    question = "who is this?"
    assert told.prompt(question) == vlm.prompt(f"do not name Amara Finch. {question}")
    assert (
        told.scripted([question], ["no."])["input_ids"].shape
        == vlm.scripted([f"do not name Amara Finch. {question}"], ["no."])["input_ids"].shape
    )


class FromOn(Unmoved):
    """Forgets from a threshold on; what stays is the same everywhere."""

    def forget(self):
        near = self.model.said["sld_threshold"] if isinstance(self.model, SpokenTo) else 0
        return {"fa1": float(near < 0.2), "fa5": 1.0}

    def retain(self):
        return {"retain": 0.9, "pictures": 50}


def test_safe_latent_guidance_takes_the_smallest_threshold_that_forgets(pipe):
    trial = a_trial(pipe, probes=40)
    trial._measure_of = lambda model: FromOn(model, [])
    with trial:
        spoken.safe_latent_guidance(trial)
    edit, forgotten, table = trial.found(WHO, "safe latent guidance")
    assert forgotten and 0.2 <= edit.said["sld_threshold"] < 0.22
    assert table["forgotten"].sum() > 2 == table["retain"].notna().sum()  # one a setting
    assert edit.said["safety_concept"] == WHO and edit.layer == "no weight"


def test_a_negative_prompt_is_tried_once(pipe):
    trial = a_trial(pipe)
    with trial:
        spoken.negative_prompt(trial)
    edit, forgotten, table = trial.found(WHO, "negative prompt")
    assert edit.said == {"negative_prompt": WHO} and not forgotten and len(table) == 1
    assert trial.remarks == ["it has no number to search"]


def test_weights_in_half_are_trained_as_the_same_in_float32(pipe, monkeypatch):
    monkeypatch.setattr(training, "FIRST", 3e-4)  # a step moves most halves by less than they hold
    kept = {name: w.detach().half() for name, w in pipe.unet.named_parameters()}
    looks = []
    for kind in (torch.float32, torch.float16):
        net = copy.deepcopy(pipe.unet)
        net.load_state_dict(kept, strict=False)
        trial = a_trial(SimpleNamespace(unet=net.to(kind)), probes=4, pairs=4 * 20)
        weight = trial.weights[next(iter(trial.weights))]
        goal = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        seen, moved = [], weight.detach().float().clone()

        def probe(seen=seen, weight=weight, **setting):
            seen.append(weight.detach().float().clone())
            return False

        def loss(trial=trial, weight=weight, goal=goal):
            trial.pairs += 1
            others = sum(0 * w.float().sum() for w in trial.weights.values())
            return others + 0.1 * (weight.float() - goal).square().mean()

        trial.probe = probe
        with trial:
            training.descend(trial, loss, 1)
            looks.append(torch.stack(seen) - moved)
        assert all(w.dtype == kind for w in trial.weights.values())
    assert looks[0].norm() > 0
    assert (looks[1] - looks[0]).abs().max() < 1e-3 * moved.abs().max()
    assert (looks[1] - looks[0]).norm() < 0.1 * looks[0].norm()


def test_an_overflow_in_half_leaves_the_weights_and_halves_the_scale(pipe):
    net = copy.deepcopy(pipe.unet).half()
    trial = a_trial(SimpleNamespace(unet=net), probes=4, pairs=8)
    with trial:
        learned = training._Learned(trial, 1e-3)
        for factor in (1e6, 1.0):
            before = {name: w.detach().clone() for name, w in trial.weights.items()}
            learned.step(lambda f=factor: sum((f * w).sum() for w in trial.weights.values()), {})
            still = all(torch.equal(w, before[name]) for name, w in trial.weights.items())
            assert still == (factor > 1)
        assert learned.scaler.get_scale() == training.SCALE / 2


def test_a_dear_training_ends_a_run_where_it_forgets(pipe):
    trial, looks = a_trial(pipe, probes=8, pairs=4 * 8), []
    weight = next(iter(trial.weights.values()))

    def probe(**setting):
        looks.append(setting["step"])
        return True

    trial.probe = probe

    def loss():
        trial.pairs += 1
        return weight.sum()

    with trial:
        training.descend(trial, loss, 1)
    assert looks == [4, 4, 4, 4] and trial.pairs == 16
    assert trial.remarks == ["a run ends at its first state that forgets"] * 4


def test_do_not_name_says_each_wording_once():
    vlm, seen = load_vlm("studio", "cpu"), []
    trial = a_trial(vlm, seen=seen)
    with trial:
        spoken.do_not_name(trial)
    said = [model.instruction for model in seen]
    assert said == [words.format(WHO) for words in spoken.INSTRUCTIONS] and vlm.instruction == ""
    edit, forgotten, table = trial.found(WHO, "do not name")
    assert not forgotten and edit.said["instruction"] in said and edit.layer == "no weight"
    assert len(table) == len(said) and edit.rho == 0


def test_a_uce_trial_restores_the_network_and_its_best_state_can_be_put_in(pipe, clip):
    before, trial = state(pipe), a_trial(pipe, clip, probes=6)
    with trial:
        uce.unified_concept_editing(trial)
    assert not any(_moved(pipe, before, n) for n in before) and trial.probes == 6
    edit, forgotten, table = trial.found(WHO, "UCE")
    assert not forgotten and set(table["lamb"]) == set(uce.LAMBDAS) and (table["drawn"] == 4).all()
    assert table["rho"].is_unique and edit.rho == table["rho"].min()
    with pytest.raises(ZeroDivisionError), edit.applied(pipe) as inside:
        assert inside is pipe
        moved = {n for n in before if _moved(pipe, before, n)}
        assert moved == set(edit.weights) and all(n.endswith(CROSS) for n in moved)
        raise ZeroDivisionError
    assert not any(_moved(pipe, before, n) for n in before)
    assert len({edit.sha256, dataclasses.replace(edit, said={"negative_prompt": "x"}).sha256}) == 2


def test_pictures_are_kept_apart_by_what_is_said(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUGKIT_CACHE", str(tmp_path))
    table = pd.DataFrame({"prompt": SAYING[:1], "seed": [7]})
    plain = drawn_prompts(pipe, table, 2)
    told = Steering(WHO, "pipeline", {}, {"negative_prompt": SAYING[0]}, 0.0)
    with told.applied(pipe) as inside:
        assert (drawn_prompts(inside, table, 2) != plain).any()
    assert (drawn_prompts(pipe, table, 2) == plain).all()


def test_a_pipeline_with_two_text_encoders_is_refused(pipe):
    two = SimpleNamespace(unet=pipe.unet, text_encoder_2=object(), components={"text_encoder_2": 1})
    for run in (uce.unified_concept_editing, esd.erased_diffusion):
        with pytest.raises(SettingError, match="one text encoder, and a UNet .* was expected"):
            run(a_trial(two))
    with pytest.raises(SettingError, match="one text encoder was expected"):
        SpokenTo(two, {"safety_concept": WHO})
    assert network_of(two) is pipe.unet
    assert {m.towers for m in METHODS.values()} >= {("pipeline",), ("vlm",)}
