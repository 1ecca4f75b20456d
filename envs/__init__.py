"""The Gymnasium environments of `amc`: importing this package registers them.

    import envs
    env = gymnasium.make("AMC/FilterPruning-v0", problem=problem, evaluator=evaluator)

`gymnasium.make("envs:AMC/FilterPruning-v0", ...)` imports the package by itself.
"""

from __future__ import annotations

import gymnasium

FILTER_PRUNING = "AMC/FilterPruning-v0"
WEIGHT_PRUNING = "AMC/WeightPruning-v0"

gymnasium.register(id=FILTER_PRUNING, entry_point="envs.pruning_env:FilterPruningEnv")
gymnasium.register(id=WEIGHT_PRUNING, entry_point="envs.pruning_env:WeightPruningEnv")

__all__ = ["FILTER_PRUNING", "WEIGHT_PRUNING"]
