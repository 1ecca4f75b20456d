"""The page on allocations and schedules names all there are, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents import AGENTS, create_agent
from agents.heuristics.base import Planner
from amc.errors import ConfigurationError
from amc.pruning.schedules import SCHEDULES, Goal
from amc.utils.options import create

PAGE = (Path(__file__).parents[2] / "docs" / "allocations.md").read_text(encoding="utf-8")


def rows(title):
    section = PAGE.partition(f"## {title}")[2].partition("\n## ")[0]
    firsts = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for first in firsts for name in re.findall(r"`(\w+)`", first)}


def test_every_rule_and_every_schedule_has_a_row():
    rules = {name for name in AGENTS.names() if _is_rule(name)}
    assert rows("Allocations by rule") == rules
    assert rows("Schedules") == set(SCHEDULES.names())


def _is_rule(name):
    factory = AGENTS.get(name)
    return isinstance(factory, type) and issubclass(factory, Planner)


def test_the_example_of_the_page_works(toys, monkeypatch):
    for registry in (AGENTS, SCHEDULES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "allocations.md", "exec", dont_inherit=True), {"__name__": "builtins"})
    env = toys.ToyEnv(toys.toy_problem([1, 1, 1], size=64), [1.0, 1.0, 1.0])
    widths = list(create_agent("half_last").search(env, 1, seed=0).best.allocation.widths.values())
    assert widths == pytest.approx([38.4, 38.4, 19.2], abs=1)
    steps = create(SCHEDULES, "two_steps:first=3").rounds(Goal(0.4, 10, 0))
    assert [(step.budget, step.epochs) for step in steps] == [(pytest.approx(0.7), 3), (0.4, 7)]


def test_the_message_of_the_page_is_what_is_said():
    with pytest.raises(ConfigurationError) as error:
        create(SCHEDULES, "iterative:count=9").rounds(Goal(0.5, 4, 0))
    assert str(error.value) in " ".join(PAGE.split())
