"""Tables of named things that are imported only when they are asked for."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar, cast

from amc.errors import ConfigurationError, UnknownNameError, suggest

T = TypeVar("T")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
"""Names only: the check that asks for consent before code is imported must recognise every such reference."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing.

    Attributes:
        name: The name users write.
        target: The thing itself, `"package.module:attribute"` to import it at first use, or an entry point.
        summary: One line that says what it is.
    """

    name: str
    target: T | str | EntryPoint
    summary: str


class Registry(Generic[T]):
    """Maps names to objects, with lazy imports and suggestions for misspelt names.

    A public registry has a group of entry points: entries that installed packages declare there are found by name, and
    `"package.module:attribute"` stands for the user's own code, modules in the current folder included.

    A package that brings an agent says so in its pyproject.toml:

        [project.entry-points."amc.agents"]
        mine = "my_package.agent:MyAgent"

    Example:
        >>> shapes = Registry("shape")
        >>> shapes.register("square", "math:sqrt", "imported when it is asked for")
        >>> shapes.get("square")(9)
        3.0
        >>> "circle" in shapes
        False
    """

    def __init__(self, kind: str, group: str | None = None, *, method: str | None = None) -> None:
        """Creates an empty table.

        Args:
            kind: What the names stand for, as used in messages ("agent", "model").
            group: The group of entry points that add to the table; None for none.
            method: What the objects that a factory makes must be able to do, such as "search"; see `create`.
        """
        self.kind, self.group, self.method = kind, group, method
        self._entries: dict[str, Entry[T]] = {}
        self._looked = group is None

    def register(self, name: str, target: T | str, summary: str = "") -> None:
        """Adds an entry.

        Args:
            name: The name users will write.
            target: The object, or `"package.module:attribute"`.
            summary: One line that says what it is.

        Raises:
            ConfigurationError: If the name is taken, or could be mistaken for `NAME:KEY=VALUE` or a list of names.
        """
        if name in self._entries:
            raise ConfigurationError(f"{self.kind} names must be unique: {name!r} is registered already")
        if not name or set(name) & set(":;=,[]{} "):
            raise ConfigurationError(f"{self.kind} names must be plain words, not {name!r}")
        self._entries[name] = Entry(name, target, summary)

    def get(self, name: str) -> T:
        """Returns the object registered under a name, importing it if need be.

        Raises:
            UnknownNameError: If the name is not registered.
            ConfigurationError: If what it names cannot be imported.
        """
        if name not in self:
            if self.group is not None and ":" in name:
                return import_own(name)
            raise UnknownNameError(self.kind, name, self._entries)
        target = self._entries[name].target
        if isinstance(target, EntryPoint):
            return _loaded(target, self.kind)
        return import_object(target) if isinstance(target, str) else target

    def names(self) -> list[str]:
        """Returns all names, in the order of registration, those of installed packages last."""
        return [entry.name for entry in self.entries()]

    def entries(self) -> Iterator[Entry[T]]:
        """Iterates over the entries, in the order of registration, those of installed packages last."""
        self._look_for_packages()
        return iter(list(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        """Returns whether a name is registered."""
        if name not in self._entries:
            self._look_for_packages()
        return name in self._entries

    def _look_for_packages(self) -> None:
        """Adds the entries of installed packages, once; a name that is taken keeps its meaning."""
        if self._looked:
            return
        self._looked = True
        for point in entry_points(group=cast(str, self.group)):
            package = point.dist.name if point.dist is not None else "a package"
            if point.name in self._entries:
                warnings.warn(
                    f"the {self.kind} {point.name!r} of {package} is left out: the name is taken",
                    RuntimeWarning,
                    stacklevel=2,
                )
            else:
                self._entries[point.name] = Entry(point.name, point, f"from {package}")


def import_object(reference: str) -> T:  # type: ignore[type-var]
    """Imports what `"package.module:attribute"` names.

    Raises:
        ConfigurationError: If the reference is malformed, or the module or attribute does not exist.
    """
    module_name, _, attribute = reference.partition(":")
    if "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        stem = Path(module_name).name.removesuffix(".py")
        raise ConfigurationError(
            f"a reference names a module, not a file: write {stem + ':' + attribute!r} in place of {reference!r}, in "
            "the module's folder or with that on PYTHONPATH"
        )
    if not _REFERENCE.fullmatch(reference):
        raise ConfigurationError(f"a reference must read 'package.module:attribute', not {reference!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"cannot import {module_name!r} of {reference!r}: {error}") from error
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigurationError(f"module {module_name!r} has no attribute {attribute!r}; {suggest(attribute, known)}")
    return cast(T, getattr(module, attribute))


def import_own(reference: str) -> T:  # type: ignore[type-var]
    """Imports the user's own code as `import_object` does; modules in the current folder are found too.

    Raises:
        ConfigurationError: If the reference is malformed, or the module or attribute does not exist.
    """
    with current_folder_on_path():
        return import_object(reference)


@contextmanager
def current_folder_on_path() -> Iterator[None]:
    """Lets modules of the current folder be imported, as `python -m` does and an installed command does not.

    Only for code that the user names in the call or on the command line, never for code that a file names.
    """
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the modules may have set the path themselves
            sys.path.remove(folder)


def _loaded(point: EntryPoint, kind: str) -> T:  # type: ignore[type-var]
    """Loads an entry point.

    Raises:
        ConfigurationError: If the package that declares it cannot be imported.
    """
    try:
        return cast(T, point.load())
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist is not None else point.value
        raise ConfigurationError(f"the {kind} {point.name!r} of {package} cannot be imported: {error}") from error
