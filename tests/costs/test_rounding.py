"""What widths are rounded to where the target decides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc
from amc.errors import ConfigurationError
from amc.problem.filter_problem import filter_problem
from amc.problem.rounding import rounding_line, step_of
from amc.runtime import blocks
from amc.tracing.trace import trace_structure


def chain(*widths, size=32, groups=False, kernel=3):
    """Returns the structure of convolutions in a row, with a depthwise one after each if asked for."""
    layers, before = [], 3
    for width in widths:
        layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU()] if groups else []
        before = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2)).eval()
    return trace_structure(net, torch.randn(1, 3, size, size))


def steps(structure, round_to):
    return [step_of(structure, index, round_to) for index in structure.prunable]


@pytest.mark.parametrize(("round_to", "wanted"), [("auto:16", [16, 8, 4]), ("auto:8", [8, 8, 4]), ("auto", [8, 8, 4])])
def test_wide_groups_take_the_block_and_narrow_ones_less(round_to, wanted):
    assert steps(chain(128, 64, 32), round_to) == wanted


def test_a_number_holds_for_all_groups():
    assert steps(chain(128, 64, 32), 3) == [3, 3, 3]


def test_small_layers_are_free():
    assert steps(chain(128, 64, 32, size=2), "auto:16")[1:] == [1, 1]


def test_depthwise_and_1x1_convolutions_keep_to_blocks():
    assert steps(chain(24, groups=True, size=64), "auto:16") == [16]
    assert steps(chain(32, 24, size=128, kernel=1), "auto:16") == [16, 16]
    assert steps(chain(24, size=64), "auto:16") == [4]


def test_narrow_groups_stay_aligned_to_four_channels_and_the_narrowest_are_free():
    assert steps(chain(24, 16, 12, size=128), "auto:16") == [4, 4, 1]
    assert steps(chain(24, 16, 12, size=128), "auto:2") == [2, 2, 1]


def test_a_chosen_step_gives_way_to_bounds_and_a_given_one_does_not():
    structure = chain(128)
    bounds = {"0": (0.38, 0.42)}  # 75 to 79 channels stay: no multiple of 16 or 8 but of 4
    (decision,) = filter_problem(structure, None, round_to="auto:16", bounds=bounds).decisions
    assert (decision.step, decision.smallest) == (4, 76)
    with pytest.raises(ConfigurationError, match="no multiple of 16 lies between"):
        filter_problem(structure, None, round_to=16, bounds=bounds)


def test_the_line_counts_groups_by_step():
    line = rounding_line([16, 8, 16, 1], "auto:16")
    assert line is not None
    assert line.startswith("widths: multiples of 16 in 2, multiples of 8 in 1, free in 1 of 4 groups")
    assert "free in 1 of 1 group, " in str(rounding_line([1], "auto:16"))
    assert rounding_line([8, 8], 8) is None


@pytest.mark.parametrize(("capability", "block"), [("AVX512", 16), ("AVX2", 8), ("DEFAULT", 8)])
def test_the_block_follows_the_processor(monkeypatch, capability, block):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert blocks.settled("auto", torch.device("cpu")) == f"auto:{block}"
    assert blocks.settled("auto", torch.device("cuda")) == "auto:8"
    assert blocks.settled("auto:4", torch.device("cpu")) == "auto:4"
    assert blocks.settled(5, torch.device("cpu")) == 5


def test_a_run_records_the_block_that_it_was_begun_with():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    data = (torch.randn(60, 1, 8, 8), torch.arange(60) % 2)
    search = amc.SearchConfig(agent="uniform", untrained=True)
    result = amc.compress(net, (data, data), search=search, finetune=amc.FineTuneConfig(epochs=0), device="cpu")
    assert result.summary["pruning"]["round_to"] == blocks.settled("auto", torch.device("cpu"))


@pytest.mark.parametrize("wrong", [0, -8, "eight", "auto:", "auto:0"])
def test_other_spellings_are_rejected(wrong):
    with pytest.raises(ConfigurationError, match="round_to must be a whole number from 1 up, auto, or auto:N"):
        amc.PruningConfig(round_to=wrong)
