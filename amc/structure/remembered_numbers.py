"""Whole numbers that modules remember: in attributes, in tuples and lists, and in settings that they hold.

An attribute is written as `"name"`, `"name[place]"` for one element of a tuple or list, or `"name.field"` for a number
in an object or a dictionary, as in `self.config.hidden_size`. Numbers in the code have names of their own, see
`amc.structure.numbers_in_code`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from torch import nn

from amc.structure.numbers_in_code import NUMBERS, is_in_code, set_number_in_code


def attribute_name(attribute: str) -> str:
    """Returns the name of the attribute in which a module holds a number."""
    return NUMBERS if is_in_code(attribute) else attribute.partition("[")[0].partition(".")[0]


def numbers_of(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yields the whole numbers in a module's attributes, tuples and lists."""
    for name, held in vars(module).items():
        if name.startswith("_"):
            continue
        if type(held) is int:
            yield name, held
        elif isinstance(held, (tuple, list)) and all(type(number) is int for number in held):
            yield from ((f"{name}[{place}]", number) for place, number in enumerate(held))


def numbers_in_settings(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yields the whole numbers in objects and dictionaries that a module holds."""
    for name, held in vars(module).items():
        if name.startswith("_"):
            continue
        for field, number in fields_of(held).items():
            if type(number) is int and isinstance(field, str) and field.isidentifier() and not field.startswith("_"):
                yield f"{name}.{field}", number


def fields_of(held: Any) -> Mapping[Any, Any]:
    """Returns what plain settings hold by name; nothing for modules, and for objects that are made in their own way."""
    if isinstance(held, dict):
        return held
    is_made_as_usual = all("__new__" not in vars(kind) for kind in type(held).__mro__[:-1])
    is_plain = isinstance(held, SimpleNamespace) or is_made_as_usual
    return getattr(held, "__dict__", {}) if is_plain and not isinstance(held, nn.Module) else {}


def number_at(module: nn.Module, attribute: str) -> int | None:
    """Returns a number that a module remembers, in the place that `set_number` would set; None if there is none."""
    name = attribute_name(attribute)
    held, inner = vars(module).get(name), attribute[len(name) + 1 :]
    if not inner:
        found = held[0] if isinstance(held, tuple) and len(held) == 1 else held
    elif attribute[len(name)] == ".":
        found = fields_of(held).get(inner)
    else:
        place = int(inner[:-1])
        found = held[place] if isinstance(held, tuple | list) and place < len(held) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def set_number(module: nn.Module, attribute: str, value: int) -> None:
    """Sets a number that a module remembers.

    A tuple, list, object or dictionary is replaced by a changed copy: other modules may hold the same one. Where an
    attribute holds a tuple, `"name"` sets a tuple of one number.
    """
    if is_in_code(attribute):
        set_number_in_code(module, attribute, value)
        return
    name = attribute_name(attribute)
    held, inner = getattr(module, name), attribute[len(name) + 1 :]
    if not inner:
        setattr(module, name, (value,) if isinstance(held, tuple) else value)
    elif attribute[len(name)] == "[":
        place = int(inner[:-1])
        setattr(module, name, type(held)([*held[:place], value, *held[place + 1 :]]))
    else:
        setattr(module, name, _with_field(held, inner, value))


def _with_field(held: Any, field: str, value: int) -> Any:
    """Returns a copy of settings with another number in one field."""
    if isinstance(held, dict):
        changed = copy.copy(held)
        changed[field] = value
        return changed
    twin = copy.copy(held) if isinstance(held, SimpleNamespace) else object.__new__(type(held))
    vars(twin).update(vars(held), **{field: value})  # whatever the class does on the way, as frozen ones
    return twin
