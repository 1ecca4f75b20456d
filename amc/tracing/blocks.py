"""Residual blocks: the branches of a trace that can be dropped, tried before they are offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from amc.runtime.call import ExampleInput, call, tensors_in
from amc.structure.model_structure import ChannelGroup, owner_of
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_blocks import ResidualBlock, is_within, without_modules
from amc.structure.residual_sums import OperatorCall
from amc.tracing.branches import Branch
from amc.tracing.record import Trace
from amc.tracing.trial import agree


def offered(trace: Trace, example_input: ExampleInput) -> tuple[ChannelGroup, ...]:
    """Returns the residual blocks of a network that was traced, each as a group of one channel.

    A block is offered if the network without its modules computes what the network computes in which the branch is
    multiplied by zero where it is added.

    Args:
        trace: A finished run that has recorded branches.
        example_input: What it was given.
    """
    assert trace.branches is not None
    found = []
    for branch in trace.branches.branches():
        values = {name: trace.branches.values[name] for name in branch.modules}
        layers = [owner_of(weight) for weight in trace.layers if is_within(weight, values)]
        if layers and min(values.values()) >= 0 and _stands_alone(trace, branch):
            block = ResidualBlock(tuple(values.items()), branch.addition, branch.place)
            found.append(ChannelGroup("", 1, (), tuple(dict.fromkeys(layers)), (), block=block))
    return _named(_Trial(trace.model, example_input).accepted(found), trace)


def _stands_alone(trace: Trace, branch: Branch) -> bool:
    """Returns whether nothing outside a branch uses its modules or their tensors, under whatever name."""
    names: dict[int, list[str]] = {}
    for modules in (
        trace.model.named_modules(remove_duplicate=False),
        trace.model.named_parameters(remove_duplicate=False),
        trace.model.named_buffers(remove_duplicate=False),
    ):
        for name, held in modules:
            names.setdefault(id(held), []).append(name)
    shared = [found for found in names.values() if len({is_within(name, branch.modules) for name in found}) > 1]
    users = [user for name, found in trace.users.items() if is_within(name, branch.modules) for user in found]
    return not shared and all(is_within(user, branch.modules) for user in users)


def _named(blocks: Sequence[ChannelGroup], trace: Trace) -> tuple[ChannelGroup, ...]:
    """Names each block after the module that holds all that goes; of several in one, after what goes itself."""
    taken = {owner_of(weight) for weight in trace.layers}
    common = [_common([name for name, _ in _block(group).modules]) for group in blocks]
    named = []
    for group, name in zip(blocks, common, strict=True):
        if not name or common.count(name) > 1:
            name = max((name for name, _ in _block(group).modules), key=lambda each: _weights(trace, each))
        name = f"{name}#block" if name in taken else name
        taken.add(name)
        named.append(ChannelGroup(name, 1, (), group.writers, (), block=group.block))
    return tuple(named)


def _block(group: ChannelGroup) -> ResidualBlock:
    assert group.block is not None
    return group.block


def _common(names: Sequence[str]) -> str:
    """Returns the module that contains all of some modules, or is the only one."""
    parts = [name.split(".") for name in names]
    alike = takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
    return ".".join(level[0] for level in alike)


def _weights(trace: Trace, module: str) -> int:
    return sum(parameter.numel() for parameter in trace.model.get_submodule(module).parameters())


@dataclass
class _Trial:
    """Drops blocks and compares with the network in which their branches are zero.

    Attributes:
        model: The dense network, in evaluation mode; it is left as it is.
        example_input: One example input.
    """

    model: nn.Module
    example_input: ExampleInput

    def accepted(self, blocks: list[ChannelGroup]) -> list[ChannelGroup]:
        """Returns the blocks that can be dropped, halving them until each failure is pinned to one."""
        if not blocks or self._works(blocks):
            return blocks
        if len(blocks) == 1:
            return []
        middle = len(blocks) // 2
        return [*self.accepted(blocks[:middle]), *self.accepted(blocks[middle:])]

    @torch.no_grad()
    def _works(self, groups: Sequence[ChannelGroup]) -> bool:
        blocks = [_block(group) for group in groups]
        masking = _Masking({block.addition: block.branch for block in blocks})
        with torch.random.fork_rng(devices=[]), masking.watching():
            expected = [tensor.clone() for tensor in tensors_in(call(self.model, self.example_input))]
        modules = {name: values for block in blocks for name, values in block.modules}
        try:
            with without_modules(self.model, modules), torch.random.fork_rng(devices=[]):
                found = tensors_in(call(self.model, self.example_input))
        except Exception:  # whatever the code between the modules raises
            return False
        return agree(found, expected)


class _Masking(OperatorWatch):  # type: ignore[no-untyped-call, unused-ignore]
    """Makes summands of some additions zero."""

    def __init__(self, branches: Mapping[OperatorCall, int]) -> None:
        super().__init__(lambda *_: None)
        self._branches = branches

    def arguments(self, step: OperatorCall, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the arguments with the branch, where there is one, zero."""
        place = self._branches.get(step)
        if place is None:
            return args
        if place == 0 and func._schema.is_mutable:
            args[0].zero_()
            return args
        return tuple(torch.zeros_like(arg) if at == place else arg for at, arg in enumerate(args))
