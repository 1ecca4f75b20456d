"""CUDA, or what stands in for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def cuda(monkeypatch):
    """Puts the stand-in in place of CUDA; tests are no package, so it is loaded from its path."""
    spec = importlib.util.spec_from_file_location("stand_in_cuda", Path(__file__).with_name("stand_in_cuda.py"))
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    stand_in.install(monkeypatch)
    return stand_in.CUDA
