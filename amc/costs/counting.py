"""Counting the costs of a given network."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from amc.costs.recurrent_flops import recurrent_rules
from amc.runtime.call import evaluation_mode, tensors_in, without_fused_attention
from amc.runtime.einsum import sums_over_shared

if TYPE_CHECKING:
    from fvcore.nn import FlopCountAnalysis

_NAMES = """
    scaled_dot_product_attention _native_multi_head_attention
    _transformer_encoder_layer_fwd baddbmm addbmm addmv addr mv dot vdot inner outer ger tensordot chain_matmul kron
    bilinear cdist pdist matrix_power matrix_exp inverse pinverse svd qr cholesky cholesky_solve triangular_solve
    stft istft conv_tbc embedding_bag
"""
_ARITHMETIC = frozenset(_NAMES.split())
_ARITHMETIC_PREFIXES = ("fft_", "linalg_")
_ELEMENT_WISE = frozenset({"linalg_vector_norm", "linalg_cross", "linalg_diagonal", "linalg_vecdot"})


class _Traceable(nn.Module):
    """Calls a network on any example with positional tensors, and returns its output tensors, as tracing requires.

    Tracing knows neither keyword arguments nor outputs that are objects, such as data classes.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...] | None) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        output = self.model(*values) if self.names is None else self.model(**dict(zip(self.names, values, strict=True)))
        return tuple(tensors_in(output))


def count_flops(model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]) -> int:
    """Counts the FLOPs of one forward pass with fvcore: one fused multiply-add is one.

    The network is run in evaluation mode, without gradients, and left in the mode that it was in. Operators that fvcore
    does not know (most element-wise ones) count as zero; `uncounted_operators` names the expensive ones. `einsum`,
    which fvcore counts to four digits, counts as the matrix products that it runs. Attention of PyTorch's counts by its
    parts, not as one operator that fvcore does not know.

    Args:
        model: The network.
        example_input: The input, for example of shape `(1, C, H, W)`; a tuple of positional inputs; or keyword inputs.

    Returns:
        FLOPs for the whole input.
    """
    return sum(flops_by_operator(model, example_input).values())


def flops_by_operator(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]
) -> dict[str, int]:
    """Counts as `count_flops`, by the name of the operator as fvcore knows it, such as `"conv"`."""
    with _analysis(model, example_input) as (analysis, _, _):
        return {name: int(flops) for name, flops in analysis.by_operator().items()}


def operators_by_own_rule(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]
) -> dict[str, int]:
    """Finds the operators that `count_flops` counts by a rule of our own: recurrent layers, which fvcore leaves out.

    Args:
        model: The network.
        example_input: As for `count_flops`.

    Returns:
        How often one forward pass calls each, by name, such as `{"lstm": 1}`.
    """
    with _analysis(model, example_input) as (analysis, _, own):
        analysis.total()
    return {_called(kind): calls for kind, calls in sorted(own.items())}


def uncounted_operators(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]
) -> dict[str, int]:
    """Finds the expensive operators that `count_flops` leaves out: fused products, `fft`.

    What fvcore leaves out by convention (element-wise operators, sums, softmax) is not among them. Operators from
    outside PyTorch are, as it is unknown what they compute.

    Args:
        model: The network.
        example_input: As for `count_flops`.

    Returns:
        How often one forward pass calls each, by name, such as `{"fft_fft2": 1}`.
    """
    with _analysis(model, example_input) as (analysis, left_out, _):
        analysis.total()
        found = Counter(analysis.unsupported_ops()) + left_out
    return {_called(kind): calls for kind, calls in sorted(found.items()) if _is_arithmetic(kind)}


def _is_arithmetic(kind: str) -> bool:
    """Returns whether an operator of a traced graph does more than element-wise arithmetic, or may do so."""
    space, _, name = kind.partition("::")
    if space == "aten":
        known = name.rstrip("_") in _ARITHMETIC or name.startswith(_ARITHMETIC_PREFIXES)
        return known and name not in _ELEMENT_WISE
    return space != "prim" or name.startswith(("PythonOp", "CallFunction"))


def _called(kind: str) -> str:
    """Returns an operator's familiar name: `"lstm"` for `"aten::lstm"`, a function of the user's by its class."""
    name = kind.rpartition("::")[2]
    return "scripted function" if name == "CallFunction" else name.removeprefix("PythonOp.").lstrip("^")


@contextmanager
def _analysis(
    model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]
) -> Iterator[tuple[FlopCountAnalysis, Counter[str], Counter[str]]]:
    """Prepares fvcore's analysis of a network, for use within the context.

    Yields:
        The analysis, and (once it has counted) what our rules leave out and what they count that fvcore does not.
    """
    left_out: Counter[str] = Counter()
    own: Counter[str] = Counter()
    names = None
    if isinstance(example_input, Mapping):
        names, inputs = tuple(example_input), tuple(example_input.values())
    else:
        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    model = _Traceable(model, names)
    with evaluation_mode(model), torch.no_grad(), _quiet(), without_fused_attention():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle("aten::einsum", _count_einsum)
        analysis.set_op_handle("aten::matmul", partial(_count_matmul, left_out))
        analysis.set_op_handle("aten::_convolution_mode", _count_padded_convolution)
        for name, rule in recurrent_rules(own).items():
            analysis.set_op_handle(name, rule)
        yield analysis, left_out, own


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of batched matrix products, and of multiplications where an `einsum` has a sum over one element.

    Such a sum runs as a multiplication element by element.
    """

    def __init__(self, equation: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0
        self._sums = sums_over_shared(equation)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ == "bmm":
            self.flops += int(args[0].numel() * args[1].shape[-1])
        elif func.overloadpacket.__name__ == "mul" and self._sums:
            self.flops += int(output.numel())
        return output


def _count_einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """Counts an `einsum` by running it on tensors without values; `inputs` are nodes of a traced graph."""
    equation = inputs[0].toIValue()
    shapes = [operand.type().sizes() for operand in inputs[1].node().inputs()]
    with _Products(equation) as products:
        torch.einsum(equation, [torch.empty(shape, device="meta") for shape in shapes])
    flops: int = products.flops
    return flops


def _count_matmul(left_out: Counter[str], inputs: list[Any], outputs: list[Any]) -> float:
    """Counts `@` as fvcore does, except for products with a vector, where it fails: they count as zero, as `mv` does.

    Args:
        left_out: Collects the products that count as zero.
        inputs: Nodes of a traced graph.
        outputs: Nodes of a traced graph.
    """
    from fvcore.nn.jit_handles import matmul_flop_jit

    left, right = (len(operand.type().sizes()) for operand in inputs)
    if right == 1 or (left == 1 and right > 2):
        left_out["aten::mv"] += 1
        return 0.0
    return float(matmul_flop_jit(inputs, outputs))


def _count_padded_convolution(inputs: list[Any], outputs: list[Any]) -> int:
    """Counts a convolution whose padding is a word (`"same"`); `inputs` and `outputs` are nodes of a traced graph."""
    flops: int = prod(inputs[1].type().sizes()) * prod(outputs[0].type().sizes()[2:]) * inputs[0].type().sizes()[0]
    return flops


def count_params(model: nn.Module) -> int:
    """Counts the parameters of a network, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings of fvcore's import and tracing: deprecated parts of TorchScript, constant shapes.

    None of them affects the count.
    """
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
