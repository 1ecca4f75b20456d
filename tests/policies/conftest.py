from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toys():
    """The module `toy_env` of the agents; tests are no package, so it is loaded from its path."""
    file = Path(__file__).parents[1] / "agents" / "toy_env.py"
    spec = importlib.util.spec_from_file_location("policies_toy_env", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
