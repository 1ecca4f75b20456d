"""Training runs of policies: one agent over networks, budgets, rewards and seeds at once, to be used on others."""

from amc.policies.planned_task import PlannedTask, planned_tasks
from amc.policies.policy_training import PolicyTraining
from amc.policies.rules import TrainingRules

__all__ = ["PlannedTask", "PolicyTraining", "TrainingRules", "planned_tasks"]
