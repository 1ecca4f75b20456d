"""Agents that follow a rule: they know only the problem (and, for `greedy`, measured sensitivities)."""

from __future__ import annotations

from agents.heuristics.base import Heuristic
from agents.heuristics.erk import ErdosRenyiKernel
from agents.heuristics.greedy import Greedy
from agents.heuristics.profiles import Deep, Shallow
from agents.heuristics.uniform import Uniform

__all__ = ["Deep", "ErdosRenyiKernel", "Greedy", "Heuristic", "Shallow", "Uniform"]
