"""Whatever is chosen by name rejects numbers that make no sense, when it is made."""

from __future__ import annotations

import pytest

from agents import AGENTS
from amc.data.augment import AUGMENTATIONS
from amc.errors import ConfigurationError
from amc.packing.sharing import INITIALISATIONS
from amc.pruning.criteria.base import FILTER_CRITERIA, WEIGHT_CRITERIA
from amc.pruning.recovery.registry import RECOVERIES
from amc.pruning.schedules import SCHEDULES
from amc.training.optimizer import OPTIMIZERS
from amc.training.penalties.registry import PENALTIES
from amc.training.schedule import SCHEDULES as RATES
from amc.utils.options import create, options_of
from envs.rewards import REWARDS

REGISTRIES = [
    AGENTS, AUGMENTATIONS, FILTER_CRITERIA, INITIALISATIONS, OPTIMIZERS, PENALTIES, RATES, RECOVERIES, REWARDS,
    SCHEDULES, WEIGHT_CRITERIA,
]  # fmt: skip
ANY_SIGN = {("variational_dropout", "threshold")}  # a logarithm
NUMBERS = [
    pytest.param(registry, name, option.name, type(option.default), id=f"{name}-{option.name}")
    for registry in REGISTRIES
    for name in registry.names()
    for option in options_of(registry, name)
    if type(option.default) in (int, float) and (name, option.name) not in ANY_SIGN
]


@pytest.mark.parametrize(("registry", "name", "option", "kind"), NUMBERS)
def test_a_negative_number_is_rejected(registry, name, option, kind):
    assert create(registry, name) is not None
    with pytest.raises(ConfigurationError, match=r"-2|must be at least|must be above|must be positive"):
        create(registry, name, **{option: kind(-2)})
