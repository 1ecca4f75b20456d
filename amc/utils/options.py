"""Choices by name with options, handled in one way everywhere.

A choice is written `NAME` or `NAME:KEY=VALUE;KEY=VALUE` on the command line, the same or `{name: NAME, KEY: VALUE}` in
a YAML file, and any of these or keyword arguments in Python. A registry holds the factories; the options of a name are
the keyword arguments of its factory, or its fields if it is a dataclass, with their types, defaults and docstrings.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import yaml
from docstring_parser import parse

from amc.errors import ConfigurationError, suggest
from amc.utils.conversion import convert
from amc.utils.plain_yaml import parse_yaml
from amc.utils.registry import Registry

T = TypeVar("T")
Factory: TypeAlias = Callable[..., Any]
Chosen: TypeAlias = str | Mapping[str, Any]
"""A choice as users write it: `"NAME"`, `"NAME:KEY=VALUE;..."` or `{"name": NAME, KEY: VALUE}`."""
_KEY = re.compile(r"\s*[A-Za-z_]\w*\s*=")


@dataclass(frozen=True)
class Choice:
    """What was chosen: a name and its options.

    Attributes:
        name: A name in a registry, or `"package.module:attribute"`.
        options: Values by option, as the user gave them.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Returns the choice as `NAME` or `NAME:KEY=VALUE;...`, which `choose` reads back."""
        if not self.options:
            return self.name
        return f"{self.name}:{';'.join(f'{key}={_written(value)}' for key, value in self.options.items())}"


@dataclass(frozen=True)
class Option:
    """One option of a choice.

    Attributes:
        name: As it is written.
        default: The value if it is not given; `inspect.Parameter.empty` if it is required.
        summary: What its docstring says.
    """

    name: str
    default: object
    summary: str


def choose(registry: Registry[Any], chosen: Chosen) -> Choice:
    """Reads a choice, without importing what it names.

    Args:
        registry: Distinguishes names from options.
        chosen: As the user wrote it.

    Raises:
        ConfigurationError: If it is neither text nor a mapping with a name, or an option does not read KEY=VALUE.
    """
    if isinstance(chosen, Mapping):
        name, options = chosen.get("name"), {key: value for key, value in chosen.items() if key != "name"}
        if not isinstance(name, str) or not all(isinstance(key, str) for key in options):
            raise ConfigurationError(
                f"the {registry.kind} must have a name and options by name, such as {{name: NAME, KEY: VALUE}}, "
                f"not {dict(chosen)!r}"
            )
        return Choice(name, options)
    if not isinstance(chosen, str):
        raise ConfigurationError(
            f"the {registry.kind} must be a name, or a mapping with name and options, not {chosen!r}"
        )
    name, _, rest = chosen.partition(":")
    if rest and name not in registry and not _KEY.match(rest):  # of the user's own code: package.module:attribute
        attribute, _, rest = rest.partition(":")
        name = f"{name}:{attribute}"
    return Choice(name, dict(_read(registry.kind, chosen, part) for part in rest.split(";") if part.strip()))


def create(registry: Registry[Callable[..., T]], chosen: Chosen, /, **options: Any) -> T:
    """Creates what a choice names.

    Args:
        registry: The factories by name.
        chosen: The name, with or without options.
        **options: More options; they win where one is given twice.

    Returns:
        What the factory makes of the options, each converted to its type.

    Raises:
        UnknownNameError: If the name is not registered.
        ConfigurationError: If there is no such option, or its value cannot be used.

    Example:
        >>> from agents import AGENTS
        >>> create(AGENTS, "cem:population=8").population
        8
    """
    choice = choose(registry, chosen)
    factory = registry.get(choice.name)
    if not callable(factory):
        raise ConfigurationError(f"the {registry.kind} {choice.name!r} must be a class or a function, not {factory!r}")
    known, open_ended = _parameters(factory)
    given = {**choice.options, **options}
    for option in given:
        if option not in known and not open_ended:
            raise ConfigurationError(
                f"{registry.kind} {choice.name!r} has no option {option!r}; {suggest(option, known)}"
            )
    for option, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and option not in given:
            raise ConfigurationError(
                f"{registry.kind} {choice.name!r} needs the option {option!r}: {choice.name}:{option}=VALUE"
                f"{_if_own(registry, choice)}"
            )
    made = factory(**{option: _converted(known, choice.name, option, value) for option, value in given.items()})
    _check_made(registry, choice.name, made)
    return made


def _if_own(registry: Registry[Any], choice: Choice) -> str:
    """Explains to who names code of their own what its arguments stand for; empty for registered names."""
    return "" if choice.name in registry else f"; the arguments of what makes a {registry.kind} are its options"


def _check_made(registry: Registry[Any], name: str, made: object) -> None:
    """Checks that what a factory has made, which may be the user's own, can be used.

    Raises:
        ConfigurationError: If it lacks what the registry asks for.
    """
    if registry.method is None or callable(getattr(made, registry.method, None)):
        return
    wanted = "a function" if registry.method == "__call__" else f"an object with the method {registry.method!r}"
    raise ConfigurationError(f"{registry.kind} {name!r} must make {wanted}, not {made!r}; docs/extend.md has examples")


def spell(registry: Registry[Any], chosen: Chosen) -> str:
    """Returns a choice as text, the same for every way to write it, so that records and files can be compared.

    Raises:
        ConfigurationError: If it is malformed.
    """
    return str(choose(registry, chosen))


def file_stem(spelled: str) -> str:
    """Returns a choice, or another name from the user, in a form that is safe in a file name."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", spelled).strip("_")


def options_of(registry: Registry[Any], name: str) -> list[Option]:
    """Returns the options of a name, explained as in the docstrings of its factory.

    Raises:
        UnknownNameError: If the name is not registered.
    """
    factory = registry.get(name)
    if not callable(factory):
        return []
    explained: dict[str, str] = {}
    bases = reversed(inspect.getmro(factory)) if inspect.isclass(factory) else (factory,)
    for source in (*bases, getattr(factory, "__init__", None), getattr(factory, "settings", None)):
        docstring = parse(inspect.cleandoc(getattr(source, "__doc__", None) or ""))
        explained |= {entry.arg_name: entry.description or "" for entry in docstring.params}
    return [
        Option(option.name, option.default, " ".join(explained.get(option.name, "").split()))
        for option in _parameters(factory)[0].values()
    ]


def _parameters(factory: Factory) -> tuple[Mapping[str, inspect.Parameter], bool]:
    """Returns the options of a factory, and whether it takes any other; without types that are missing at run time."""
    try:
        found = inspect.signature(factory, eval_str=True).parameters.values()
    except NameError:
        plain = inspect.signature(factory).parameters.values()
        found = [option.replace(annotation=inspect.Parameter.empty) for option in plain]  # type: ignore[assignment]
    except ValueError:  # written in C
        return {}, True
    various = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    open_ended = any(option.kind is inspect.Parameter.VAR_KEYWORD for option in found)
    return {option.name: option for option in found if option.kind not in various}, open_ended


def _converted(known: Mapping[str, inspect.Parameter], name: str, option: str, value: Any) -> Any:
    return convert(known[option].annotation, value, f"{name}: {option}") if option in known else value


def _read(kind: str, text: str, part: str) -> tuple[str, Any]:
    """Reads `KEY=VALUE`; the value is YAML."""
    key, separator, value = part.partition("=")
    article = "an" if kind[0] in "aeiou" else "a"
    if not separator:
        raise ConfigurationError(f"the options of {article} {kind} must read KEY=VALUE, not {part!r} (in {text!r})")
    try:
        return key.strip(), parse_yaml(value)
    except ValueError as error:
        raise ConfigurationError(f"{value!r} must be a YAML value (in {text!r})") from error


def _written(value: Any) -> str:
    """Returns a value as YAML on one line without semicolons.

    Raises:
        ConfigurationError: If it is nothing that could be written in a file.
    """
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_item, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_quoted(str(key))}: {_item(item)}' for key, item in value.items())}}}"
    number = value.item() if hasattr(value, "item") else value  # of NumPy
    if number is None or isinstance(number, bool | int | float):
        return json.dumps(number)
    raise ConfigurationError(f"an option must be text, a number, true or false, or a list of such, not {value!r}")


def _item(value: Any) -> str:
    """Returns a value inside a list, where a text without quotes could hold a comma."""
    return _quoted(value) if isinstance(value, str) else _written(value)


def _quoted(text: str) -> str:
    quoted: str = yaml.safe_dump(text, default_style='"', width=10**9)
    return quoted.strip().replace(";", "\\x3b")


def _is_plain(text: str) -> bool:
    """Returns whether a text can be written without quotes."""
    if ";" in text or text != text.strip():
        return False
    try:
        return bool(parse_yaml(text) == text)
    except ValueError:
        return False
