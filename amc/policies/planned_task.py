"""The tasks of a training: every network at every budget, for every reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amc.pipeline.deliver import Workshop
from amc.pipeline.search import SearchConfig, check_search
from amc.pipeline.task import Task, problem_at
from amc.policies.rules import TrainingRules
from amc.problem import PruningProblem


@dataclass(frozen=True)
class PlannedTask:
    """One network at one budget, for one reward.

    Attributes:
        network: Name of the network, with the seed of its data if there are several.
        task: The network and its data.
        problem: Decisions and budget.
        reward: Name of the reward.
        budget: The budget as it was given.
    """

    network: str
    task: Task
    problem: PruningProblem
    reward: str
    budget: float

    @property
    def name(self) -> str:
        """The name in files and tables."""
        return f"{self.network} {self.problem.metric} {self.budget:g} {self.reward}"

    def search(self, rules: TrainingRules) -> SearchConfig:
        """Returns the rules of its episodes, as those of a search."""
        return SearchConfig(
            agent=rules.agent,
            episodes=1,
            reward=self.reward,
            allocation_mode=rules.allocation_mode,
            seed=rules.seed,
            first_images=rules.first_images,
            features=rules.features,
        )


def planned_tasks(
    networks: dict[str, Task], metric: str, budgets: Sequence[float], rewards: Sequence[str], rules: TrainingRules
) -> list[PlannedTask]:
    """Lists the tasks, and checks them before work starts.

    Args:
        networks: The networks with their data, by name.
        metric: What the budgets bound.
        budgets: Shares kept of the dense cost.
        rewards: Names of the rewards.
        rules: How the policy is trained.

    Raises:
        AmcError: If a budget cannot be met, or a reward does not exist.
    """
    found = []
    for name, task in networks.items():
        for budget in budgets:
            problem = problem_at(task, metric, budget)
            for reward in rewards:
                planned = PlannedTask(name, task, problem, reward, budget)
                check_search(problem, planned.search(rules))
                found.append(planned)
    return found


def workshops(tasks: Sequence[PlannedTask]) -> dict[str, Workshop]:
    """Gathers the statistics and tables of every network, once each."""
    made: dict[str, Workshop] = {}
    for planned in tasks:
        if planned.network not in made:
            made[planned.network] = Workshop(planned.task)
    return made
