"""Training of policies: one agent on several networks, budgets, rewards and seeds, for use on others."""

from amc.policies.planned_task import PlannedTask, planned_tasks
from amc.policies.policy_training import PolicyTraining
from amc.policies.rules import TrainingRules

__all__ = ["PlannedTask", "PolicyTraining", "TrainingRules", "planned_tasks"]
