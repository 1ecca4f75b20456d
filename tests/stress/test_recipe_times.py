"""The hours of a configuration, computed from speeds."""

from __future__ import annotations

import importlib.util
import re
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


@pytest.mark.parametrize("name", ["imagenet_mobilenet_v1", "imagenet_mobilenet_v2", "imagenet_resnet50"])
def test_hours_in_the_configurations_are_computed_from_the_speeds_beside_them(recipe, name, monkeypatch, capsys):
    root = Path(__file__).parents[2]
    head = " ".join(re.findall(r"^# *(.*)$", (root / f"configs/{name}.yaml").read_text(encoding="utf-8"), re.MULTILINE))
    said = re.search(r"(\d+) images/s of training.*? (\d+) of scoring\)? and (\d+) GB/s", head)
    wanted = re.search(
        r"search (\S+) and (\S+), fine-tuning two networks (\S+) and (\S+), in all (\S+) and (\S+)", head
    )
    speeds = ["--training", said[1], "--scoring", said[2], "--link", said[3]]
    monkeypatch.setattr(sys, "argv", ["recipe_times.py", name, *speeds])
    recipe.main()
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", capsys.readouterr().out, re.MULTILINE))
    found = [hours for row in ("search", "fine-tune", "in all") for hours in rows[row].split(" | ")]
    assert [float(hours) for hours in wanted.groups()] == pytest.approx([float(hours) for hours in found], abs=0.06)
    page = (root / "docs/large_data.md").read_text(encoding="utf-8")
    pairs = [", ".join(wanted.groups()[start : start + 2]) for start in (0, 2, 4)]
    assert f"| `{name}` | {said[1]} | {said[2]} | {' | '.join(pairs)} |" in page
