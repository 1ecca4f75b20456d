"""What can be chosen by name, and the options of each name, for `--help`."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from amc.cli.spelling import CHOICES, PLAIN_CHOICES, listed
from amc.utils.options import Option, choose, options_of
from amc.utils.registry import Registry, import_object

_WIDTH = 80
_INDENT = " " * 6


def registries_of(dest: str) -> list[Registry[Any]]:
    """Returns the registries that an option, given by its dotted name, chooses from; most have none."""
    return [import_object(reference) for reference in {**CHOICES, **PLAIN_CHOICES}.get(dest, ())]


def names_of(dest: str) -> list[str]:
    """Returns the names that an option chooses from."""
    return list(dict.fromkeys(name for registry in registries_of(dest) for name in registry.names()))


def option_of(parser: argparse.ArgumentParser, dest: str) -> argparse.Action:
    """Returns an option of a parser by its dotted name."""
    return next(action for action in parser._actions if action.dest == dest)


def offer(parser: argparse.ArgumentParser, dest: str, names: Sequence[str]) -> None:
    """Lets the help of a command list some of an option's names only: those that the command takes."""
    option_of(parser, dest).offered = tuple(names)  # type: ignore[attr-defined]


def offered(action: argparse.Action) -> list[str]:
    """Returns the names that an option of a command chooses from."""
    return list(getattr(action, "offered", None) or names_of(action.dest))


def choices_help(command: str, options: Mapping[str, Sequence[str]], words: Sequence[str]) -> str:
    """Lists all names that a command's options choose from, and explains those on the command line.

    Args:
        command: The subcommand, for the example.
        options: The options that the command shows by dotted name, and the names that each chooses from.
        words: The words of the command line: `--agent NAME --help` explains the options of an agent.

    Raises:
        UnknownNameError: If a word names what does not exist.
    """
    tables: dict[str, str] = {}
    explained: list[str] = []
    choosing = [dest for dest in options if dest in CHOICES]
    for dest in (dest for dest in options if dest in PLAIN_CHOICES):
        tables |= {registry.kind: _names(registry, options[dest]) for registry in registries_of(dest)}
    for dest in choosing:
        registries = registries_of(dest)
        tables |= {registry.kind: _names(registry, options[dest]) for registry in registries}
        explained += [_explained(dest, registries, chosen) for chosen in _values(words, f"--{dest}")]
    if not choosing:
        return ""
    hint = f"'amc {command} --{choosing[0]} NAME --help' explains the options of NAME; NAME:KEY=VALUE;... sets them."
    return "\n\n".join([*tables.values(), *explained, hint])


def plural(kind: str) -> str:
    """Returns the plural of a kind."""
    if kind.endswith("criterion"):
        return f"{kind[:-2]}a"
    if kind.endswith("s"):
        return f"{kind}es"
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def _names(registry: Registry[Any], offered: Sequence[str]) -> str:
    entries = [entry for entry in registry.entries() if entry.name in offered]
    width = max(len(entry.name) for entry in entries)
    lines = [f"  {entry.name:<{width}}  {entry.summary}".rstrip() for entry in entries]
    return "\n".join([f"{plural(registry.kind)}:", *lines])


def _explained(dest: str, registries: Sequence[Registry[Any]], chosen: str) -> str:
    """Explains the options of a name, found in the first registry that has it."""
    registry = next((registry for registry in registries if choose(registry, chosen).name in registry), registries[0])
    name = choose(registry, chosen).name
    options = options_of(registry, name)
    if not options:
        return f"{name} has no options."
    return "\n".join([f"options of {name}, as in --{dest} '{name}:KEY=VALUE;KEY=VALUE':", *map(_option, options)])


def _option(option: Option) -> str:
    """Describes one option: its docstring without what matters only in Python."""
    text = re.sub(r"\bNone\b", "unset", re.sub(r'`"?|"?`', "", option.summary)).rstrip(".")
    needed = option.default is inspect.Parameter.empty
    note = "must be given" if needed else f"default: {_written(option.default)}"
    filled = textwrap.fill(f"{text} ({note})", _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f"  {option.name}\n{filled}"


def _written(value: object) -> str:
    """Returns a default as one writes it on the command line."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "unset" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(words: Sequence[str], name: str) -> list[str]:
    """Returns the values that a command line gives as `--name VALUE`, `--name=VALUE` or `--name VALUE VALUE`."""
    found: list[str] = []
    taking = False
    for word in words:
        given, separator, value = word.partition("=")
        if word.startswith("-"):
            taking = given == name and not separator
            found += (listed(value) or (value,)) if given == name and separator else ()
        elif taking:
            found += listed(word) or (word,)
    return [value for value in found if value != "auto"]
