"""The page on criteria names every criterion, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from amc.pruning import CRITERIA, FILTER_CRITERIA

PAGE = (Path(__file__).parents[2] / "docs" / "criteria.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", CRITERIA)
def test_every_criterion_is_on_the_page(family):
    part = PAGE.split("## Channels")[1].split("## Weights")[0 if family == "filter" else 1]
    rows = [line.split("|")[1] for line in part.split("##")[0].splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(CRITERIA[family].names())


def test_the_example_runs(capsys, monkeypatch):
    monkeypatch.setattr(FILTER_CRITERIA, "_entries", dict(FILTER_CRITERIA._entries))
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    torch.manual_seed(0)
    exec(compile(code, "criteria.md", "exec"), namespace := {})
    weight = namespace["model"][0].weight.detach().flatten(1).abs().amax(1)
    assert capsys.readouterr().out.strip() == str(weight.topk(3).indices.sort().values)
