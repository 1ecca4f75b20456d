"""A stand-in for CUDA on machines without it: tensors that say they are on CUDA and are computed on the CPU.

What CUDA refuses is refused: operators on tensors of two devices, NumPy arrays of tensors on the device, and random
numbers from a generator of the CPU. So tensors that were left on the wrong device are found without an accelerator.
Neither speed nor CUDA's own kernels can be tested so; the tests marked `gpu` are for these.
"""

from __future__ import annotations

import copy
import functools
import gc
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# Operators that take tensors of both devices: copies, and look-ups by positions on the CPU.
_MIXING = ("aten::copy_", "aten::index.", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
_FACTORIES = ("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "tensor", "zeros")
_FACTORIES += ("rand", "randint", "randn", "randperm")
_FACTORIES += ("empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like")
_AS_ON_CPU = ("tolist", "storage", "untyped_storage", "data_ptr")
_PYTORCH = {name: getattr(Tensor, name) for name in ("to", "numpy", "new_tensor", "data", *_AS_ON_CPU)}


class OnCuda(Tensor):
    """A tensor on the stand-in; `held` has its values. Operators on it come to `__torch_dispatch__`."""

    held: Tensor
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        return Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=held.device,
            requires_grad=requires_grad,
        )

    def __init__(self, held, requires_grad=False):
        self.held = held.detach()

    def __repr__(self):
        return f"OnCuda({self.held!r})"

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)  # files are read to the CPU

    def __tensor_flatten__(self):
        return ["held"], None

    @classmethod
    def __tensor_unflatten__(cls, inner, context, size, stride):
        return cls(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.name()
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        elsewhere = [tensor for tensor in tensors if not isinstance(tensor, OnCuda) and tensor.dim() > 0]
        if elsewhere and not name.startswith(_MIXING):
            raise RuntimeError(f"{name} was given tensors on the CPU and on CUDA")
        plain_args, plain_kwargs = _held((args, kwargs))
        if name == "aten::copy_" and not isinstance(args[0], OnCuda):
            return func(*plain_args, **plain_kwargs)
        if plain_kwargs.get("device") is not None:
            plain_kwargs = {**plain_kwargs, "device": CPU}
        output = tree_map_only(Tensor, OnCuda, func(*plain_args, **plain_kwargs))
        if torch.is_inference_mode_enabled() and not func._schema.is_mutable:
            return output
        return return_and_correct_aliasing(func, args, kwargs, output)


class _Moved(torch.autograd.Function):
    """A copy on the other device, whose gradient comes back."""

    @staticmethod
    def forward(ctx, tensor):
        return _copied(tensor)

    @staticmethod
    def backward(ctx, gradient):
        return _copied(gradient)


def _held(values: Any) -> Any:
    return tree_map_only(OnCuda, lambda tensor: tensor.held, values)


def _copied(tensor):
    if isinstance(tensor, OnCuda):
        return tensor.held.clone()
    return OnCuda(tensor.detach().clone())


def _moved(tensor, device):
    """Returns a tensor on a device, itself if it is there."""
    kind = None if device is None else torch.device(device).type
    if kind not in (None, "cpu", "cuda"):
        return _PYTORCH["to"](_held(tensor), device)
    if kind is None or (kind == "cuda") == isinstance(tensor, OnCuda):
        return tensor
    return _Moved.apply(tensor) if torch.is_grad_enabled() and tensor.requires_grad else _copied(tensor)


def _to(tensor, *args, device=None, dtype=None, non_blocking=False, **options):
    """`Tensor.to` in all its forms: of a device, a format, both, or another tensor."""
    for value in args:
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, (torch.device, str)):
            device = value
    options = options if dtype is None else {**options, "dtype": dtype}
    moved = _moved(tensor, device)
    return _PYTORCH["to"](moved, **options) if options else moved


def _set_data(tensor, value):
    """`tensor.data = value`; a tensor that changes its device by it stays the same object, as it does with CUDA."""
    if isinstance(tensor, OnCuda) == isinstance(value, OnCuda):
        _PYTORCH["data"].__set__(tensor, value)
        if isinstance(tensor, OnCuda):
            tensor.held = value.held
        return
    parameter, gradient = isinstance(tensor, nn.Parameter), tensor.grad
    tensor.grad = None
    fresh = value.detach().requires_grad_(tensor.requires_grad)
    torch.utils.swap_tensors(tensor, nn.Parameter(fresh, tensor.requires_grad) if parameter else fresh)
    tensor.grad = None if gradient is None else _moved(gradient, value.device)


def _swap(first, second, _swap_tensors=torch.utils.swap_tensors):
    """Swaps two tensors; garbage that still refers to one of them would be in the way."""
    try:
        _swap_tensors(first, second)
    except RuntimeError:
        gc.collect()
        _swap_tensors(first, second)


def _numpy(tensor, *args, **kwargs):
    if isinstance(tensor, OnCuda):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    return _PYTORCH["numpy"](tensor, *args, **kwargs)


def _new_tensor(tensor, *args, **kwargs):
    return _moved(_PYTORCH["new_tensor"](_held(tensor), *args, **kwargs), tensor.device)


def _factory(make):
    """Lets a function that makes tensors, such as `torch.zeros`, make them on the stand-in."""

    @functools.wraps(make)
    def wrapper(*args, device=None, **kwargs):
        if device is None:
            return make(*args, **kwargs)
        if torch.device(device).type not in ("cpu", "cuda"):
            return make(*args, device=device, **kwargs)
        if torch.device(device).type == "cuda" and kwargs.get("generator") is not None:
            raise RuntimeError(f"{make.__name__} was given a generator of the CPU for numbers on CUDA")
        return _moved(make(*_held(args), device=CPU, **kwargs), device)

    return wrapper


class _Autocast(torch.autocast):
    """Autocast of the CPU under either name."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def install(patch) -> None:
    """Puts the stand-in in place of CUDA.

    Args:
        patch: pytest's `monkeypatch`.
    """
    # PyTorch keeps the functions that a device as a context applies to: its own, not those put in their place here.
    _device_constructors()
    methods = {"to": _to, "numpy": _numpy, "new_tensor": _new_tensor}
    methods |= {"cuda": lambda tensor, *_: _moved(tensor, CUDA), "cpu": lambda tensor, *_: _moved(tensor, CPU)}
    for name in _AS_ON_CPU:
        methods[name] = lambda tensor, *args, _of=_PYTORCH[name]: _of(_held(tensor), *args)
    for name, method in methods.items():
        patch.setattr(Tensor, name, method)
    patch.setattr(
        Tensor,
        "data",
        property(lambda x: x.detach() if isinstance(x, OnCuda) else _PYTORCH["data"].__get__(x), _set_data),
    )
    for name in _FACTORIES:
        patch.setattr(torch, name, _factory(getattr(torch, name)))
    patch.setattr(torch, "autocast", _Autocast)
    patch.setattr(torch.utils, "swap_tensors", _swap)
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 1)
    patch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    patch.setattr(torch.cuda, "get_device_name", lambda device=None: "stand-in")
    patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        patch.setattr(torch.optim.Optimizer, name, lambda self: None, raising=False)
    patch.setattr("amc.runtime.plain._is_plain", lambda tensor: not tensor.is_quantized)
    _count_flops_on_cpu(patch)


def _count_flops_on_cpu(patch) -> None:
    """Lets fvcore count a copy on the CPU: it reads graphs of TorchScript, which does not see the stand-in."""
    from amc.costs import counting

    analysis = counting._analysis
    patch.setattr(counting, "_analysis", lambda model, inputs: analysis(copy.deepcopy(model).cpu(), _held(inputs)))
