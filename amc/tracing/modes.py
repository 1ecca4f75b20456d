"""The observers of a network while it is traced: of its operators, its functions and its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from amc.runtime.call import tensors_in
from amc.runtime.einsum import sums_over_shared
from amc.runtime.hooks import hooked
from amc.structure.residual_sums import WHOLE_FUNCTIONS
from amc.tracing.record import Trace
from amc.tracing.rules import apply_rule
from amc.tracing.rules_compute import SUMMING_EINSUM
from amc.tracing.skipping import Compute
from amc.tracing.views import memory_of

_SHAPES = (Tensor.shape.__get__, Tensor.size)  # type: ignore[attr-defined]


class ShadowMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies the coupling rule of every operator that runs."""

    def __init__(self, trace: Trace, run_operator: Compute) -> None:
        """Creates the mode.

        Args:
            trace: Where the rules record what they see.
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


class FunctionMode(TorchFunctionMode):
    """Records which functions of PyTorch run, and the shapes of which tensors are read.

    fvcore counts some functions as a whole, not by the operators that they run.
    """

    def __init__(self, trace: Trace) -> None:
        """Creates the mode.

        Args:
            trace: Where the functions are noted while they run.
        """
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of PyTorch."""
        if func in _SHAPES:
            self.trace.measured |= memory_of(args)
            self.trace.ask(args[0])
        running = (self.trace.functions, self.trace.arguments)
        running[0].append(_name_of(func, args))
        running[1].append(tensors_in((args, kwargs)))
        try:
            output = func(*args, **(kwargs or {}))
        finally:
            for stack in running:
                stack.pop()
        name = getattr(func, "__name__", "")
        if self.trace.counting and name in WHOLE_FUNCTIONS and WHOLE_FUNCTIONS.isdisjoint(self.trace.functions):
            self.trace.sums.ran(name, args, output)
        return output


def _name_of(func: Any, args: Any) -> str:
    """Returns the name of a function of PyTorch; for `einsum`, whether it is one that sums as matrix products do."""
    name: str = getattr(func, "__name__", "")
    sums = name == "einsum" and isinstance(args[0], str) and sums_over_shared(args[0])
    return SUMMING_EINSUM if sums else name


@contextmanager
def module_names(trace: Trace) -> Iterator[None]:
    """Keeps the stack of running modules in `trace.modules`."""

    def enter(name: str) -> None:
        trace.modules.append(name)
        if trace.counting:
            trace.sums.started(name)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        name = trace.modules.pop()
        if trace.counting:
            trace.sums.returned(name, output)
            if trace.branches is not None:
                trace.branches.returned(name, output)

    handles = []
    for name, module in trace.model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _module, _args, name=name: enter(name)))
        handles.append(module.register_forward_hook(leave))
    trace.modules.append("")
    with hooked(handles):
        try:
            yield
        finally:
            trace.modules.clear()
