"""A GPU that is not there: within `pretend_gpu()` a tensor lies on `cuda:0` or on the CPU.

    with pretend_gpu():                    # pretend_gpu("mps") for Apple's
        x = torch.zeros(3, device="cuda")  # says cuda:0, holds real numbers
        x + torch.ones(3)                  # RuntimeError: Expected all tensors to be on the same...
        x.numpy()                          # TypeError: can't convert cuda:0 device type tensor...

A `GpuTensor` wraps a CPU tensor and sees every ATen operation, forward and backward, in
`__torch_dispatch__`. For C++ it is a CPU tensor (else autograd would ask the driver for a stream);
what names or makes a device (`to`, `cuda`, `cpu`, factories) is replaced in Python, for all
threads, while the block runs.

Allowed across devices, as by CUDA: 0-dim CPU tensors in pointwise operations, CPU indices, `copy_`.
Not seen: speed, memory, streams and the numerics of a GPU (TF32, its own half precision, atomics),
several GPUs, other processes, `with torch.device("cuda")`, `torch.compile`, and C++ that names a
device by itself.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from unittest import mock

import torch
import torch.utils._device
from torch.utils._pytree import tree_leaves, tree_map

MEMORY = 80 * 10**9
_here = [torch.device("cuda", 0)]  # the GPU of the present block

aten = torch.ops.aten
COPYING = {aten.copy_.default, aten._foreach_copy_.default}
INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
}
FILLING = {
    aten.masked_fill.Tensor,
    aten.masked_fill_.Tensor,
    aten.fill_.Tensor,
    aten.index_fill.int_Tensor,
    aten.index_fill_.int_Tensor,
}
FACTORIES = """zeros ones empty full arange linspace logspace eye rand randn randint randperm tensor
    as_tensor asarray scalar_tensor empty_strided tril_indices triu_indices hann_window zeros_like
    ones_like empty_like full_like rand_like randn_like randint_like""".split()
NEW = "new_zeros new_ones new_empty new_full new_tensor new_empty_strided".split()


def on_gpu(x) -> bool:
    """Whether a tensor is on the GPU, pretended or real."""
    return isinstance(x, GpuTensor) or isinstance(x, torch.Tensor) and x.is_cuda


def _means_gpu(device) -> bool:
    return device is not None and torch.device(device).type == _here[0].type


def _third(device) -> bool:
    """meta, and what else is neither."""
    return device is not None and torch.device(device).type not in ("cpu", _here[0].type)


def _unwrapped(x):
    return x.cpu_tensor if on_gpu(x) else x


def _wrapped(x):
    return GpuTensor(x) if isinstance(x, torch.Tensor) and not on_gpu(x) else x


class GpuTensor(torch.Tensor):
    """A CPU tensor, `cpu_tensor`, that says it is on the GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: _here[0])
    is_cpu = property(lambda self: False)
    is_cuda = property(lambda self: _here[0].type == "cuda")
    is_mps = property(lambda self: _here[0].type == "mps")

    @staticmethod
    def __new__(cls, x: torch.Tensor):
        if _here[0].type == "mps" and x.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
                "float64. Please use float32 instead."
            )
        made = torch.Tensor._make_wrapper_subclass(
            cls, x.size(), strides=x.stride(), dtype=x.dtype, storage_offset=x.storage_offset()
        )
        made.cpu_tensor = x
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        _same_device(func, given, args)
        out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs or {}))
        known = {id(_unwrapped(x)): x for x in given}  # changed in place: the object that it was
        return tree_map(lambda x: known[id(x)] if id(x) in known else _wrapped(x), out)

    def __repr__(self, **_):
        return repr(self.cpu_tensor)[:-1] + f", device='{_here[0]}')"

    def __format__(self, spec):
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo):
        made = GpuTensor(self.cpu_tensor.detach().clone()).requires_grad_(self.requires_grad)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k == "_is_param"})
        return memo.setdefault(id(self), made)

    def numpy(self, *_, **__):
        raise TypeError(
            f"can't convert {_here[0]} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    __array__ = __dlpack__ = numpy

    def tolist(self):
        return self.cpu_tensor.detach().tolist()

    def get_device(self):
        return 0

    def untyped_storage(self):
        return self.cpu_tensor.untyped_storage()

    def data_ptr(self):
        return self.cpu_tensor.data_ptr()


def _same_device(func, given: list, args: tuple) -> None:
    """Raises RuntimeError where a GPU would not take these tensors together."""
    indexed = func in INDEXING and on_gpu(args[0])
    # the indices themselves may lie on the CPU
    others = tree_leaves(args[2:]) if indexed else given
    others = [
        x
        for x in others
        if isinstance(x, torch.Tensor) and not on_gpu(x) and x.device.type == "cpu"
    ]
    if indexed or func in FILLING or torch.Tag.pointwise in func.tags:
        others = [x for x in others if x.dim()]
    if others and func not in COPYING:
        shapes = ", ".join(f"{x.device} {tuple(x.shape)}" for x in given)
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{_here[0]} and cpu! (in {func}: {shapes})"
        )


class _Move(torch.autograd.Function):
    """To the other device; the gradient comes back the other way."""

    @staticmethod
    def forward(ctx, x):
        return _unwrapped(x).detach().clone() if on_gpu(x) else GpuTensor(x.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return _Move.apply(gradient)


torch.utils._device._device_constructors()  # torch's own list, cached before they are replaced
_own = {name: getattr(torch, name) for name in FACTORIES}
_own_to, _own_autocast = torch.Tensor.to, torch.autocast.__init__


def _to(self, *args, **kwargs):
    """torch.Tensor.to for both kinds of tensors."""
    copy = kwargs.pop("copy", False)
    like = next((x for x in (*args[:1], kwargs.get("other")) if isinstance(x, torch.Tensor)), None)
    parsed = (
        (like.device, like.dtype, None, None)
        if like is not None
        else torch._C._nn._parse_to(*args, **kwargs)
    )
    device, dtype, _, layout = parsed
    if _third(device):
        return _own_to(_unwrapped(self), device, dtype or self.dtype)
    moves = device is not None and _means_gpu(device) != on_gpu(self)
    x = _own_to(
        self,
        dtype=dtype or self.dtype,
        copy=copy and not moves,
        **({} if layout is None else {"memory_format": layout}),
    )
    return _Move.apply(x) if moves else x


def _placed(make):
    """A factory of torch, or a method that makes a new tensor, for both kinds of tensors."""

    def made(*args, **kwargs):
        device, generator = kwargs.pop("device", None), kwargs.get("generator")
        like = args[0] if args and isinstance(args[0], torch.Tensor) else None
        there = on_gpu(like) if device is None else _means_gpu(device)
        if there and generator is not None and generator.device.type == "cpu":
            raise RuntimeError(
                f"Expected a '{_here[0].type}' device type for generator but found 'cpu'"
            )
        if _third(device):
            return make(*args, **kwargs, device=device)
        if make is _own["as_tensor"] and device is not None and like is not None:
            return _to(like, device, kwargs.get("dtype") or like.dtype)
        given = args if make is _own["tensor"] else tree_map(_unwrapped, args)
        out = make(*given, **kwargs, **({} if device is None else {"device": "cpu"}))
        return _wrapped(out) if there else _unwrapped(out)

    made.__name__ = make.__name__
    return made


def _autocast(self, device_type, dtype=None, enabled=True, cache_enabled=None):
    there = _means_gpu(device_type)
    _own_autocast(
        self,
        "cpu" if there else device_type,
        dtype or (torch.float16 if there else None),
        enabled,
        cache_enabled,
    )


def _swap(one, other):
    """torch.utils.swap_tensors without its checks: a parameter that moves stays the same object."""
    one.__class__, other.__class__ = other.__class__, one.__class__
    one.__dict__, other.__dict__ = other.__dict__, one.__dict__
    torch._C._swap_tensor_impl(one, other)


_card = SimpleNamespace(
    name="Pretended GPU", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132
)
ANSWERS = {
    torch.cuda: dict(
        is_available=True,
        device_count=1,
        current_device=0,
        get_device_name=_card.name,
        synchronize=None,
        get_device_capability=(9, 0),
        mem_get_info=(MEMORY, MEMORY),
        memory_reserved=0,
        memory_allocated=0,
        max_memory_allocated=0,
        max_memory_reserved=0,
        reset_peak_memory_stats=None,
        empty_cache=None,
        set_device=None,
        get_rng_state=torch.zeros(16, dtype=torch.uint8),
        set_rng_state=None,
        is_bf16_supported=True,
        _lazy_init=None,
        get_device_properties=_card,
    ),
    torch.mps: dict(
        device_count=1,
        empty_cache=None,
        synchronize=None,
        current_allocated_memory=0,
        driver_allocated_memory=0,
        recommended_max_memory=MEMORY,
    ),
    torch.accelerator: dict(
        is_available=True,
        device_count=1,
        current_device_index=0,
        synchronize=None,
        current_stream=SimpleNamespace(is_capturing=lambda: False),
    ),
}
"""What functions of torch answer within the block, whatever they are asked."""


@contextmanager
def pretend_gpu(kind: str = "cuda"):
    """Within the block there is a GPU; its tensors must not outlive it. kind: cuda or mps."""
    with ExitStack() as stack:

        def put(owner, name, value):
            stack.enter_context(mock.patch.object(owner, name, value))

        stack.callback(_here.__setitem__, 0, _here[0])
        _here[0] = torch.device(kind, 0)
        for owner in (getattr(torch, kind), torch.accelerator):
            for name, found in ANSWERS[owner].items():
                put(owner, name, lambda *_, found=found, **__: found)
        put(torch.accelerator, "current_accelerator", lambda *_, **__: torch.device(kind))
        put(torch.backends.mps, "is_available", cache(lambda: kind == "mps"))
        for name in FACTORIES:
            put(torch, name, _placed(_own[name]))
        for name in NEW:
            put(torch.Tensor, name, _placed(getattr(torch.Tensor, name)))
        put(torch.Tensor, "to", _to)
        put(torch.Tensor, "cuda", lambda self, *_, **__: self.to("cuda"))
        put(torch.Tensor, "cpu", lambda self, *_, **__: self.to("cpu"))
        put(torch.Tensor, "pin_memory", lambda self, *_, **__: self)
        put(torch.autocast, "__init__", _autocast)
        put(torch.utils, "swap_tensors", _swap)
        future = torch.__future__
        stack.callback(
            future.set_swap_module_params_on_conversion,
            future.get_swap_module_params_on_conversion(),
        )
        future.set_swap_module_params_on_conversion(True)
        yield
