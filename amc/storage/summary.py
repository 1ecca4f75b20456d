"""The figures of a network, as `summary.json` holds them: the one schema, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from amc.storage.names import SUMMARY
from amc.utils.plain_json import as_type, read_json
from amc.utils.versions import versions

MOST_EPOCHS, _MOST_CLASSES, _MOST_OTHERS = 100_000, 50_000, 1000
"""Epochs, classes, and agents or rounds of a record: a page shows them all."""
Name = Annotated[str, msgspec.Meta(max_length=1000)]
"""The name of a layer, a class or an operator."""
Text = Annotated[str, msgspec.Meta(max_length=10_000)]
"""A note, or an agent with its options."""
KEEP_RATIOS = tuple(tenths / 10 for tenths in range(1, 11))
"""The shares kept for which the errors of layers are recorded."""


class Cost(msgspec.Struct, frozen=True):
    """What the two networks cost by one metric.

    Attributes:
        dense: The dense network's cost, None where it is not known.
        pruned: That of the pruned network.
    """

    dense: float | int | None
    pruned: float | int | None


class Epoch(msgspec.Struct, frozen=True):
    """One epoch of a fine-tuning.

    Attributes:
        epoch: Its number, from 1; 0 is the network before.
        accuracy: On the search split, in percent.
        loss: Mean training loss; None in epoch 0.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0, le=10**6)]
    accuracy: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)] | None
    loss: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)] | None = None


class Layer(msgspec.Struct, frozen=True):
    """One decision: what it covers in the dense network.

    Attributes:
        name: Its name.
        units: Channels, or weights.
        flops: Of the layers that write them.
        params: Of the same.
        errors: Relative error where this one alone keeps each of `KEEP_RATIOS`; empty where that is not known.
    """

    name: Name
    units: Annotated[int, msgspec.Meta(ge=1)]
    flops: Annotated[int, msgspec.Meta(ge=0)]
    params: Annotated[int, msgspec.Meta(ge=0)]
    errors: Annotated[list[float | int], msgspec.Meta(max_length=100)] = []


_Counts = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=_MOST_CLASSES)]


class Classes(msgspec.Struct, frozen=True):
    """Test images by class, and how many of them the dense and the finished network classify correctly."""

    names: Annotated[list[Name], msgspec.Meta(max_length=_MOST_CLASSES)]
    images: _Counts
    dense: _Counts
    finetuned: _Counts


class DataCounts(msgspec.Struct, frozen=True):
    """The data that a network was pruned on.

    Attributes:
        name: What they are called; empty if that is not known.
        train: Images, or items, that trained it.
        calibration: Of these, those that statistics were taken from.
        search: Those that candidates were scored on.
        test: Those that were read once, for the accuracies.
    """

    name: Name
    train: Annotated[int, msgspec.Meta(ge=0)]
    calibration: Annotated[int, msgspec.Meta(ge=0)]
    search: Annotated[int, msgspec.Meta(ge=0)]
    test: Annotated[int, msgspec.Meta(ge=0)]


class Summary(msgspec.Struct, kw_only=True, frozen=True):
    """The figures of a network: the same entries whatever command made it.

    Attributes:
        command: The command: `"compress"`, `"prune"` or `"finetune"`.
        model: Name of the dense network.
        data: What it was pruned on; None where a function of the user's own judged it, and in earlier versions.
        agent: Who chose the allocation.
        seed: Seed of everything random.
        pruning: The options of pruning.
        budget: The largest costs within the budget, by metric.
        costs: What the networks cost, by metric; see `costs_by_metric`.
        not_counted: Operators that the FLOPs leave out, and how often each is called.
        counted_by_own_rule: Operators whose FLOPs are counted by a rule of our own, and how often each is called.
        latency_ms: Measured latencies; see `amc.pipeline.speed`.
        time_budget: What became of a budget in time; see `amc.pipeline.acceptance`.
        metric: Describes the figures under `accuracy`.
        accuracy: Test top-1 in percent, or the user's own measure: of the dense network, and of the pruned one before
            and after fine-tuning. What is not known is None.
        search: Figures of the search.
        baselines: Figures of the agents compared with.
        schedule: In which rounds the network was made.
        rounds: Figures of each round where there were several; see `amc.pipeline.rounds`.
        notes: What is to be said of the network: which epoch was kept, and warnings of its training.
        stability: Pruning stability by round, in percent; see `amc.pipeline.stability`. Of one round it is that on the
            test images, of several those on the search split; None where there is no share to speak of.
        sparsity: What zeros leave of the neurons of each layer; see `amc.pruning.neuron_sparsity`. Empty without zeros.
        curve: Its fine-tuning, epoch by epoch.
        layers: The decisions.
        classes: The test images by class; None where there are no classes.
        versions: Versions of what the figures depend on.
    """

    command: Name
    model: Text
    data: DataCounts | None = None
    agent: Text | None = None
    seed: int
    pruning: dict[str, Any] | None = None
    budget: dict[str, float | int | None] | None = {}
    costs: Annotated[dict[Name, Cost], msgspec.Meta(max_length=_MOST_OTHERS)]
    not_counted: dict[Name, int] | None = {}
    counted_by_own_rule: dict[Name, int] | None = {}
    latency_ms: dict[str, Any] | None = None
    time_budget: dict[str, Any] | None = None
    metric: Text | None = None
    accuracy: dict[str, float | int | None]
    search: dict[str, Any] | None = None
    baselines: Annotated[dict[Text, dict[str, Any]], msgspec.Meta(max_length=_MOST_OTHERS)] = {}
    schedule: Text = "one_shot"
    rounds: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=_MOST_OTHERS)] = []
    notes: Annotated[list[Text], msgspec.Meta(max_length=_MOST_OTHERS)] = []
    stability: list[float | int | None] = []
    sparsity: list[dict[str, Any]] = []
    curve: Annotated[list[Epoch], msgspec.Meta(max_length=MOST_EPOCHS)] = []
    layers: Annotated[list[Layer], msgspec.Meta(max_length=10_000)] = []
    classes: Classes | None = None
    versions: dict[str, Any] = msgspec.field(default_factory=versions)

    def as_dict(self) -> dict[str, Any]:
        """Returns the entries as JSON has them."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record

    @property
    def family(self) -> str | None:
        """The family of pruning, `"filter"` or `"weight"`; None if it is not recorded."""
        return (self.pruning or {}).get("family")


def costs_by_metric(
    pruned: Mapping[str, int | float], dense: Mapping[str, int | float | None] | None = None
) -> dict[str, Cost]:
    """Returns the costs of the pruned and of the dense network, where they are known."""
    return {name: Cost((dense or {}).get(name), cost) for name, cost in pruned.items()}


def accuracies(
    dense: float | None = None, pruned: float | None = None, finetuned: float | None = None
) -> dict[str, float | int | None]:
    """Returns the figures of the networks by name."""
    return {"dense": dense, "pruned": pruned, "finetuned": finetuned}


def read_summary(folder: Path) -> Summary | None:
    """Returns the figures of a folder; None if it has none, or they are damaged."""
    try:
        return as_type(read_json(folder / SUMMARY), Summary)
    except (OSError, ValueError):
        return None
