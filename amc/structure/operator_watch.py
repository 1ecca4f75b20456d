"""Watching the operators of a forward pass, numbered as a trace of the network numbers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from amc.runtime.call import without_fused_attention
from amc.structure.residual_sums import WHOLE_FUNCTIONS, OperatorCall, OperatorCounter, kind_of


class _FunctionWatch(TorchFunctionMode):
    """Counts certain functions as one operator."""

    def __init__(self, watch: OperatorWatch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of PyTorch."""
        name = getattr(func, "__name__", "")
        if name not in WHOLE_FUNCTIONS:
            return func(*args, **(kwargs or {}))
        with self._watch.pause():
            output = func(*args, **(kwargs or {}))
        self._watch.ran(name, args, output)
        return output


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Numbers the operators of a forward pass, as a trace of the network does, and reports them.

    Attributes:
        paused: While set, operators pass uncounted.
    """

    def __init__(self, report: Callable[[OperatorCall, Sequence[Any], Any], None]) -> None:
        """Reports every operator as `report(call, arguments, output)`."""
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._report = report
        self._counter = OperatorCounter()
        self._functions = _FunctionWatch(self)
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator and reports it."""
        kind = kind_of(func, kwargs or {})
        if not self.paused:
            args = self.arguments(self._counter.following(kind), func, args)
        output = func(*args, **(kwargs or {}))
        self.ran(kind, args, output)
        return output

    def arguments(self, step: OperatorCall, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the positional arguments that an operator runs with: those that it was called with."""
        return args

    def ran(self, kind: str, args: Sequence[Any], output: Any) -> None:
        """Reports an operator, or a function that counts as one."""
        if not self.paused:
            with self.pause():
                self._report(self._counter.next(kind), args, output)

    def skip(self, kinds: Mapping[str, int]) -> None:
        """Counts operators that do not run here, by kind."""
        self._counter.skip(kinds)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches one forward pass."""
        with without_fused_attention(), self._functions, self:
            yield

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Takes the watch off while a hook works between two operators, so that the hook is not slowed."""
        with ExitStack() as back:
            for mode in (self, self._functions):
                mode.__exit__(None, None, None)  # type: ignore[no-untyped-call, unused-ignore]
                back.callback(mode.__enter__)
            yield

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Lets operators pass uncounted."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before
