"""Counting the costs of a network as it stands."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _KeywordInputs(nn.Module):
    """Calls a network with keyword arguments, as fvcore passes positional ones only."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: Tensor) -> Any:
        return self.model(**dict(zip(self.names, values, strict=True)))


def count_flops(model: nn.Module, example_input: Tensor | tuple[Any, ...] | Mapping[str, Tensor]) -> int:
    """Counts the FLOPs of one forward pass with fvcore: one fused multiply-add is one.

    The network is run in evaluation mode, without gradients, and left in the mode that it was in. Operators that
    fvcore does not know (most element-wise ones) count nothing. `einsum`, which fvcore counts to four digits, counts
    as the matrix products that it runs.

    Args:
        model: The network.
        example_input: The input, for example of shape `(1, C, H, W)`; a tuple of positional inputs; or keyword inputs.

    Returns:
        FLOPs for the whole input.
    """
    if isinstance(example_input, Mapping):
        model, inputs = _KeywordInputs(model, tuple(example_input)), tuple(example_input.values())
    else:
        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    with _evaluation_mode(model), torch.no_grad(), _quiet():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle("aten::einsum", _count_einsum)
        return int(analysis.total())


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of batched matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "bmm":
            self.flops += int(args[0].numel() * args[1].shape[-1])
        return func(*args, **(kwargs or {}))


def _count_einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """Counts an `einsum` by running it on tensors without values; `inputs` are nodes of a traced graph."""
    equation = inputs[0].toIValue()
    shapes = [operand.type().sizes() for operand in inputs[1].node().inputs()]
    with _Products() as products:
        torch.einsum(equation, [torch.empty(shape, device="meta") for shape in shapes])
    flops: int = products.flops
    return flops


def count_params(model: nn.Module) -> int:
    """Counts the parameters of a network, each shared one once."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts every module in evaluation mode and back in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what fvcore's import and its tracing warn of: deprecated parts of TorchScript, constant shapes.

    None of it changes the count.
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
