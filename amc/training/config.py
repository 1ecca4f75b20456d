"""The settings of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from amc.errors import ConfigurationError
from amc.runtime.device import resolve_device, resolve_dtype
from amc.training.optimizer import OPTIMIZERS, spell_optimizer
from amc.training.penalties.registry import PENALTIES
from amc.training.schedule import SCHEDULES
from amc.utils.conversion import conform
from amc.utils.options import Chosen, create, spell

_LARGEST = 1e30
"""The largest learning rate and weight decay: far more than any training can use, and still no overflow."""


@dataclass(frozen=True)
class FineTuneConfig:
    """How a pruned network is fine-tuned.

    Attributes:
        epochs: Passes over the training images; 0 leaves the network as it is; unset: 10, or with fewer than 1,000
            images up to 25, to make 120 steps.
        learning_rate: The peak of the schedule; unset: it depends on the number of images, at most 0.05 (in training
            from scratch 0.1).
        schedule: How the learning rate changes.
        warmup: Share of all steps in which the learning rate rises, from a 25th of the peak.
        batch_size: Images per step; unset: that of your own loader, or 16 to 128, depending on the number of images.
        accumulate: Parts that a batch is run in, one after the other, where it does not fit into memory: their
            gradients are averaged before the step. Batch norms see the parts.
        optimizer: SGD, AdamW, or any of torch.optim. For all but SGD, an unset learning rate is 0.001.
        momentum: Momentum of SGD, 0 to 1.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: Weight of the L2 penalty.
        decay_norms: Whether the penalty also covers batch norms and biases.
        decay_by_layer: L2 penalty by name pattern of layers or their parameters, in place of the two above; of several
            that match, the first counts.
        ema: What an average of the weights keeps of itself in a step, such as 0.999: that average is then the network
            that is scored, compared and kept. Unset: the weights themselves.
        compile: Whether torch.compile is tried, which takes up to minutes first and is for long trainings on GPUs.
        label_smoothing: Share of the target that is spread over all classes.
        distillation: Weight of the dense network's outputs in the loss, 0 to 1; the rest is that of the labels.
        temperature: How much both networks' outputs are softened in the distillation; 1: not at all.
        feature_distillation: Weight of the dense network's features in the loss, added to labels and outputs; 0 for
            none. 50 at a learning rate of 0.02 worked well on residual networks with batch norms; others may diverge.
        dtype: Number format of the computation: float32, bfloat16, or auto for bfloat16 where the device gains from it.
        keep: Which epoch's weights are kept: the last, or the best on the search split, which may be the network before
            training.
        freeze: What is not trained: none, convolutions (then only linear layers are), or linear.
        dropout: Ratios of dropout layers: same, or pruned, which is less where fewer weights are left.
        penalties: Terms added to the loss that drive channels or weights to zero. They need keep last, as earlier
            epochs are less sparse.

    Raises:
        UnknownNameError: If the schedule, or what to keep, does not exist.
        ConfigurationError: If a setting has the wrong type, or is out of its range.
    """

    epochs: int | None = None
    learning_rate: float | None = None
    schedule: Chosen = "one_cycle"
    warmup: float = 0.3
    batch_size: int | None = None
    accumulate: int = 1
    optimizer: Chosen = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norms: bool = True
    decay_by_layer: Mapping[str, float] = field(default_factory=dict)
    ema: float | None = None
    compile: bool = False
    label_smoothing: float = 0.0
    distillation: float = 0.5
    temperature: float = 4.0
    feature_distillation: float = 0.0
    dtype: str = "auto"
    keep: Literal["last", "best"] = "best"
    freeze: Literal["none", "convolutions", "linear"] = "none"
    dropout: Literal["same", "pruned"] = "same"
    penalties: tuple[Chosen, ...] = ()

    def __post_init__(self) -> None:
        """Checks the settings."""
        object.__setattr__(self, "schedule", spell(SCHEDULES, self.schedule))
        create(SCHEDULES, self.schedule)
        object.__setattr__(self, "optimizer", spell_optimizer(self.optimizer))
        create(OPTIMIZERS, self.optimizer)
        conform(self)
        object.__setattr__(self, "penalties", tuple(spell(PENALTIES, penalty) for penalty in self.penalties))
        for penalty in self.penalties:
            create(PENALTIES, penalty)
        resolve_dtype(self.dtype, resolve_device("cpu"))
        rules = {
            "epochs": (self.epochs is None or self.epochs >= 0, "at least 0"),
            "learning_rate": (
                self.learning_rate is None or 0 < self.learning_rate <= _LARGEST,
                f"positive, and at most {_LARGEST:g}",
            ),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "batch_size": (self.batch_size is None or self.batch_size >= 1, "at least 1"),
            "accumulate": (
                1 <= self.accumulate <= (self.batch_size or self.accumulate),
                "at least 1" if self.batch_size is None else f"from 1 to the batch_size of {self.batch_size}",
            ),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "nesterov": (not self.nesterov or self.momentum > 0, "false where momentum is 0"),
            "weight_decay": (0 <= self.weight_decay <= _LARGEST, f"from 0 to {_LARGEST:g}"),
            "decay_by_layer": (
                all(0 <= decay <= _LARGEST for decay in self.decay_by_layer.values()),
                f"from 0 to {_LARGEST:g}",
            ),
            "ema": (self.ema is None or 0 < self.ema < 1, "in (0, 1)"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "distillation": (0 <= self.distillation <= 1, "in [0, 1]"),
            "temperature": (self.temperature > 0, "positive"),
            "feature_distillation": (self.feature_distillation >= 0, "at least 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ConfigurationError(f"{name} must be {rule}, not {getattr(self, name)!r}")
        if self.penalties and self.keep == "best":
            raise ConfigurationError(
                "keep must be 'last' where there are penalties, not 'best': they work up to the last step; "
                "give --finetune.keep last, or keep='last' in Python"
            )

        if self.penalties and self.ema is not None:
            raise ConfigurationError(
                f"ema must be unset where there are penalties, not {self.ema:g}: an average of weights lacks the zeros "
                "of the last ones"
            )

    @property
    def planned_epochs(self) -> int:
        """The epochs, where they are set; `amc.training.defaults.fitted` sets them."""
        assert self.epochs is not None, "the epochs are open: fit the settings to the data first"
        return self.epochs


@dataclass(frozen=True)
class TrainConfig(FineTuneConfig):
    """How a network is trained from scratch: the attributes of `FineTuneConfig`, without a teacher, and two more.

    Attributes:
        epochs: Passes over the training images; 0 leaves the network as it is; unset: 20, or from scratch below 1,000
            images up to 100, to make 600 steps.
        head: New layers of a trained network, which are first trained alone, without penalties; set automatically if
            --weights are for other classes.
        head_epochs: Epochs in which they are trained alone.
    """

    epochs: int | None = None
    warmup: float = 0.15
    distillation: float = 0.0
    keep: Literal["last", "best"] = "last"
    head: tuple[str, ...] = ()
    head_epochs: int = 3


_LATER: dict[str, Any] = {"accumulate": 1, "optimizer": "sgd", "decay_by_layer": {}, "ema": None, "compile": False}
"""Settings that checkpoints of earlier versions lack, and what those trained with."""


def settings_of(config: FineTuneConfig) -> dict[str, Any]:
    """Returns the settings that a training must have in common with the one that it continues."""
    return {name: value for name, value in asdict(config).items() if name not in _LATER or value != _LATER[name]}
