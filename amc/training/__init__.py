"""Data splits, evaluation, fine-tuning and their checkpoints."""

from __future__ import annotations

from amc.training.data import DataConfig, data_names, load_data
from amc.training.device import autocast, bfloat16_pays, device_of, resolve_device, resolve_dtype
from amc.training.evaluate import evaluate, inference, predict, score_logits
from amc.training.image_set import BatchSource, ImageSet
from amc.training.score import Evaluator, Score
from amc.training.splits import DataRoles, split_roles

__all__ = [
    "BatchSource",
    "DataConfig",
    "DataRoles",
    "Evaluator",
    "ImageSet",
    "Score",
    "autocast",
    "bfloat16_pays",
    "data_names",
    "device_of",
    "evaluate",
    "inference",
    "load_data",
    "predict",
    "resolve_device",
    "resolve_dtype",
    "score_logits",
    "split_roles",
]
