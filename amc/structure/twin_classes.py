"""Modules that run changed code of their own class: they become instances of a twin of it, which has the same name.

A twin survives copies and pickles, which hold the original class and the changes. The module's own state says
everything else.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from torch import nn


@dataclass(frozen=True)
class Change:
    """A change to a class; equal ones make equal twins.

    Attributes:
        order: Where it is made among others; of each kind a twin has one.
    """

    order: ClassVar[int] = 0

    def applied(self, base: type[nn.Module]) -> type[nn.Module]:
        """Returns a new class, derived from `base`, that is changed."""
        raise NotImplementedError


_TWINS: WeakValueDictionary[tuple[type[nn.Module], tuple[Change, ...]], type[nn.Module]] = WeakValueDictionary()


def derived_class(base: type[nn.Module], parents: Sequence[type], members: Mapping[str, Any]) -> type[nn.Module]:
    """Returns a class of the same name that derives from `base`, then `parents`, and is not announced to them.

    They may enter every class in a table of networks by its name, or ask for arguments: with `__init_subclass__`, or in
    their metaclass.

    Args:
        base: The class.
        parents: What comes before the parents of `base` in the order of `super()`.
        members: The attributes of the new class.
    """
    metaclass = type(base)
    made_by = abc.ABCMeta if issubclass(metaclass, abc.ABCMeta) else type
    derived = made_by.__new__(metaclass, base.__name__, (nn.Module,), dict(members))
    try:
        derived.__bases__ = (base, *parents)
    except TypeError:  # objects with slots have another layout in memory
        return made_by.__new__(metaclass, base.__name__, (base, *parents), dict(members))
    return derived


def original_class(module: nn.Module) -> type[nn.Module]:
    """Returns the class that a module had before it became a twin's."""
    return _parts(type(module))[0]


def change_class(module: nn.Module, change: Change) -> None:
    """Makes a change to a module's class, in place; it takes the place of an earlier one of its kind."""
    base, changes = _parts(type(module))
    others = [held for held in changes if type(held) is not type(change)]
    module.__class__ = _twin(base, tuple(sorted([*others, change], key=lambda held: held.order)))


def restore_class(module: nn.Module, kind: type[Change]) -> None:
    """Takes back a change to a module's class, in place."""
    base, changes = _parts(type(module))
    left = tuple(held for held in changes if type(held) is not kind)
    module.__class__ = _twin(base, left) if left else base


def _parts(kind: type[nn.Module]) -> tuple[type[nn.Module], tuple[Change, ...]]:
    """Returns the class that another is the twin of, and its changes."""
    parts: tuple[type[nn.Module], tuple[Change, ...]] = vars(kind).get("_twin_of", (kind, ()))
    return parts


def _twin(base: type[nn.Module], changes: tuple[Change, ...]) -> type[nn.Module]:
    """Returns the twin of a class with some changes."""
    found = _TWINS.get((base, changes))
    if found is None:
        found = base
        for change in changes:
            found = change.applied(found)
        members = {"_twin_of": (base, changes), "__reduce_ex__": _reduced}
        names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
        for name, value in {**members, **names}.items():
            setattr(found, name, value)
        _TWINS[base, changes] = found
    return found


def _reduced(self: nn.Module, protocol: Any) -> Any:
    get_state: Callable[[], Any] = getattr(self, "__getstate__", lambda: vars(self))  # all have it from Python 3.11 on
    return _empty, _parts(type(self)), get_state()


def _empty(base: type[nn.Module], changes: tuple[Change, ...]) -> nn.Module:
    """Makes a module of a twin's class without calling its constructor: for copies and pickles."""
    twin = _twin(base, changes)
    return twin.__new__(twin)
