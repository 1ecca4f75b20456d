"""Agents: whatever plays the environment to find an allocation, learned or not.

Every agent sees a `gymnasium.Env` (never the package `envs`), works under the same bounds, and counts its
evaluations in episodes. The registry imports an agent at first use, so that Stable-Baselines3, Optuna and CMA-ES
load only where they are asked for.
"""

from __future__ import annotations

from agents.protocol import Agent, EpisodeResult, SearchResult, check_plan
from agents.registry import AGENTS, create_agent

__all__ = ["AGENTS", "Agent", "EpisodeResult", "SearchResult", "check_plan", "create_agent"]
