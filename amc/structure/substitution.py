"""Running a network with other tensors in place of its own, large ones made where they are used.

Filling a cut copy of a network with 600 million weights takes seconds, most of them spent on fresh memory. Making one
tensor at a time reuses the same small piece of memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amc.runtime.call import named_tensors
from amc.runtime.hooks import hooked

Users = Mapping[str, Collection[str]]
"""The modules that use a parameter or buffer while they run, by its name."""

LARGE = 1 << 18
"""Elements from which a tensor is made on demand."""


@dataclass(frozen=True)
class Substitute:
    """What takes the place of a parameter or buffer.

    Attributes:
        shape: Its shape.
        make: Returns it.
    """

    shape: tuple[int, ...]
    make: Callable[[], Tensor]


@contextmanager
def substituted(model: nn.Module, substitutes: Mapping[str, Substitute], users: Users | None = None) -> Iterator[None]:
    """Gives parameters and buffers other values and shapes temporarily; shared ones change everywhere.

    (`torch.func.functional_call` does not put back what modules with several names hold.)

    Args:
        model: The network.
        substitutes: What takes the place of its tensors, by their names.
        users: With it, large tensors have their values only while one of their users runs, and are NaN, in the right
            shape, otherwise. Without it all have them all the time.
    """
    state = named_tensors(model)
    before = {name: state[name].data for name in substitutes}
    forget_computed(model)
    with ExitStack() as stack:
        stack.callback(forget_computed, model)
        stack.callback(_restore, state, before)
        on_demand = {name for name in substitutes if users is not None and is_large(before[name])}
        for name in substitutes.keys() - on_demand:
            state[name].data = substitutes[name].make()
        if users is not None:
            stack.enter_context(_on_demand(model, {name: state[name] for name in on_demand}, substitutes, users))
        yield


def _restore(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        state[name].data = value


def is_large(tensor: Tensor) -> bool:
    """Returns whether a tensor would be made on demand."""
    return tensor.numel() >= LARGE and tensor.is_floating_point()


@contextmanager
def _on_demand(
    model: nn.Module, tensors: Mapping[str, Tensor], substitutes: Mapping[str, Substitute], users: Users
) -> Iterator[None]:
    """Fills tensors when the first of their users starts, and empties them when the last one ends."""
    running: Counter[str] = Counter()
    empty = {name: tensor.new_full((), torch.nan).expand(substitutes[name].shape) for name, tensor in tensors.items()}
    _restore(tensors, empty)

    def start(names: Sequence[str]) -> None:
        for name in names:
            if not running[name]:
                tensors[name].data = substitutes[name].make()
            running[name] += 1

    def end(names: Sequence[str]) -> None:
        for name in names:
            running[name] -= 1
            if not running[name]:
                tensors[name].data = empty[name]

    handles = []
    for module, names in _by_user(tensors, users).items():
        target = model.get_submodule(module)
        handles.append(target.register_forward_pre_hook(_without_arguments(start, names)))
        handles.append(target.register_forward_hook(_without_arguments(end, names), always_call=True))
    with hooked(handles):
        yield


def _by_user(names: Collection[str], users: Users) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for module in users.get(name, ()):
            found.setdefault(module, []).append(name)
    return found


def _without_arguments(action: Callable[[Sequence[str]], None], names: Sequence[str]) -> Callable[..., None]:
    """Returns a hook that acts on names, ignoring the module's arguments."""

    def hook(*_: Any) -> None:
        action(names)

    return hook


def forget_computed(model: nn.Module) -> None:
    """Makes modules drop cached values that they have computed from their weights, such as attention biases.

    They do so in their own method that switches to training mode; all flags are left as they are.
    """
    for module in model.modules():
        if type(module).train is not nn.Module.train:
            flags = [(each, each.training) for each in module.modules()]
            module.train(True)
            for each, flag in flags:
                each.training = flag
