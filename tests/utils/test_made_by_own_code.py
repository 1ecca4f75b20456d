"""What code of the user's own makes is checked where it is made, and told by the name that was given."""

from __future__ import annotations

import pytest
import torch

import amc
from agents import AGENTS
from agents.episodes import EpisodeLog
from amc.data.augment import AUGMENTATIONS
from amc.errors import ConfigurationError
from amc.packing.sharing import INITIALISATIONS
from amc.pipeline.search import SearchConfig, search_policy
from amc.problem import filter_problem
from amc.problem.evaluator import as_evaluator
from amc.problem.score import Score
from amc.pruning import PruningConfig, TableOptions, build_tables
from amc.pruning.criteria.base import FILTER_CRITERIA, WEIGHT_CRITERIA
from amc.pruning.recovery.registry import RECOVERIES
from amc.pruning.schedules import SCHEDULES
from amc.training import TrainConfig
from amc.training.optimizer import OPTIMIZERS
from amc.training.penalties.registry import PENALTIES
from amc.training.schedule import SCHEDULES as RATES
from amc.utils.options import create
from envs.rewards import REWARDS

REGISTRIES = (
    *(AGENTS, FILTER_CRITERIA, WEIGHT_CRITERIA, RECOVERIES, SCHEDULES, OPTIMIZERS, PENALTIES, RATES, REWARDS),
    *(AUGMENTATIONS, INITIALISATIONS),
)


class Nothing:
    """Can do nothing."""


class Listed:
    """A criterion that returns a list."""

    needs = frozenset()

    def __call__(self, group, evidence):
        return [1.0] * group.channels


class Mute:
    """An agent that returns nothing."""

    name = "mute"

    def search(self, env, episodes, *, seed, on_episode=None):
        return None


class Unseeded:
    """An agent whose search takes no seed."""

    name = "unseeded"

    def search(self, env, episodes):
        return EpisodeLog().result()


def taken(outcome):
    """A reward, where what makes one is asked for."""
    return 1.0


@pytest.fixture
def own(monkeypatch):
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        registry.register("nothing", Nothing, "can do nothing")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_what_lacks_the_method_is_refused_where_it_is_made(own, registry):
    with pytest.raises(ConfigurationError, match=rf"{registry.kind} 'nothing' must make (a function|an object with)"):
        create(registry, "nothing")


@pytest.mark.parametrize(
    "configure",
    [
        lambda: SearchConfig(agent="nothing"),
        lambda: SearchConfig(reward="nothing"),
        lambda: PruningConfig(criterion="nothing"),
        lambda: PruningConfig(recovery="nothing"),
        lambda: TrainConfig(penalties=("nothing",), keep="last"),
    ],
)
def test_it_is_refused_before_any_work(own, configure):
    with pytest.raises(ConfigurationError, match="'nothing' must make"):
        configure()


def test_a_search_with_other_arguments_is_refused_before_any_work():
    wanted = r"search of agent '.*:Unseeded' must take \(env, episodes, \*, seed, on_episode=None\): .*'seed'"
    with pytest.raises(ConfigurationError, match=wanted):
        SearchConfig(agent=f"{__name__}:Unseeded")


def test_a_function_in_place_of_what_makes_one_is_explained():
    with pytest.raises(ConfigurationError, match=r"needs the option 'outcome'.*arguments of what makes a reward are"):
        create(REWARDS, f"{__name__}:taken")


def test_a_search_without_episodes_has_no_result():
    with pytest.raises(ConfigurationError, match="must play an episode before it returns"):
        EpisodeLog().result()


def test_scores_that_are_no_tensor_are_refused():
    structure = amc.trace_structure(model := amc.create_model("digits_lenet", seed=0), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigurationError, match=r"must return its scores as a tensor, \(300,\); Listed returns list"):
        build_tables(model, structure, [], TableOptions(f"{__name__}:Listed", refit=False))


def test_a_search_that_returns_something_else_is_refused():
    structure = amc.trace_structure(amc.create_model("digits_lenet", seed=0), torch.zeros(1, 1, 8, 8))
    problem = filter_problem(structure, amc.Budget(flops=0.5))
    with pytest.raises(ConfigurationError, match=r"must return a SearchResult, such as .*, not None"):
        search_policy(
            problem,
            as_evaluator(lambda allocation: Score(90.0, cross_entropy=0.3)),
            SearchConfig(agent=f"{__name__}:Mute"),
        )
