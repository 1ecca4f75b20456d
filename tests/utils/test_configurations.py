"""Options are checked when they are made, whoever makes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import amc
from amc.bench import BenchConfig
from amc.data import DataConfig
from amc.errors import AmcError
from amc.pipeline.config import BudgetConfig


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (amc.PruningConfig, {"family": "fliter"}, "did you mean 'filter'"),
        (amc.PruningConfig, {"exclude": "head"}, r"pruning\.exclude must be a list such as \[a, b\], not 'head'"),
        (amc.PruningConfig, {"bounds": "a=0:1"}, r"pruning\.bounds must be values by name"),
        (amc.PruningConfig, {"bounds": {"a": (0.5, 0.2)}}, r"smallest <= largest <= 1, not 0\.5 and 0\.2 for 'a'"),
        (amc.PruningConfig, {"bounds": {"a": 0.5}}, r"pruning\.bounds of a must be a list"),
        (amc.PruningConfig, {"recalibration_images": 1}, "must be at least 2, or 0 for none, not 1"),
        (
            amc.PruningConfig,
            {"round_to": "2"},
            r"pruning\.round_to must be a whole number from 1 up, auto, .* not '2'",
        ),
        (amc.PruningConfig, {"residual": "no"}, r"pruning\.residual must be true or false"),
        (amc.SearchConfig, {"first_images": 2.5}, "first_images must be a whole number or unset, not 2.5"),
        (amc.SearchConfig, {"reward": 123}, "the reward must be a name or a function"),
        (amc.SearchConfig, {"reward": "acuracy"}, "did you mean 'accuracy'"),
        (amc.SearchConfig, {"allocation_mode": "clap"}, "did you mean 'clip'"),
        (amc.SearchConfig, {"dtype": "float16"}, "dtype must be auto, float32 or bfloat16"),
        (amc.SearchConfig, {"agent": "cem:population=1"}, "population must be at least 2"),
        (amc.SearchConfig, {"seed": -1}, "a seed must be from 0"),
        (amc.FineTuneConfig, {"learning_rate": "x"}, "learning_rate must be a number or unset, not 'x'"),
        (amc.FineTuneConfig, {"epochs": 1.5}, "epochs must be a whole number or unset, not 1.5"),
        (amc.TrainConfig, {"learning_rate": 0}, r"learning_rate must be positive, and at most 1e\+30, not 0"),
        (amc.TrainConfig, {"learning_rate": 1e40}, r"learning_rate must be positive, and at most 1e\+30, not 1e\+40"),
        (amc.TrainConfig, {"weight_decay": 1e40}, r"weight_decay must be from 0 to 1e\+30, not 1e\+40"),
        (amc.TrainConfig, {"decay_by_layer": {"*": 1e40}}, r"decay_by_layer must be from 0 to 1e\+30"),
        (amc.FineTuneConfig, {"epochs": -1}, "epochs must be at least 0, not -1"),
        (amc.FineTuneConfig, {"schedule": "cosin"}, "did you mean 'cosine'"),
        (amc.TrainConfig, {"momentum": 1.0}, r"momentum must be in \[0, 1\), not 1\.0"),
        (DataConfig, {"name": "digit"}, "did you mean 'digits'"),
        (DataConfig, {"search_images": 0}, r"data\.search_images must be at least 1, not 0"),
        (BudgetConfig, {"flops": -0.5}, "a budget is a share"),
        (BenchConfig, {"rounds": 0}, "rounds and reference_rows must be at least 1"),
    ],
)
def test_wrong_options_are_refused_at_once(kind, options, message):
    with pytest.raises(AmcError, match=message):
        kind(**options)
    with pytest.raises(AmcError, match=message):
        replace(kind(), **options)


def test_lists_become_tuples_and_whole_numbers_numbers():
    config = amc.PruningConfig(exclude=["a"], bounds={"b": [0, 1]}, max_keep_ratio=1)
    assert config == amc.PruningConfig(exclude=("a",), bounds={"b": (0.0, 1.0)}, max_keep_ratio=1.0)
    assert (type(config.exclude), type(config.max_keep_ratio)) == (tuple, float)
