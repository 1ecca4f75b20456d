"""Studies: agents under the same rules over budgets, seeds and numbers of episodes; rewards against accuracy."""

from amc.study.agents_study import AgentsStudy
from amc.study.cell_player import StudyRules
from amc.study.cells import Cell, plan_cells
from amc.study.rewards import allocations_to_compare, measure_rewards, rewards_table
from amc.study.tables import agents_table
from amc.study.variants import Variant

__all__ = [
    "AgentsStudy",
    "Cell",
    "StudyRules",
    "Variant",
    "agents_table",
    "allocations_to_compare",
    "measure_rewards",
    "plan_cells",
    "rewards_table",
]
