"""The agents and their options, as `--help` shows them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from agents.registry import AGENTS
from amc.cli.options import option_value
from amc.utils.options import Option, options_of

_WIDTH = 80
_INDENT = " " * 6


def agents_help(words: Sequence[str]) -> str:
    """Lists the agents, and the options of the one that `--agent NAME` names beside `--help`.

    Raises:
        UnknownNameError: If there is no such agent.
    """
    width = max(len(name) for name in AGENTS.names())
    lines = ["agents:", *(f"  {entry.name:<{width}}  {entry.summary}" for entry in AGENTS.entries()), ""]
    agent = option_value(words, "--agent")
    if agent is None:
        return "\n".join([*lines, "'amc search --agent NAME --help' explains the options of an agent."])
    options = options_of(AGENTS, agent)
    heading = f"options of {agent}, each as --agent_options.KEY VALUE:" if options else f"{agent} has no options."
    return "\n".join([*lines, heading, *map(_explained, options)])


def _explained(option: Option) -> str:
    """Words one option: docstrings without what is there for readers of Python."""
    text = re.sub(r"\bNone\b", "unset", re.sub(r'`"?|"?`', "", option.summary)).rstrip(".")
    filled = textwrap.fill(
        f"{text} (default: {_written(option.default)})", _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT
    )
    return f"  {option.name}\n{filled}"


def _written(value: object) -> str:
    """Returns a default as the command line takes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return "unset" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
