"""The pretended GPU refuses and allows what a GPU does, and computes what the CPU computes."""

import copy

import numpy as np
import pytest
import torch
from pretend_gpu import on_gpu, pretend_gpu
from torch import nn


@pytest.fixture
def gpu():
    with pretend_gpu():
        yield


FIRST = torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(2)]),
        lambda x: torch.equal(x, x.cpu()),
        lambda x: torch.stack([x[0], torch.tensor(1.0)]),
        lambda x: torch.arange(4)[FIRST.to("cuda")],
        lambda x: x.gather(0, FIRST),
        lambda x: x.__setitem__(torch.tensor([0, 1]), torch.zeros(2)),
        lambda x: nn.Linear(3, 2)(x),
        lambda x: torch.dot(x, torch.ones(3)),
        lambda x: x @ torch.ones(3, 2),
        lambda x: x == torch.ones(3),
    ],
)
def test_two_devices_in_one_operation_are_refused(gpu, wrong):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        wrong(torch.zeros(3, device="cuda"))


def test_numpy_and_a_generator_of_the_cpu_are_refused(gpu):
    for wrong in (lambda x: x.numpy(), np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            wrong(torch.zeros(3, device="cuda"))
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator("cpu"))


def test_what_a_gpu_allows_is_allowed(gpu):
    x = torch.arange(3.0, device="cuda")
    assert (x + torch.tensor(2.0)).tolist() == [2, 3, 4] and (2 * x).device.type == "cuda"
    assert x[torch.tensor([2, 0])].tolist() == [2, 0] and x[
        torch.tensor([True, False, True])
    ].tolist() == [0, 2]
    x[0:2] = torch.ones(2)
    assert x.tolist() == [1, 1, 2] and float(x[2]) == 2 and f"{x[2]:.1f}" == "2.0"
    assert (
        on_gpu(x.new_tensor([1]))
        and on_gpu(torch.zeros_like(x))
        and not on_gpu(torch.zeros_like(x, device="cpu"))
    )
    assert type(x.cpu()) is torch.Tensor and x.cpu().numpy().tolist() == [1, 1, 2]


def test_a_module_moves_trains_and_moves_back_as_on_the_cpu(gpu):
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4), nn.Linear(4, 8))
    net[3].weight = net[0].weight
    other, weight, x, seen = copy.deepcopy(net), net[0].weight, torch.randn(2, 4), []
    net.to("cuda")
    assert (
        net[0].weight is weight is net[3].weight
        and isinstance(weight, nn.Parameter)
        and on_gpu(weight)
    )
    weight.register_post_accumulate_grad_hook(lambda w: seen.append(on_gpu(w.grad)))
    for model, given in ((net, x.to("cuda")), (other, x)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model(given).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    pairs = zip(net.parameters(), other.parameters(), strict=True)
    assert seen == [True] and all(torch.equal(a.detach().cpu(), b.detach()) for a, b in pairs)
    net.half().float().to("cpu")
    assert type(net[0].weight) is nn.Parameter and net[0].weight is net[3].weight


def test_a_gradient_crosses_over_and_autocast_counts(gpu):
    leaf = torch.randn(3, requires_grad=True)
    (leaf.to("cuda") * 2).sum().backward()
    assert type(leaf.grad) is torch.Tensor and leaf.grad.tolist() == [2, 2, 2]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert nn.Linear(3, 2).to("cuda")(leaf.to("cuda")).dtype == torch.bfloat16


def test_apples_gpu_has_no_float64_and_afterwards_all_is_as_before():
    with pretend_gpu("mps"):
        assert torch.zeros(3, device="mps").is_mps and not torch.cuda.is_available()
        for wrong in (
            lambda x: x.double(),
            lambda x: torch.zeros(3, dtype=torch.float64, device="mps"),
        ):
            with pytest.raises(TypeError, match="float64"):
                wrong(torch.zeros(3, device="mps"))
    with pretend_gpu():
        assert torch.cuda.is_available()
    assert (
        not torch.cuda.is_available()
        and torch.zeros(2).to("cpu").is_cpu
        and torch.zeros.__name__ == "zeros"
    )
