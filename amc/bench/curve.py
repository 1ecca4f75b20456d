"""How the time of an episode grows with the network; random weights and random images suffice for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from amc.bench.speed import SearchWatch, where_computed
from amc.costs import Budget
from amc.data import DataRoles
from amc.data.image_set import ImageSet
from amc.models import create_model, example_input_shape
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, check_search
from amc.pipeline.settling import fast_threads
from amc.pipeline.task import Task
from amc.pruning import PruningConfig
from amc.runtime import resolve_device
from amc.training import FineTuneConfig

CLASSES = 10
_CALIBRATION = 100


@dataclass(frozen=True)
class CurvePoint:
    """One network.

    Attributes:
        model: Its name.
        layers: Its convolutions and linear layers.
        decisions: Steps of an episode.
        flops: FLOPs of the dense network for one image (a multiply-add is one).
        images: Images that score a candidate.
        seconds: Seconds an episode, the median of the rounds.
        forward: Share of the forward passes, those that re-estimate batch norms included, in percent.
        setup_seconds: Statistics and tables, once per search.
        rounds: Searches that were timed.
        device: The device that computed.
        dtype: Number format of the candidates.
        threads: PyTorch's threads on the CPU.
        clock: As in `BenchReport`.
    """

    model: str
    layers: int
    decisions: int
    flops: int
    images: float
    seconds: float
    forward: float
    setup_seconds: float
    rounds: int
    device: str
    dtype: str
    threads: int
    clock: str

    @property
    def picoseconds(self) -> float:
        """Picoseconds an episode for every image and FLOP of the dense network: constant where time is linear."""
        return 1e12 * self.seconds / (self.images * self.flops)


def measure_curve(
    models: Sequence[str],
    search: SearchConfig,
    *,
    budget: Budget | None,
    pruning: PruningConfig,
    images: int,
    rounds: int,
    device: str = "auto",
    dtype: str = "auto",
    deterministic: bool = False,
    recorder: Recorder | None = None,
) -> Iterator[CurvePoint]:
    """Times searches of networks with random weights.

    Args:
        models: Names of networks.
        search: The search of each round.
        budget: The budget.
        pruning: The pruning.
        images: Random images that score a candidate.
        rounds: Searches a network.
        device: Where to compute.
        dtype: Number format of the candidates.
        deterministic: Whether the order of all sums must be the same every time.
        recorder: Shows the progress within a network.

    Yields:
        One point a network, as soon as it is known.

    Raises:
        AmcError: If a network or an option cannot be used.
    """
    for name in models:
        example_input_shape(name)  # a wrong name is rejected before the first is measured
    for name in models:
        task = _random_task(name, budget, pruning, images, search.seed, device, dtype)
        check_search(task.problem, search)
        with fast_threads(task.model, task.example_input, device, deterministic=deterministic):
            point = _measure(name, task, search, rounds, recorder)
        yield point


def _measure(name: str, task: Task, search: SearchConfig, rounds: int, recorder: Recorder | None) -> CurvePoint:
    """Times searches of one network, with the number of threads that is set."""
    watch = SearchWatch(task, search, recorder)
    for turn in range(rounds):
        watch.play(turn)
    speed, device = watch.result(), resolve_device(task.device)
    return CurvePoint(
        model=name,
        layers=len(task.structure.layers),
        decisions=len(task.problem.decisions),
        flops=task.structure.dense_flops,
        images=speed.images,
        seconds=speed.seconds_per_episode,
        forward=speed.split["forward"] + speed.split["recalibration"],
        setup_seconds=speed.setup_seconds,
        rounds=rounds,
        **where_computed(task, device),
    )


def _random_task(
    name: str, budget: Budget | None, pruning: PruningConfig, images: int, seed: int, device: str, dtype: str
) -> Task:
    """Sets up a network with random weights on random images."""
    shape = example_input_shape(name)[-3:]
    generator = torch.Generator().manual_seed(seed)

    def random_images(count: int) -> ImageSet:
        classes = torch.arange(count) % CLASSES
        return ImageSet(torch.randn(count, *shape, generator=generator), classes)

    calibration, search = random_images(_CALIBRATION), random_images(images)
    roles = DataRoles(train=calibration, calibration=calibration, search=search, test=search)
    return prepare(
        create_model(name, num_classes=CLASSES, seed=seed),
        roles,
        budget,
        pruning=pruning,
        finetune=FineTuneConfig(epochs=0),
        seed=seed,
        device=device,
        dtype=dtype,
    )
