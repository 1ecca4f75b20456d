"""The search's speed, its split, and its ratio to the reference procedure, from interleaved rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

import torch

from agents import Agent, EpisodeResult, create_agent
from amc.bench.clock import SectionClock
from amc.bench.memory import peak_device_memory, peak_memory
from amc.bench.reference import ROWS, ReferenceProcedure
from amc.errors import ConfigurationError
from amc.pipeline.deliver import Workshop
from amc.pipeline.evaluators import FilterEvaluator
from amc.pipeline.racing import RacingEvaluator
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.pipeline.task import Task
from amc.pruning import CandidateNetwork
from amc.runtime import resolve_device, resolve_dtype
from amc.runtime.clock import Clock, clock_for, is_one_thread
from amc.structure import Allocation
from amc.utils.conversion import SEEDS
from amc.utils.progress import steps_of
from envs.pruning_env import PruningEnv

SECTIONS = ("forward", "recalibration", "assembly", "agent", "environment", "rest")
"""Parts of an episode: the forward passes on the search split; the one on calibration images for the batch norms;
looking candidates' weights up; the agent; the environment."""


@dataclass(frozen=True)
class BenchConfig:
    """How the speed is measured.

    Attributes:
        rounds: How often the search and the reference take turns.
        reference_episodes: Allocations that the reference scores in each round, taken from the search; 0 for none.
        reference_rows: Positions that the reference samples in every layer: rows of its least-squares problems.

    Raises:
        ConfigurationError: If there would be nothing to measure.
    """

    rounds: int = 3
    reference_episodes: int = 1
    reference_rows: int = ROWS

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.rounds < 1 or self.reference_episodes < 0 or self.reference_rows < 1:
            raise ConfigurationError(
                "rounds and reference_rows must be at least 1 and reference_episodes at least 0, "
                f"not {self.rounds}, {self.reference_rows} and {self.reference_episodes}"
            )


@dataclass(frozen=True)
class SearchSpeed:
    """The time of rounds of the search.

    Attributes:
        setup_seconds: Statistics and tables, once a search.
        seconds: Seconds an episode, one number per round.
        images: Images that scored a candidate, in the mean.
        split: Share of the time by section, in percent, over all rounds.
        peak_memory: The process's peak in bytes after the first round; None where it is not known.
        peak_device_memory: Peak of the tensors on the GPU, in bytes; None on other devices.
    """

    setup_seconds: float
    seconds: tuple[float, ...]
    images: float
    split: dict[str, float]
    peak_memory: int | None
    peak_device_memory: int | None

    @property
    def seconds_per_episode(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class ReferenceSpeed:
    """The time of rounds of the reference procedure.

    Attributes:
        setup_seconds: Sampling the activations, once.
        seconds: Seconds an episode, one number per round.
        memory: Size of the sampled activations, in bytes.
    """

    setup_seconds: float
    seconds: tuple[float, ...]
    memory: int

    @property
    def seconds_per_episode(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class BenchReport:
    """Speed of the search beside the reference's.

    Attributes:
        search: The search.
        reference: The reference procedure; None if it was not asked for.
        device: The device that computed.
        dtype: Number format of the candidates.
        threads: PyTorch's threads on the CPU.
        clock: `"processor"` where seconds are those of the processor, `"wall"` where they are of the clock on the wall.
    """

    search: SearchSpeed
    reference: ReferenceSpeed | None
    device: str
    dtype: str
    threads: int
    clock: str

    @property
    def ratio(self) -> float | None:
        """How many times as long an episode of the reference takes; its agent and environment are left out."""
        if self.reference is None:
            return None
        return self.reference.seconds_per_episode / self.search.seconds_per_episode

    def as_dict(self) -> dict[str, Any]:
        """Returns all figures, for JSON."""
        seconds = self.search.seconds_per_episode
        return {
            **asdict(self),
            "episodes_per_second": 1 / seconds,
            "images_per_second": self.search.images / seconds,
            "seconds_per_episode": seconds,
            "reference_seconds_per_episode": self.reference and self.reference.seconds_per_episode,
            "ratio": self.ratio,
        }


class _Where(TypedDict):
    device: str
    dtype: str
    threads: int
    clock: str


def measure_speed(
    task: Task, search: SearchConfig, config: BenchConfig, recorder: Recorder | None = None
) -> BenchReport:
    """Runs the search and the reference procedure in turns.

    Args:
        task: The network, its data and the budget.
        search: The search; every round is a whole search, with a seed of its own.
        config: How to measure.
        recorder: Shows the progress.

    Raises:
        ConfigurationError: If single weights are to be pruned.
    """
    device = resolve_device(task.device)
    clock = clock_for(device)
    recorder = recorder or Recorder()
    watch = SearchWatch(task, search, recorder)
    watch.play(0)
    peak = peak_memory()
    reference, setup = None, 0.0
    if config.reference_episodes:
        start = clock()
        with recorder.stage("sample activations for the reference", 1) as advance:
            reference = ReferenceProcedure(task, config.reference_rows)
            advance(1.0)
        setup = clock() - start
    reference_seconds = []
    for turn in range(config.rounds):
        if turn:
            watch.play(turn)
        if reference is not None:
            reference_seconds.append(_time_scores(reference, watch.spread(config.reference_episodes), recorder, clock))
    return BenchReport(
        search=replace(watch.result(), peak_memory=peak, peak_device_memory=peak_device_memory(device)),
        reference=None if reference is None else ReferenceSpeed(setup, tuple(reference_seconds), reference.memory),
        **where_computed(task, device),
    )


def where_computed(task: Task, device: torch.device) -> _Where:
    """Returns what computes, in what format, and what times it."""
    return {
        "device": device.type,
        "dtype": str(resolve_dtype(task.dtype, device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "clock": "processor" if is_one_thread(device) else "wall",
    }


class SearchWatch:
    """Times whole searches of one task."""

    def __init__(self, task: Task, search: SearchConfig, recorder: Recorder | None = None) -> None:
        """Sets the search up, and scores one candidate to warm up.

        Args:
            task: The network, its data and the budget.
            search: The search.
            recorder: Shows the progress.

        Raises:
            ConfigurationError: If single weights are to be pruned.
        """
        if task.problem.kind != "filter":
            raise ConfigurationError("the split is measured for filters; choose --pruning.family filter")
        self._task, self._search, self._recorder = task, search, recorder or Recorder()
        self._device = resolve_device(task.device)
        settle = torch.cuda.synchronize if self._device.type == "cuda" else None
        clock = clock_for(self._device)
        self._clock = SectionClock("rest", clock, settle)
        start = clock()
        self._workshop = Workshop(task, self._recorder)
        self._setup = clock() - start
        self._workshop.evaluator.score(
            task.problem.allocation(task.problem.project([1.0] * len(task.problem.decisions)))
        )
        self._seconds: list[float] = []
        self._episodes: list[EpisodeResult] = []

    def play(self, turn: int) -> None:
        """Plays one search, with a seed of its own."""
        config = replace(self._search, seed=(self._search.seed + turn) % SEEDS)
        agent = _TimedAgent(create_agent(config.agent), self._clock)
        before = self._clock.total
        with self._sections(), self._clock.running():
            outcome = search_policy(self._task.problem, self._workshop.evaluator, config, self._recorder, agent=agent)
        self._seconds.append((self._clock.total - before) / len(outcome.episodes))
        self._episodes += outcome.episodes

    def spread(self, count: int) -> list[Allocation]:
        """Returns allocations that the searches have scored, evenly spread over them."""
        places = [len(self._episodes) * (2 * index + 1) // (2 * count) for index in range(count)]
        return [self._episodes[place].allocation for place in places]

    def result(self) -> SearchSpeed:
        """Returns what the searches took."""
        total = self._clock.total
        return SearchSpeed(
            setup_seconds=self._setup,
            seconds=tuple(self._seconds),
            images=statistics.fmean(episode.score.images for episode in self._episodes),
            split={name: 100 * self._clock.seconds.get(name, 0.0) / total for name in SECTIONS},
            peak_memory=None,
            peak_device_memory=None,
        )

    @contextmanager
    def _sections(self) -> Iterator[None]:
        """Wraps the methods that the sections measure."""
        places = (
            (CandidateNetwork, "run", "forward"),
            (CandidateNetwork, "recalibrate", "recalibration"),
            (CandidateNetwork, "load", "assembly"),
            (PruningEnv, "step", "environment"),
            (PruningEnv, "reset", "environment"),
            (FilterEvaluator, "score", "rest"),
            (RacingEvaluator, "score", "rest"),
        )
        with ExitStack() as stack:
            for owner, attribute, name in places:
                stack.enter_context(self._clock.wrapped(owner, attribute, name))
            yield


class _TimedAgent:
    """An agent whose own time is counted."""

    def __init__(self, agent: Agent, clock: SectionClock) -> None:
        self._agent, self._clock = agent, clock
        self.name = agent.name

    def search(self, *args: Any, **keywords: Any) -> Any:
        with self._clock.section("agent"):
            return self._agent.search(*args, **keywords)


def _time_scores(
    score: Callable[[Allocation], object], allocations: Sequence[Allocation], recorder: Recorder, clock: Clock
) -> float:
    """Returns the mean seconds of a score."""
    with recorder.stage("the reference procedure", len(allocations), "episodes") as advance:
        start, step = clock(), steps_of(len(allocations), advance)
        for allocation in allocations:
            score(allocation)
            step()
        return (clock() - start) / len(allocations)
