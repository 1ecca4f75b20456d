"""The names of the agents."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from agents.protocol import Agent
from amc.errors import ConfigurationError
from amc.utils.options import Chosen, create
from amc.utils.registry import Registry

AGENTS: Registry[Callable[..., Agent]] = Registry("agent", "amc.agents", method="search")
"""Every agent's factory by name; see `amc.utils.options`. Installed packages add to it by `amc.agents` entry points."""

AGENTS.register("ddpg", "agents.ddpg.agent:create", "deep deterministic policy gradient, as in the AMC paper")
AGENTS.register("td3", "agents.sb3.learners:Td3", "twin delayed DDPG, as Stable-Baselines3 has it")
AGENTS.register("sac", "agents.sb3.learners:Sac", "soft actor-critic, as Stable-Baselines3 has it")
AGENTS.register("ppo", "agents.sb3.learners:Ppo", "proximal policy optimisation, as Stable-Baselines3 has it")
AGENTS.register("random", "agents.random_search:RandomSearch", "uniformly random pruning ratios")
AGENTS.register("cem", "agents.cem:CrossEntropyMethod", "cross-entropy method")
AGENTS.register("cmaes", "agents.cmaes:CmaEs", "covariance matrix adaptation evolution strategy")
AGENTS.register("tpe", "agents.tpe:Tpe", "tree-structured Parzen estimator (Optuna)")
AGENTS.register("spdy", "agents.spdy:Spdy", "coefficients of the layers' errors, searched for (SPDY)")
AGENTS.register("greedy", "agents.heuristics.greedy:Greedy", "greedy knapsack on measured per-layer sensitivities")
AGENTS.register("uniform", "agents.heuristics.uniform:Uniform", "the same keep ratio everywhere")
AGENTS.register("erk", "agents.heuristics.erk:ErdosRenyiKernel", "Erdos-Renyi-Kernel densities")
AGENTS.register("erdos_renyi", "agents.heuristics.erk:ErdosRenyi", "Erdos-Renyi densities, without the kernel")
AGENTS.register("global", "agents.heuristics.ranking:GlobalRanking", "one ranking of all units, by magnitude")
AGENTS.register("lamp", "agents.heuristics.ranking:Lamp", "layer-adaptive magnitudes (LAMP), ranked over all layers")
AGENTS.register("snip", "agents.heuristics.ranking:Snip", "layer-wise ratios of SNIP's connection sensitivity")
AGENTS.register("sensitivity", "agents.heuristics.sensitivity:Sensitivity", "accuracy curves of single layers")
AGENTS.register("dp", "agents.heuristics.dynamic_programming:DynamicProgramming", "least sum of layer errors (SPDY)")
AGENTS.register("penalty", "agents.heuristics.penalty:Penalty", "what a penalty of the training has not driven to zero")
AGENTS.register("policy", "agents.heuristics.policy_file:PolicyFile", "a policy.json, scaled to the budget")
AGENTS.register("shallow", "agents.heuristics.profiles:Shallow", "shallow layers are pruned more")
AGENTS.register("deep", "agents.heuristics.profiles:Deep", "deep layers are pruned more")


def create_agent(chosen: Chosen, /, **options: Any) -> Agent:
    """Creates an agent by name.

    Args:
        chosen: A name in `AGENTS`, with or without options: `"cem"`, `"cem:population=8"` or
            `{"name": "cem", "population": 8}`.
        **options: The agent's own options, for example the fields of `DDPGConfig` for `"ddpg"`.

    Returns:
        The agent.

    Raises:
        UnknownNameError: If no agent has that name.
        ConfigurationError: If the agent has no such option, or its value cannot be used.
    """
    agent = create(AGENTS, chosen, **options)
    _check_search(agent, chosen)
    return agent


def _check_search(agent: Agent, chosen: Chosen) -> None:
    """Checks that the search of an agent, which may be the user's own, can be called as it will be.

    Raises:
        ConfigurationError: If it takes other arguments.
    """
    try:
        signature(agent.search).bind(None, 1, seed=0, on_episode=None)
    except TypeError as error:
        raise ConfigurationError(
            f"the search of agent {chosen!r} must take (env, episodes, *, seed, on_episode=None): {error}; "
            "docs/extend.md has an example"
        ) from error
