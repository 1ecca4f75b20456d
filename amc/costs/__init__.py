"""What allocations cost: FLOPs and parameters as functions of widths, and budgets that bound them."""

from amc.costs.budget import Budget
from amc.costs.cost_model import CostModel, CostTracker
from amc.costs.polynomial_cost import PolynomialCost

__all__ = ["Budget", "CostModel", "CostTracker", "PolynomialCost"]
