"""A table of named things that are imported only when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from amc.errors import ConfigurationError, UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing.

    Attributes:
        name: The name users write.
        target: The thing itself, or `"package.module:attribute"` to import it at first use.
        summary: One line that says what it is.
    """

    name: str
    target: T | str
    summary: str


class Registry(Generic[T]):
    """Maps names to objects, with lazy imports and suggestions for misspelt names."""

    def __init__(self, kind: str) -> None:
        """Creates an empty table.

        Args:
            kind: What the names stand for, as it should read in messages ("agent", "model").
        """
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, target: T | str, summary: str = "") -> None:
        """Adds an entry.

        Args:
            name: The name users will write.
            target: The object, or `"package.module:attribute"`.
            summary: One line that says what it is.

        Raises:
            ConfigurationError: If the name is taken.
        """
        if name in self._entries:
            raise ConfigurationError(f"{self.kind} names must be unique: {name!r} is registered already")
        self._entries[name] = Entry(name, target, summary)

    def get(self, name: str) -> T:
        """Returns the object registered under a name, importing it if need be.

        Raises:
            UnknownNameError: If the name is not registered.
        """
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        target = self._entries[name].target
        return import_object(target) if isinstance(target, str) else target

    def names(self) -> list[str]:
        """Returns all names, in the order of registration."""
        return list(self._entries)

    def entries(self) -> Iterator[Entry[T]]:
        """Iterates over the entries, in the order of registration."""
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        """Tells whether a name is registered."""
        return name in self._entries


def import_object(reference: str) -> T:  # type: ignore[type-var]
    """Imports what `"package.module:attribute"` names.

    Raises:
        ConfigurationError: If the reference is malformed, or the module or attribute does not exist.
    """
    module_name, separator, attribute = reference.partition(":")
    if not (separator and module_name and attribute):
        raise ConfigurationError(f"a reference must read 'package.module:attribute', not {reference!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"cannot import {module_name!r} of {reference!r}: {error}") from error
    if not hasattr(module, attribute):
        raise ConfigurationError(f"module {module_name!r} has no attribute {attribute!r}")
    return cast(T, getattr(module, attribute))
