"""What watches a network while it is traced: its operators, its functions and its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from amc.structure.rules import apply_rule
from amc.structure.skipping import Compute
from amc.structure.tracer import Trace


class ShadowMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies the coupling rule of every operator that runs."""

    def __init__(self, trace: Trace, run_operator: Compute) -> None:
        """Creates the mode.

        Args:
            trace: Where the rules write down what they see.
            run_operator: Runs an operator, or skips it.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace, self._run_operator = trace, run_operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator, then its rule."""
        kwargs = kwargs or {}
        outputs = self._run_operator(func, args, kwargs)
        apply_rule(self.trace, func, args, kwargs, outputs)
        return outputs


_RECURRENT, _POWERS = ("lstm", "gru", "rnn_tanh", "rnn_relu"), ("linalg_matrix_power", "matrix_power")
_PRODUCTS = ("tensordot", "inner", "linalg_multi_dot", "chain_matmul", "scaled_dot_product_attention")
UNCOUNTED = frozenset({*_RECURRENT, *_POWERS, *_PRODUCTS})
"""Functions of PyTorch that fvcore sees as one operator, and counts as nothing, though they run matrix products."""


class FunctionMode(TorchFunctionMode):
    """Notes which functions run operators that fvcore counts otherwise than by themselves.

    Adaptive pooling counts and a plain mean does not, though both run `aten.mean`; the products inside of `UNCOUNTED`
    do not count.
    """

    def __init__(self, trace: Trace) -> None:
        """Creates the mode.

        Args:
            trace: Where `in_adaptive_pool`, `in_uncounted` and `in_instance_norm` are set while such functions run.
        """
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of PyTorch."""
        trace, name = self.trace, getattr(func, "__name__", "")
        outer = trace.in_adaptive_pool, trace.in_uncounted, trace.in_instance_norm
        trace.in_adaptive_pool = outer[0] or name == "adaptive_avg_pool2d"
        trace.in_uncounted = outer[1] or name in UNCOUNTED
        trace.in_instance_norm = outer[2] or name == "instance_norm"
        try:
            return func(*args, **(kwargs or {}))
        finally:
            trace.in_adaptive_pool, trace.in_uncounted, trace.in_instance_norm = outer


@contextmanager
def module_names(trace: Trace) -> Iterator[None]:
    """Keeps the stack of running modules in `trace.modules`."""

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        trace.modules.pop()

    handles = []
    for name, module in trace.model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _module, _args, name=name: trace.modules.append(name)))
        handles.append(module.register_forward_hook(leave))
    trace.modules.append("")
    try:
        yield
    finally:
        trace.modules.clear()
        for handle in handles:
            handle.remove()
