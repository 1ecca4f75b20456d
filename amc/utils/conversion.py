"""Values as users write them, converted to the types that options ask for."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from amc.errors import ConfigurationError, UnknownNameError

T = TypeVar("T")
SEEDS = 2**32
"""Seeds are below it: NumPy's generators accept no others."""
_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
"""Numbers such as 1e-3: PyYAML takes those without a dot, or without a sign, for text."""
_WORDS = {
    type(None): "unset",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list such as [a, b]",
    Sequence: "a list such as [a, b]",
    Mapping: "values by name such as {a: 1}",
    dict: "values by name such as {a: 1}",
}


def from_mapping(cls: type[T], record: Mapping[str, Any], path: str = "") -> T:
    """Builds a configuration from nested dictionaries, as YAML yields them.

    Args:
        cls: The dataclass to build.
        record: Values by field name; missing ones keep their default.
        path: Where `record` stands, for messages; ends with a dot unless empty.

    Raises:
        UnknownNameError: If a name is not an option.
        ConfigurationError: If a value has the wrong type.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name not in hints:
            raise UnknownNameError("option", f"{path}{name}", [f"{path}{hint}" for hint in hints])
        values[name] = convert(hints[name], value, f"{path}{name}")
    for entry in dataclasses.fields(typing.cast(Any, cls)):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.init and entry.name not in values:
            raise ConfigurationError(f"{path}{entry.name} must be given, and is missing")
    return cls(**values)


def convert(hint: Any, value: Any, name: str) -> Any:
    """Returns a value as the type that an option asks for.

    Args:
        hint: The type: a class, a union of classes, a `Literal`, `tuple[X, ...]`, `tuple[X, Y]`, `Sequence[X]`,
            `Mapping[str, X]` or a dataclass. Values for any other are returned as they are.
        value: What the user wrote, as YAML or Python have it.
        name: The option, for messages.

    Raises:
        UnknownNameError: If a name is none of the valid ones.
        ConfigurationError: If the value has another type, or is a number that is not finite.
    """
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{name} must be a section with options of its own, not {value!r}")
        return from_mapping(typing.cast(type, hint), value, f"{name}.")
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise UnknownNameError(name, str(value), typing.get_args(hint))
        return value
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    allowed = {typing.get_origin(choice) or choice: choice for choice in choices}
    if not all(isinstance(kind, type) for kind in allowed) or {Any, inspect.Parameter.empty} & allowed.keys():
        return value
    several = allowed.get(tuple) or allowed.get(Sequence)
    if several is not None and isinstance(value, list | tuple):
        return _sequence(typing.get_args(several) or (Any, ...), value, name)
    by_name = allowed.get(Mapping) or allowed.get(dict)
    if by_name is not None and isinstance(value, Mapping):
        inner = (*typing.get_args(by_name), Any, Any)[1]
        return {
            _plain({str: str}, key, f"each name in {name}"): convert(inner, item, f"{name} of {key}")
            for key, item in value.items()
        }
    return _plain(allowed, value, name)


def conform(options: Any, path: str = "") -> None:
    """Converts every field of a dataclass to its type, in place; for `__post_init__`, frozen or not.

    Args:
        options: The dataclass.
        path: Where it stands, for messages; ends with a dot unless empty.

    Raises:
        UnknownNameError: If a name is none of the valid ones.
        ConfigurationError: If a field has another type, or is a number that is not finite.
    """
    for name, hint in typing.get_type_hints(type(options)).items():
        object.__setattr__(options, name, convert(hint, getattr(options, name), f"{path}{name}"))


def _sequence(inner: Sequence[Any], value: Sequence[Any], name: str) -> tuple[Any, ...]:
    """Returns a list with every item as the type that its place asks for."""
    if (len(inner) == 2 and inner[1] is Ellipsis) or len(inner) == 1:
        return tuple(convert(inner[0], item, f"each of {name}") for item in value)
    if len(value) != len(inner):
        raise ConfigurationError(f"{name} must have {len(inner)} values, not {list(value)!r}")
    return tuple(convert(hint, item, f"each of {name}") for hint, item in zip(inner, value, strict=True))


def _plain(allowed: Mapping[Any, Any], value: Any, name: str) -> Any:
    """Returns a value as one of the types allowed; a list is none of them."""
    is_switch = isinstance(value, bool)
    if float in allowed and str not in allowed and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if int in allowed and isinstance(value, numbers.Integral) and not is_switch:
        return int(value)
    if float in allowed and isinstance(value, numbers.Real) and not is_switch:
        return _finite(float(value), name)
    is_wrong_text = isinstance(value, str) and str not in allowed
    if is_wrong_text or (is_switch and bool not in allowed) or not isinstance(value, tuple(allowed)):
        wanted = " or ".join(_WORDS.get(kind, kind.__name__) for kind in allowed)
        raise ConfigurationError(f"{name} must be {wanted}, not {value!r}")
    return value


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a finite number, not {value}")
    return value


def check_seed(seed: int) -> None:
    """Rejects a seed that some generator does not accept.

    Raises:
        ConfigurationError: If it is not from 0 to 2**32 - 1.
    """
    convert(int, seed, "a seed")
    if not 0 <= seed < SEEDS:
        raise ConfigurationError(f"a seed must be from 0 to {SEEDS - 1}, not {seed}")
