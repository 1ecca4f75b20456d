from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toys():
    """The module `toy_env` of this folder; tests are no package, so it is loaded from its path."""
    spec = importlib.util.spec_from_file_location("agents_toy_env", Path(__file__).with_name("toy_env.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
