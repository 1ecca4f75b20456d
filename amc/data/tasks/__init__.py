"""Tasks: how a network's outputs are compared with the targets, in training and in reports."""

from amc.data.tasks.losses import LOSSES
from amc.data.tasks.meters import Meter
from amc.data.tasks.metrics import METRICS, Metric
from amc.data.tasks.task_type import CLASSIFICATION, TASKS, TaskType, task_type

__all__ = ["CLASSIFICATION", "LOSSES", "METRICS", "TASKS", "Meter", "Metric", "TaskType", "task_type"]
