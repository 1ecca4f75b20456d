"""Training, evaluation, fine-tuning and their checkpoints."""

from amc.training.config import FineTuneConfig, TrainConfig
from amc.training.evaluate import evaluate, is_chance, predict, score_logits
from amc.training.fine_tuning import fine_tune, train_model
from amc.training.records import EpochRecord, TrainingHooks, TrainingProgress, TrainingResult

__all__ = [
    "EpochRecord",
    "FineTuneConfig",
    "TrainConfig",
    "TrainingHooks",
    "TrainingProgress",
    "TrainingResult",
    "evaluate",
    "fine_tune",
    "is_chance",
    "predict",
    "score_logits",
    "train_model",
]
