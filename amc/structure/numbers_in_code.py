"""Whole numbers in a module's own code, as in `x.view(-1, 16 * 5 * 5)`.

The number is written as `"forward()[2]=400"`: the third number in the source of `forward`, which is 400 there. A method
that is overridden, and reached through `super()`, is `"super().forward()[2]=400"`. A module one of whose numbers is set
becomes an instance of a twin of its class; see `amc.structure.twin_classes`. The code that it runs is still that of its
own class, with other numbers in these places.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn
from torch._jit_internal import FunctionModifiers

from amc.errors import StructureError
from amc.structure.method_source import MethodSource, read_method, with_numbers
from amc.structure.twin_classes import Change, change_class, derived_class, original_class

NUMBERS = "numbers_in_code"
"""Attribute in which a module holds the numbers that are not those of its class."""


@dataclass(frozen=True)
class _Method:
    """A method that a module runs: `forward`, and what is called from there."""

    owner: type
    function: FunctionType
    source: MethodSource
    prefix: str

    def names(self) -> list[str]:
        """Returns the names of its numbers."""
        return [f"{self.prefix}[{place}]={number.value}" for place, number in enumerate(self.source.numbers)]


@dataclass(frozen=True)
class _Numbers(Change):
    """Methods that take some of their numbers from their module."""

    names: tuple[str, ...]

    def applied(self, base: type[nn.Module]) -> type[nn.Module]:
        """Returns the class with changed methods.

        Those of a parent class are changed in a class that comes before it in the order of `super()`.

        Raises:
            StructureError: If the code has no such number, as after it was edited.
        """
        changed: dict[type, dict[str, Any]] = defaultdict(dict)
        left = set(self.names)
        for method in _methods(base):
            chosen = {place: name for place, name in enumerate(method.names()) if name in left}
            if chosen:
                left -= set(chosen.values())
                function = with_numbers(method.function, chosen, NUMBERS)
                # TorchScript would compile the source, with the numbers that are written there.
                function._torchscript_modifier = FunctionModifiers.UNUSED  # type: ignore[attr-defined]
                changed[method.owner][function.__name__] = function
        if left:
            raise StructureError(f"the code of {base.__name__} has no {min(left)}; {_REMEDY}")
        own = changed.pop(base, {})
        parents = [derived_class(kind, (), changed[kind]) for kind in base.__mro__ if kind in changed]
        return derived_class(base, parents, own)


_REMEDY = "use the code from which the network was pruned"


def is_in_code(attribute: str) -> bool:
    """Returns whether a name is that of a number in the code."""
    return "(" in attribute


def numbers_in_code(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yields the numbers in the code that a module runs, by name, with the values that it has for them."""
    held = vars(module).get(NUMBERS, {})
    for method in _methods(original_class(module)):
        for name, number in zip(method.names(), method.source.numbers, strict=True):
            yield name, held.get(name, number.value)


def running_numbers(module: nn.Module) -> Iterator[dict[str, int]]:
    """Yields the numbers in the code that a module is running, as `numbers_in_code` does, the innermost first.

    For every method that is running, those of the statement that it is at come first, then the others.
    """
    values, methods = dict(numbers_in_code(module)), list(_methods(original_class(module)))
    frame = sys._getframe(1) if values else None
    while frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        for method in methods:
            if method.source.runs(file, line):
                named = list(zip(method.names(), method.source.numbers, strict=True))
                at = {name for name, number in named if number.lines[0] <= line <= number.lines[1]}
                yield {name: values[name] for name, _ in named if name in at}
                yield {name: values[name] for name, _ in named if name not in at}
        frame = frame.f_back


def set_number_in_code(module: nn.Module, name: str, value: int) -> None:
    """Sets a number in the code of a module, in place and for this module alone.

    Raises:
        StructureError: If its code has no such number.
    """
    numbers = {**vars(module).get(NUMBERS, {}), name: value}
    change_class(module, _Numbers(tuple(sorted(numbers))))
    setattr(module, NUMBERS, numbers)


def _methods(base: type[nn.Module]) -> Iterator[_Method]:
    """Yields the methods of a class whose code may be changed: `forward`, and those that it calls on its object."""
    todo, seen = [("forward", 0)], set()
    while todo:
        name, depth = todo.pop()
        owners = [kind for kind in base.__mro__ if name in vars(kind)]
        if (name, depth) in seen or depth >= len(owners) or name.startswith("__"):
            continue
        seen.add((name, depth))
        owner = owners[depth]
        function = vars(owner)[name]
        if owner.__module__.partition(".")[0] == "torch" or not isinstance(function, FunctionType):
            continue
        source = read_method(function)
        if source is None:
            continue
        yield _Method(owner, function, source, f"{'super().' * depth}{name}()")
        todo += [(called, 0) for called in sorted(source.own_calls)]
        behind = base.__mro__[: base.__mro__.index(owner) + 1]
        todo += [(called, sum(called in vars(kind) for kind in behind)) for called in sorted(source.parent_calls)]
