"""What a subcommand of `amc` is, and how its options are parsed."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonargparse

from amc.cli.choices_help import choices_help, offered
from amc.cli.consent import WORDS
from amc.errors import ConfigurationError, UnknownNameError

_ALIASES = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "dir": "root"}
"""Names of options in other tools, and what they are called here."""

_WANTED = {
    "int": "a whole number such as 10",
    "float": "a number such as 0.5",
    "bool": "true or false",
    "str": "text",
    "ints": "a list of whole numbers such as [8, 16]",
    "floats": "a list of numbers such as [0.5, 0.25]",
    "strs": "a list such as [a, b]",
}
"""What an option takes, by Python's name of its type."""


@dataclass(frozen=True)
class Command:
    """A subcommand: one module in `amc/cli`, one line in `amc.cli.commands.COMMANDS`.

    Attributes:
        add_arguments: Adds the options to a parser. Heavy imports do not belong there, so that `--help` is quick.
        run: Does the work with the parsed options; raises `AmcError` for anything the user can fix.
        description: The first lines of `--help`.
        usage: What follows the name on the usage line.
        examples: Command lines shown at the end of `--help`, one per line.
        defaults: Takes the words of the command line of a new run, and returns words to parse before them.
        resumes: Whether its runs can be resumed; then `options.resumed` is the run to resume, None for a new one.
        shares_trainings: Whether several processes may share its trainings, also those that `torchrun` starts.
    """

    add_arguments: Callable[[jsonargparse.ArgumentParser], None]
    run: Callable[[jsonargparse.Namespace], None]
    description: str
    usage: str = "[options]"
    examples: str = ""
    defaults: Callable[[Sequence[str]], list[str]] = lambda words: []
    resumes: bool = False
    shares_trainings: bool = False


class HelpFormatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Prints an option's help and default, without Python types."""

    def __init__(self, prog: str, **options: Any) -> None:
        """Sets the columns so that most options take one line of a wide terminal."""
        super().__init__(prog, max_help_position=32, **options)  # type: ignore[no-untyped-call]

    def _get_help_string(self, action: argparse.Action) -> str:
        """Returns the text, with the default if there is one."""
        text = action.help or ""
        names = offered(action)
        if names:
            between = ". Names: " if re.search("[.:;] ", text) else ": "
            text = f"{text.rstrip('.')}{between}{', '.join(names)}."
        if action.default in (None, argparse.SUPPRESS, "", {}, []) or action.nargs == 0:
            return text
        if isinstance(action.default, list):
            between = " " if action.nargs == "+" else ","
            return f"{text.rstrip('.')} (default: {between.join(map(str, action.default))})"
        if isinstance(action.default, bool):
            return f"{text.rstrip('.')} (default: {str(action.default).lower()})"
        return f"{text.rstrip('.')} (default: %(default)s)"


class Parser(jsonargparse.ArgumentParser):
    """A jsonargparse parser that raises instead of exiting, and suggests the nearest option.

    Attributes:
        check_config_file: Called before a `--config` is parsed, with its path, the names of the options that it may
            hold, and the words of the command line. It raises if something is wrong with the file, and returns what to
            parse: a path, or text.
    """

    check_config_file: Callable[[str, Collection[str], Sequence[str]], str] | None = None

    def parse(self, arguments: Sequence[str], defaults: Sequence[str] = ()) -> jsonargparse.Namespace:
        """Parses a command line.

        Args:
            arguments: What the user wrote.
            defaults: Options that go before it, hidden ones included.

        Raises:
            UnknownNameError: If an option does not exist.
            ConfigurationError: If a value or a configuration file cannot be used.
        """
        self._refuse_unknown_options(arguments)
        defaults = self._with_checked_files(defaults, (), arguments)  # from a run's folder, which holds all options
        checked = self._with_checked_files(arguments, {action.dest for action in self._actions}, arguments)
        try:
            # jsonargparse also prints to stderr; the exception has all that matters.
            with contextlib.redirect_stderr(io.StringIO()):
                options = self.parse_args([*defaults, *checked])
        except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
            raise ConfigurationError(_plain(_parsed(str(error), self))) from error
        options[WORDS] = list(arguments)
        return options

    def _refuse_unknown_options(self, arguments: Sequence[str]) -> None:
        """Raises, with the nearest name, if an option is unknown (abbreviations are not accepted)."""
        known = {text for action in self._actions for text in action.option_strings if action.help != argparse.SUPPRESS}
        known.add("--print_config")
        for argument in arguments:
            name = argument.partition("=")[0]
            if name.startswith("--") and name not in known:
                section, dot, word = name.rpartition(".")
                meant = f"{section}{dot}{_ALIASES.get(word, word)}"
                if meant in known:
                    raise ConfigurationError(f"unknown option {name!r}; did you mean {meant!r}?")
                raise UnknownNameError("option", name, known)

    def _with_checked_files(
        self, arguments: Sequence[str], options: Collection[str], words: Sequence[str]
    ) -> list[str]:
        """Replaces every `--config FILE` and `--config=FILE` by what `check_config_file` returns."""
        found = list(arguments)
        if self.check_config_file is None:
            return found
        for place, argument in enumerate(arguments):
            name, separator, value = argument.partition("=")
            if name == "--config" and separator:
                found[place] = f"--config={self.check_config_file(value, options, words)}"
            elif name == "--config":
                following = arguments[place + 1] if place + 1 < len(arguments) else ""
                found[place + 1 : place + 2] = [self.check_config_file(following, options, words)]
        return found


def _parsed(message: str, parser: argparse.ArgumentParser) -> str:
    """Rewords what argparse says of words that are missing or too many, with the remedy."""
    if found := re.fullmatch(r"argument (--\S+): expected (?:one|at least one) argument", message.strip()):
        action = next(action for action in parser._actions if found[1] in action.option_strings)
        return f"{found[1]} needs a value: {found[1]} {action.metavar or 'VALUE'}; '{parser.prog} --help' explains it"
    if found := re.search(r"the following arguments are required: (.+)", message):
        names = [_as_written(name, parser) for name in found[1].split(", ")]
        return f"{parser.prog} needs {' and '.join(names)}, which is missing; '{parser.prog} --help' has examples"
    if found := re.search(r"unrecognized arguments: (.+)", message):
        return f"unrecognized arguments: {found[1]}; options read --NAME VALUE, and '{parser.prog} --help' lists them"
    return message


def _as_written(name: str, parser: argparse.ArgumentParser) -> str:
    """Returns an argument as its usage shows it: `RUN`, or `--out DIR`."""
    action = next((action for action in parser._actions if name in (action.dest, *action.option_strings)), None)
    if action is None:
        return name
    return " ".join(filter(None, ((action.option_strings or [""])[-1], str(action.metavar or name))))


def _plain(message: str) -> str:
    """Rewords jsonargparse's messages for people who do not write Python."""
    message = re.sub(r"\s+", " ", message).strip()
    message = re.sub(r'^Parser key "([^"]+)"((?: element \d+)?): ?', r"--\1\2: ", message)
    message = re.sub(r": Does not validate .* Subtypes: \[(.*)\] Errors: .* Given value: ?(.*)", _union, message)
    message = re.sub(r": Expected a typing.Literal\[(.*)\]\. Got value: ?(.*)", _literal, message)
    message = re.sub(r": Expected a <class '(\w+)'>\. Got value: ?(.*)", _single, message)
    return message[:1].lower() + message[1:] if not message.startswith("-") else message


def _union(found: re.Match[str]) -> str:
    """Says that a value fits none of several types, leaving out that the option may be unset."""
    kinds = [kind for kind in re.findall(r"tuple\[.*?\]|(?<=<class ')\w+", found[1]) if kind != "NoneType"]
    wanted = " or ".join(_WANTED.get(re.sub(r"tuple\[(\w+), \.\.\.\]", r"\1s", kind), kind) for kind in kinds)
    share = re.fullmatch(r"(\d+(?:\.\d+)?)%", found[2])
    return f" must be {wanted}, not {_shown(found[2])}" + (f"; write {float(share[1]) / 100:g}" if share else "")


def _single(found: re.Match[str]) -> str:
    """Says that a value does not have the one type that an option takes."""
    return f" must be {_WANTED.get(found[1], found[1])}, not {_shown(found[2])}"


def _literal(found: re.Match[str]) -> str:
    """Says that a value is none of those that an option takes."""
    return f" must be one of {found[1]}, not {_shown(found[2])}"


def _shown(value: str) -> str:
    """Returns a value as it was written; of an empty one, such as an unset variable of a shell, that it is empty."""
    return value or "an empty text; leave the option out, or give a value"


def make_parser(name: str, command: Command, words: Sequence[str] = ()) -> Parser:
    """Returns the parser of a subcommand, for the words of a command line; one that prints help explains all names."""
    if {"-h", "--help"}.isdisjoint(words):
        return _kept_parser(name, command)
    parser = _new_parser(name, command)
    names = {action.dest: offered(action) for action in parser._actions if action.help != argparse.SUPPRESS}
    choices = choices_help(name, names, words)
    parser.epilog = "\n\n".join(filter(None, (parser.epilog, choices))) or None
    return parser


@cache
def _kept_parser(name: str, command: Command) -> Parser:
    return _new_parser(name, command)


def _new_parser(name: str, command: Command) -> Parser:
    """Builds the parser of a subcommand, which takes a while: its options are those of many classes."""
    parser = Parser(
        prog=f"amc {name}",
        usage=f"amc {name} {command.usage}".rstrip(),
        description=command.description,
        formatter_class=HelpFormatter,
        exit_on_error=False,
    )
    command.add_arguments(parser)
    parser.epilog = f"examples:\n{command.examples}" if command.examples else None
    return parser
