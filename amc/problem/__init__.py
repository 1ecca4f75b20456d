"""The problem that an agent has to solve: decisions, what they cost, and the budget."""

from amc.problem.decision import Decision
from amc.problem.filter_problem import filter_problem
from amc.problem.problem import PruningProblem
from amc.problem.space import DecisionSpace
from amc.problem.walk import Walk
from amc.problem.weight_problem import weight_problem

__all__ = ["Decision", "DecisionSpace", "PruningProblem", "Walk", "filter_problem", "weight_problem"]
