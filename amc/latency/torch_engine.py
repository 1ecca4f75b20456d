"""Timing networks and their operators in PyTorch, without a graph compiler."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from amc.latency.device_script import clock_for, compared, in_turn, percentiles, processor_flags, processor_name
from amc.runtime.call import call, tensors_in
from amc.runtime.threads import computing_with

_VIEWS = frozenset(
    {"view", "reshape", "transpose", "t", "permute", "expand", "detach", "unsqueeze", "squeeze", "slice"}
)
"""Operators that only change views: their time is overhead, which the time of the whole network includes."""


class OperatorTimes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times every operator that a network runs, below autograd."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Starts without times."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, float, list[int]]] = []
        self._clock = clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator and records its name, its seconds, and the lengths of its axes."""
        start = self._clock()
        result = func(*args, **(kwargs or {}))
        seconds = self._clock() - start
        kind = func.overloadpacket.__name__
        if kind not in _VIEWS:
            tensors = [*tensors_in([list(args), kwargs or {}]), *tensors_in(result)]
            self.found.append((kind, seconds, [int(n) for tensor in tensors for n in tensor.shape]))
        return result


class TorchEngine:
    """Networks in PyTorch on the CPU, operator by operator."""

    name = "torch"

    def __init__(self, threads: int, example: Any) -> None:
        """Takes the number of threads, and the input that all networks are run on."""
        self.threads, self._example = threads, example

    def open(self, model: nn.Module) -> Callable[[], object]:
        """Returns what runs a network once."""
        return partial(call, model.eval(), self._example)

    def compare(
        self,
        dense: Callable[[], object],
        network: nn.Module,
        rounds: int,
        clock: Callable[[], float] | None = None,
    ) -> dict[str, Any]:
        """Times a network and the dense one in turn, and the network's operators; see `device_script.Engine`."""
        clock = clock or clock_for(self.threads)
        run, traces = self.open(network), list[OperatorTimes]()

        def traced() -> None:
            with OperatorTimes(clock) as times:
                run()
            traces.append(times)

        with torch.no_grad(), computing_with(self.threads):
            times = in_turn([dense, run, traced], rounds, clock)
        return {**compared(times[0], times[1]), "operators": _operators(traces)}


def describe_device(threads: int) -> dict[str, Any]:
    """Describes the device and the engine, as in the profile."""
    return {
        "engine": TorchEngine.name,
        "threads": threads,
        "precision": "float32",
        "processor": processor_name(),
        "flags": processor_flags(),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }


def _operators(traces: list[OperatorTimes]) -> list[dict[str, Any]]:
    """Returns the operators of a network with their times over all traces, in the order of execution."""
    runs = zip(*(trace.found for trace in traces), strict=True)
    return [
        {
            "name": f"{number}:{same[0][0]}",
            "kind": same[0][0],
            "us": percentiles([1e6 * seconds for _, seconds, _ in same]),
            "shape": same[0][2],
        }
        for number, same in enumerate(runs)
    ]
