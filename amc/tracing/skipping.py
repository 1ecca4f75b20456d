"""Running a network for its shapes: slow operators are skipped, and zeros stand for their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from amc.runtime.call import tensors_in
from amc.tracing.undisturbed import remembering_nothing

Compute = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs an operator on its positional and keyword arguments."""

HEAVY = frozenset({"convolution", "addmm", "mm", "bmm", "linear"})
"""The operators in which nearly all the time of a forward pass is spent."""

WORTHWHILE = 100_000_000
"""Number of parameters from which a network is run only for its shapes; smaller ones run quickly anyway."""

_VALUE_FUNCTIONS = frozenset({"numpy", "tolist", "__array__", "__dlpack__", "tensor_split"})
"""Functions that read values without a visible operator."""
_VALUE_OPERATORS = frozenset({"nms", "_pack_padded_sequence"})
"""Operators whose output shape depends on values, though they are not tagged so."""


def worthwhile(model: nn.Module) -> bool:
    """Returns whether a network is so large that it is run only for its shapes."""
    return sum(parameter.numel() for parameter in model.parameters()) >= WORTHWHILE


class ValuesNeeded(Exception):
    """A network reads values that were not computed; run it again with all of them."""


def compute(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Runs an operator as it is."""
    return func(*args, **kwargs)


class Skipping:
    """Runs all but the heavy operators, which return zeros of the shape that their outputs would have.

    Attributes:
        skipped: Whether an operator was skipped.
        values_needed: Whether the network read values after that. It may have swallowed the error.
    """

    def __init__(self, model: nn.Module) -> None:
        """Starts with nothing skipped.

        Args:
            model: The network, whose parameters are not to be written from zeros.
        """
        self.skipped = self.values_needed = False
        self._parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs or skips an operator.

        Raises:
            ValuesNeeded: If something was skipped and the operator's result depends on values, not on shapes alone, or
                is written into a parameter.
        """
        name = func.overloadpacket.__name__
        if name in HEAVY and "out" not in kwargs and _is_valid(name, args):
            self.skipped = True
            on_meta = func(*_to_meta(args), **_to_meta(dict(kwargs)))
            device = tensors_in((args, kwargs))[0].device
            return tree_map_only(Tensor, lambda tensor: torch.zeros_like(tensor, device=device), on_meta)
        if _reads_values(func, args) or self._writes_parameter(func, args):
            self.refuse(name)
        return func(*args, **kwargs)

    def refuse(self, name: str) -> None:
        """Records that a function reads values.

        Raises:
            ValuesNeeded: If something was skipped.
        """
        if self.skipped:
            self.values_needed = True
            raise ValuesNeeded(name)

    def _writes_parameter(self, func: Any, args: tuple[Any, ...]) -> bool:
        if not func._schema.is_mutable or not args or not isinstance(args[0], Tensor):
            return False
        return args[0].untyped_storage().data_ptr() in self._parameters


class ReadingMode(TorchFunctionMode):
    """Notices functions that read values without a visible operator."""

    def __init__(self, skipping: Skipping) -> None:
        """Creates the mode.

        Args:
            skipping: Records them.
        """
        super().__init__()
        self._skipping = skipping

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of PyTorch."""
        name = getattr(func, "__name__", "")
        if name in _VALUE_FUNCTIONS and (name != "tensor_split" or len(tensors_in((args, kwargs))) > 1):
            self._skipping.refuse(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def for_shapes(model: nn.Module) -> Iterator[Skipping]:
    """Runs a network for its shapes, and removes anything that it may have cached during such a run.

    Its operators are to be handed to the `Skipping` that this yields, by a dispatch mode, and its functions are to be
    watched while it runs (`reading`).
    """
    with remembering_nothing(model):
        yield Skipping(model)


def reading(run_operator: Compute) -> AbstractContextManager[Any]:
    """Returns the mode that notices functions that read values, if some operators are skipped."""
    return ReadingMode(run_operator) if isinstance(run_operator, Skipping) else nullcontext()


class SkippingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Skips the heavy operators that run under it."""

    def __init__(self, run_operator: Compute) -> None:
        """Creates the mode.

        Args:
            run_operator: Runs or skips an operator.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._run_operator = run_operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs or skips an operator."""
        return self._run_operator(func, args, kwargs or {})


def _to_meta(values: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), values)


def _is_valid(name: str, args: tuple[Any, ...]) -> bool:
    """Returns whether an operator would run, as far as it is not checked where there are shapes only."""
    tensors = tensors_in(args)
    if len({(tensor.dtype, tensor.device) for tensor in tensors}) > 1:
        return False
    if name != "convolution":
        return True
    weight, bias, transposed, groups = args[1], args[2], args[6], args[8]
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return channels % groups == 0 and (bias is None or tuple(bias.shape) == (channels,))


def _reads_values(func: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether an operator hands values to Python, or the shape of its output depends on them."""
    name = func.overloadpacket.__name__
    if torch.Tag.data_dependent_output in func.tags or name in _VALUE_OPERATORS:
        return True
    if name == "index":  # tagged for the sake of masks; positions have a shape of their own
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(args[1]))
    return torch.Tag.dynamic_output_shape in func.tags
