"""Data splits, evaluation, fine-tuning and their checkpoints."""

from __future__ import annotations

from amc.structure.running import inference
from amc.training.adapters import as_source, roles_from_loaders, roles_of_pair
from amc.training.config import FineTuneConfig, TrainConfig
from amc.training.data import DataConfig, load_data
from amc.training.device import autocast, bfloat16_pays, device_of, resolve_device, resolve_dtype
from amc.training.evaluate import evaluate, is_chance, predict, score_logits
from amc.training.image_set import BatchSource, ImageSet
from amc.training.progress import EpochRecord, TrainingHooks, TrainingProgress, TrainingResult
from amc.training.score import Evaluator, Score
from amc.training.splits import DataRoles, split_roles
from amc.training.trainer import fine_tune, train_model

__all__ = [
    "BatchSource",
    "DataConfig",
    "DataRoles",
    "EpochRecord",
    "Evaluator",
    "FineTuneConfig",
    "ImageSet",
    "Score",
    "TrainConfig",
    "TrainingHooks",
    "TrainingProgress",
    "TrainingResult",
    "as_source",
    "autocast",
    "bfloat16_pays",
    "device_of",
    "evaluate",
    "fine_tune",
    "inference",
    "is_chance",
    "load_data",
    "predict",
    "resolve_device",
    "resolve_dtype",
    "roles_from_loaders",
    "roles_of_pair",
    "score_logits",
    "split_roles",
    "train_model",
]
