"""Layers whose output is read by rectifiers alone, so that nobody sees how far below zero it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc.pruning.recovery.dense_targets import Job
from amc.runtime.call import call, tensors_in
from amc.runtime.hooks import hooked
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_sums import OperatorCall

_RECTIFIERS = {"aten.relu.default", "aten.relu_.default"}
_FROM_ZERO = {f"aten.{name}.default" for kind in ("hardtanh", "clamp", "clamp_min") for name in (kind, f"{kind}_")}
"""Rectifiers where their first number is zero; what some of them cut off above is left out of account."""


def rectified(model: nn.Module, jobs: Mapping[str, Job], images: Tensor) -> frozenset[str]:
    """Returns the layers whose output (behind its batch norm and residual sum) only rectifiers read.

    Args:
        model: The network, in evaluation mode.
        jobs: The layers, by name.
        images: A small batch.
    """
    watch = _ReaderWatch(jobs)
    with hooked(watch.hooks(model)), torch.no_grad():
        operators = OperatorWatch(watch.report)
        with operators.watching():
            output = call(model, images)
    watch.read_by("the network's output", tensors_in(output))
    return frozenset(watch.found())


class _ReaderWatch:
    """Notes what reads the outputs of layers."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        """Starts with nothing noted."""
        self._additions = {job.residual.addition: name for name, job in jobs.items() if job.residual}
        self._outlets = {job.layer.batch_norm or name: name for name, job in jobs.items() if job.residual is None}
        self._held: dict[int, tuple[str, Tensor]] = {}
        self._others: set[str] = set()
        self._rectified: set[str] = set()

    def hooks(self, model: nn.Module) -> list[Any]:
        """Hooks up to what the layers end in."""
        return [
            model.get_submodule(outlet).register_forward_hook(self._holds(name))
            for outlet, name in self._outlets.items()
        ]

    def report(self, step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        """Notes an operator that reads one of the outputs."""
        read = tensors_in(args)
        if _is_rectifier(step.kind, args):
            for tensor in read:
                name, _ = self._held.get(id(tensor), ("", None))
                self._rectified.add(name)
                if output is tensor:  # in place: who reads it from here on reads what is rectified
                    self._held.pop(id(tensor), None)
        else:
            self.read_by(step.kind, read)
        if step in self._additions and isinstance(output, Tensor):
            self._held[id(output)] = (self._additions[step], output)

    def read_by(self, kind: str, tensors: Sequence[Tensor]) -> None:
        """Notes that something else reads these tensors."""
        self._others |= {self._held[id(tensor)][0] for tensor in tensors if id(tensor) in self._held}

    def found(self) -> set[str]:
        """Returns the layers that rectifiers read, and nothing else does."""
        return self._rectified - self._others - {""}

    def _holds(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._held[id(output)] = (name, output)

        return hook


def _is_rectifier(kind: str, args: Sequence[Any]) -> bool:
    """Returns whether an operator makes everything below zero zero."""
    return kind in _RECTIFIERS or (kind in _FROM_ZERO and len(args) > 1 and args[1] == 0)
