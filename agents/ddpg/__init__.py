"""Deep deterministic policy gradient on Stable-Baselines3.

`DDPGConfig` is cheap to import; `DDPGAgent` loads Stable-Baselines3 at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.ddpg.config import DDPGConfig

if TYPE_CHECKING:
    from agents.ddpg.agent import DDPGAgent

__all__ = ["DDPGAgent", "DDPGConfig"]


def __getattr__(name: str) -> Any:
    """Imports the agent at first use."""
    if name != "DDPGAgent":
        raise AttributeError(f"module 'agents.ddpg' has no attribute {name!r}")
    from agents.ddpg.agent import DDPGAgent

    return DDPGAgent
