"""Costs of allocations, budgets, and the problem that an agent has to solve."""

from amc.costs.budget import Budget
from amc.costs.cost_model import CostModel, CostTracker
from amc.costs.decision import Decision
from amc.costs.filter_problem import filter_problem
from amc.costs.polynomial_cost import PolynomialCost
from amc.costs.problem import PruningProblem
from amc.costs.walk import Walk
from amc.costs.weight_problem import weight_problem

__all__ = [
    "Budget",
    "CostModel",
    "CostTracker",
    "Decision",
    "PolynomialCost",
    "PruningProblem",
    "Walk",
    "filter_problem",
    "weight_problem",
]
