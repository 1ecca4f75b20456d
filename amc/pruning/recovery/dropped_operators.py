"""Numbering operators where blocks were dropped as if they had not been, so that sums behind them are found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from amc.runtime.call import call
from amc.runtime.hooks import hooked
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_sums import OperatorCall

Operators = Mapping[str, Counter[str]]
"""How many operators of each kind a module runs, by its name."""


def operators_of(dense: nn.Module, modules: Mapping[str, int], images: Tensor) -> Operators:
    """Counts what modules run in a forward pass; of several calls the last counts.

    Args:
        dense: The dense network, in evaluation mode.
        modules: Their names, none within another.
        images: A small batch.
    """
    if not modules:
        return {}
    found: dict[str, Counter[str]] = {}
    running: list[str] = []

    def report(step: OperatorCall, args: Sequence[Any], output: Any) -> None:
        if running:
            found[running[-1]][step.kind] += 1

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            running.append(name)
            found[name] = Counter()

        return hook

    hooks: list[RemovableHandle] = []
    for name in modules:
        hooks.append(dense.get_submodule(name).register_forward_pre_hook(enter(name)))
        hooks.append(dense.get_submodule(name).register_forward_hook(lambda *_: running.pop() and None))
    with hooked(hooks), torch.no_grad(), OperatorWatch(report).watching():
        call(dense, images)
    return found


def stand_ins(pruned: nn.Module, watch: OperatorWatch, operators: Operators) -> list[RemovableHandle]:
    """Lets a watch count what dropped modules ran in the dense network in place of what runs there now.

    Args:
        pruned: The network without them.
        watch: Watches its forward pass.
        operators: What `operators_of` has counted.

    Returns:
        The hooks, to be removed after the pass.
    """

    def start(*_: Any) -> None:
        watch.paused = True

    def end(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            watch.paused = False
            watch.skip(operators[name])

        return hook

    hooks = []
    for name in operators:
        hooks.append(pruned.get_submodule(name).register_forward_pre_hook(start))
        hooks.append(pruned.get_submodule(name).register_forward_hook(end(name)))
    return hooks
