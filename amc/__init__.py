"""`amc` fits a trained network into a budget.

The public names are imported at first use (PEP 562), so that `import amc` is quick and loads neither PyTorch nor
Stable-Baselines3 nor Gymnasium.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AmcError": "amc.errors",
    "Allocation": "amc.structure",
    "Budget": "amc.costs",
    "CompressionResult": "amc.pipeline.result",
    "DataRoles": "amc.data",
    "FineTuneConfig": "amc.training",
    "OwnTask": "amc.pipeline.own_task",
    "PackConfig": "amc.packing.settings",
    "PruningConfig": "amc.pruning.config",
    "SearchConfig": "amc.pipeline.search",
    "TrainConfig": "amc.training",
    "compress": "amc.pipeline.compress",
    "create_model": "amc.models",
    "load": "amc.storage.load",
    "pack": "amc.pipeline.pack",
    "roles_from_loaders": "amc.data",
    "trace_structure": "amc.tracing.trace",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Imports a public name at first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'amc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
