"""How often a race gives up the candidate that is truly the best, and how many images it saves.

    python tests/stress/race_errors.py --data DIR --weights FILE      # ResNet-20, half the FLOPs, 100 candidates

Every candidate of a search is scored on all search images, image by image. Then the race is run again on the recorded
outcomes, in many random orders of the images, with candidates compared image by image and each for itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
from half_the_flops import parser_of, task_of

from amc.pipeline.families import create_family
from amc.pipeline.finalists import FINALISTS
from amc.pipeline.racing import RacingEvaluator, reward_of
from amc.pipeline.search import SearchConfig, search_policy
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import ImageScores, Score, Stage
from amc.pruning import PruningConfig
from amc.structure import Allocation
from amc.training.stages import optimistic_score, paired_stage, stage_sizes
from amc.training.strata import strata_of


class Recording(EvaluatorProxy):
    """Keeps every candidate, in order, with its images."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Starts with none."""
        super().__init__(evaluator)
        self.candidates: list[tuple[Allocation, ImageScores]] = []

    def score(self, allocation: Allocation) -> Score:
        """Scores on all images; see `Evaluator`."""
        *_, last = self.inner.stages(allocation, 10**9)
        assert last.images is not None
        self.candidates.append((allocation, last.images))
        return last.score


class Shuffled(Evaluator):
    """Answers from the record, in another order of the images."""

    def __init__(self, candidates: list[tuple[Allocation, ImageScores]], order: np.ndarray, *, tells: bool) -> None:
        """Takes the record.

        Args:
            candidates: Allocations and their images.
            order: Of the images.
            tells: Whether candidates may be compared image by image.
        """
        self._images = {allocation.key(): part(images, order) for allocation, images in candidates}
        self._tells = tells

    @property
    def tells_images(self) -> bool:
        """As it was said; see `Evaluator`."""
        return self._tells

    def score(self, allocation: Allocation) -> Score:
        """Scores on all images; see `Evaluator`."""
        return mean_score(self._images[allocation.key()])

    def stages(self, allocation: Allocation, first: int, rival: ImageScores | None = None) -> Iterator[Stage]:
        """Scores in stages; see `Evaluator`."""
        images = self._images[allocation.key()]
        strata = None if rival is None else strata_of(rival.losses, first)
        for size in stage_sizes(first, len(images.hits)):
            whole = strata is None or size == len(images.hits)
            seen = part(images, np.arange(size) if whole else strata.order[:size])
            optimistic = optimistic_score(mean_score(seen), seen, len(images.hits))
            stage = Stage(mean_score(seen), optimistic, seen if self._tells else None)
            yield stage if strata is None else paired_stage(stage, rival, strata)


def part(images: ImageScores, order: np.ndarray) -> ImageScores:
    """Returns some of the images, in an order."""
    return ImageScores(images.hits[order], images.losses[order], images.agreements[order])


def mean_score(images: ImageScores) -> Score:
    """Returns the score of some images."""
    means = 100 * images.hits.mean(), images.losses.mean(), 100 * images.agreements.mean()
    return Score(*map(float, means), images=len(images.hits))


def race(
    candidates: list[tuple[Allocation, ImageScores]], evaluator: Evaluator, racing: RacingEvaluator, value: Callable
) -> tuple[float, float]:
    """Returns the reward that a race's winner lacks to the best one's, and the images that a candidate saw."""
    scores = [(racing.score(allocation), allocation) for allocation, _ in candidates]
    finalists = sorted(scores, key=lambda pair: -value(pair[1], pair[0]))[:FINALISTS]
    won = max(value(allocation, evaluator.score(allocation)) for _, allocation in finalists)
    best = max(value(allocation, evaluator.score(allocation)) for allocation, _ in candidates)
    return best - won, float(np.mean([score.images for score, _ in scores]))


def main() -> None:
    """Plays the search, replays the races, and prints a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--agent", default="ddpg")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--first", type=int, nargs="+", default=[50, 100, 250, 500])
    options = parser.parse_args()
    task = task_of(options, 500, PruningConfig())
    recording = Recording(create_family(task).evaluator)
    search_policy(task.problem, recording, SearchConfig(options.agent, episodes=options.episodes))
    candidates = list({allocation.key(): (allocation, images) for allocation, images in recording.candidates}.values())
    value = reward_of(task.problem, "accuracy")
    print(
        f"{len(candidates)} candidates\n\n| first images | compared | images seen | best one lost | reward lost, mean |"
    )
    print("| ---: | --- | ---: | ---: | ---: |")
    for first in options.first:
        for tells in (False, True):
            lost, seen = [], []
            for seed in range(options.races):
                order = np.random.default_rng(seed).permutation(len(candidates[0][1].hits))
                shuffled = list(candidates)
                random.Random(seed).shuffle(shuffled)
                evaluator = Shuffled(candidates, order, tells=tells)
                one = race(shuffled, evaluator, RacingEvaluator(evaluator, task.problem, value, first), value)
                lost.append(one[0])
                seen.append(one[1])
            how = "image by image" if tells else "each for itself"
            share = 100 * np.mean(np.array(lost) > 1e-12)
            print(f"| {first} | {how} | {np.mean(seen):.0f} | {share:.1f}% | {np.mean(lost):.5f} |", flush=True)


if __name__ == "__main__":
    main()
