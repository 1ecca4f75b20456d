"""The page on one's own parts runs, and its parts are short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from agents import AGENTS
from amc.cli.main import main
from amc.pruning import FILTER_CRITERIA
from amc.pruning.recovery.registry import RECOVERIES
from amc.training.penalties.registry import PENALTIES
from envs.rewards import REWARDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
REGISTRIES = (AGENTS, FILTER_CRITERIA, RECOVERIES, PENALTIES, REWARDS)


@pytest.fixture
def page(monkeypatch):
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    namespace = {"__name__": "extend"}
    for block in BLOCKS:
        exec(compile(block, "docs/extend.md", "exec", dont_inherit=True), namespace)
    return namespace


def test_the_page_runs_and_its_parts_are_chosen_by_name(page, capsys):
    result = page["result"]
    assert result.summary["agent"] == "halving:reach=0.3"
    assert len(result.episodes) == 4
    assert result.summary["pruning"]["recovery"] == "match_mean:share=0.5"
    assert main(["compress", "--agent", "halving", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "  halving  " in printed
    assert "Largest change of a keep ratio at the start (default: 0.4)" in printed


@pytest.mark.parametrize("index", range(len(BLOCKS) - 1))
def test_every_part_is_short(index):
    tree = ast.parse(BLOCKS[index])
    code = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and not is_docstring(node)}
    assert len(code) <= 20


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_page_names_every_group_of_entry_points():
    sources = [file for package in ("amc", "envs", "agents") for file in (ROOT / package).rglob("*.py")]
    found = re.findall(r'= Registry\(\s*"[^"]+", "(amc\.\w+)"', "".join(file.read_text("utf-8") for file in sources))
    assert {registry.group for registry in REGISTRIES} < set(found)
    assert [group for group in found if f"`{group}`" not in PAGE] == []
