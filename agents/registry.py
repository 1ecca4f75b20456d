"""The names of the agents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from docstring_parser import parse

from agents.protocol import Agent
from amc.errors import ConfigurationError, suggest
from amc.utils.conversion import convert
from amc.utils.registry import Registry

AGENTS: Registry[Callable[..., Agent]] = Registry("agent")
"""Every agent's factory by name; options are the factory's keyword arguments."""

AGENTS.register("ddpg", "agents.ddpg.agent:create", "deep deterministic policy gradient, as in the AMC paper")
AGENTS.register("random", "agents.random_search:RandomSearch", "uniformly random pruning ratios")
AGENTS.register("cem", "agents.cem:CrossEntropyMethod", "cross-entropy method")
AGENTS.register("cmaes", "agents.cmaes:CmaEs", "covariance matrix adaptation evolution strategy")
AGENTS.register("tpe", "agents.tpe:Tpe", "tree-structured Parzen estimator (Optuna)")
AGENTS.register("greedy", "agents.heuristics.greedy:Greedy", "greedy knapsack on measured per-layer sensitivities")
AGENTS.register("uniform", "agents.heuristics.uniform:Uniform", "the same keep ratio everywhere")
AGENTS.register("erk", "agents.heuristics.erk:ErdosRenyiKernel", "Erdos-Renyi-Kernel densities")
AGENTS.register("shallow", "agents.heuristics.profiles:Shallow", "shallow layers are pruned more")
AGENTS.register("deep", "agents.heuristics.profiles:Deep", "deep layers are pruned more")


def create_agent(name: str, /, **options: Any) -> Agent:
    """Creates an agent by name.

    Args:
        name: A name in `AGENTS`.
        **options: The agent's own options, for example the fields of `DDPGConfig` for `"ddpg"`.

    Returns:
        The agent.

    Raises:
        UnknownNameError: If no agent has that name.
        ConfigurationError: If the agent has no such option, or its value cannot be used.
    """
    factory = AGENTS.get(name)
    known = _parameters(factory)
    for option in options:
        if option not in known:
            raise ConfigurationError(f"agent {name!r} has no option {option!r}; {suggest(option, known)}")
    values = {
        option: convert(known[option].annotation, value, f"{name}: {option}") for option, value in options.items()
    }
    return factory(**values)


@dataclass(frozen=True)
class AgentOption:
    """An option of an agent.

    Attributes:
        name: As it is written.
        default: What holds where it is not given.
        summary: What it says.
    """

    name: str
    default: object
    summary: str


def options_of(name: str) -> list[AgentOption]:
    """Returns the options of an agent, explained as in its docstrings.

    Raises:
        UnknownNameError: If no agent has that name.
    """
    factory = AGENTS.get(name)
    told: dict[str, str] = {}
    for source in (factory, getattr(factory, "__init__", None), getattr(factory, "settings", None)):
        told |= {entry.arg_name: entry.description or "" for entry in parse(inspect.getdoc(source) or "").params}
    return [
        AgentOption(option.name, option.default, " ".join(told.get(option.name, "").split()))
        for option in _parameters(factory).values()
    ]


def _parameters(factory: Callable[..., Agent]) -> Mapping[str, inspect.Parameter]:
    """Returns the options of a factory; without their types where those are not there at run time."""
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except NameError:
        options = inspect.signature(factory).parameters
        return {name: option.replace(annotation=inspect.Parameter.empty) for name, option in options.items()}
