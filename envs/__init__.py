"""The Gymnasium environments of `amc`: importing this package registers them.

    import envs
    problem, evaluator = envs.make_problem(model, (train, test), amc.Budget(flops=0.5))
    env = gymnasium.make("AMC/FilterPruning-v0", problem=problem, evaluator=evaluator)

`gymnasium.make("envs:AMC/FilterPruning-v0", ...)` imports the package by itself. `gymnasium.make("AMC/Digits-v0")`
takes no argument: a small network on handwritten digits at half the FLOPs, actions in [-1, 1].
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

FILTER_PRUNING = "AMC/FilterPruning-v0"
WEIGHT_PRUNING = "AMC/WeightPruning-v0"
DIGITS = "AMC/Digits-v0"

gymnasium.register(id=FILTER_PRUNING, entry_point="envs.pruning_env:FilterPruningEnv")
gymnasium.register(id=WEIGHT_PRUNING, entry_point="envs.pruning_env:WeightPruningEnv")
gymnasium.register(id=DIGITS, entry_point="amc.pipeline.digits_environment:digits_environment")

__all__ = ["DIGITS", "FILTER_PRUNING", "WEIGHT_PRUNING"]


def __getattr__(name: str) -> Any:
    """Looks up `make_problem`, which lies above the environments: it is named here and imported on first use."""
    if name != "make_problem":
        raise AttributeError(f"module 'envs' has no attribute {name!r}")
    return importlib.import_module("amc.pipeline.problems").make_problem
