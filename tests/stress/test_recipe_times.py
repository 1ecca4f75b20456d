"""The hours of a configuration, computed from speeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from amc.data import DataConfig
from amc.pipeline.config import RunConfig
from amc.training import FineTuneConfig


@pytest.fixture
def recipe(monkeypatch):
    file = Path(__file__).with_name("recipe_times.py")
    spec = importlib.util.spec_from_file_location("recipe_times", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipe_times", module)
    spec.loader.exec_module(module)
    return module


def test_hours_follow_from_the_speeds(recipe):
    config = RunConfig(
        model="resnet50",
        episodes=100,
        compare=("uniform",),
        data=DataConfig(search_images=72),
        finetune=FineTuneConfig(epochs=10, batch_size=100),
    )
    speeds = recipe.Speeds(training=10.0, scoring=20.0, link=1e6)
    one, four = (
        recipe.hours(config, speeds, devices, images=36_000, tests=7200, parameters=500_000) for devices in (1, 4)
    )
    assert one["test the dense network"] == four["test the dense network"] == pytest.approx(0.1)
    assert one["search"] == four["search"] == pytest.approx(0.1)
    assert one["fine-tune"] == pytest.approx(2 * 10 * (1 + 0.001))
    # 360 steps of an epoch exchange 2 MB each: three quarters of it out and in again, 3 s a step.
    assert four["fine-tune"] == pytest.approx(2 * 10 * (0.25 + 360 * 3 / 3600 + 0.001))
    assert one["test the networks"] == pytest.approx(0.4)
