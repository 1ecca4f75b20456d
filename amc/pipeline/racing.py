"""Racing: a candidate sees the whole search split only while it can still be the best; poor ones cost less."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import ImageScores, Score, Stage
from amc.structure import Allocation
from amc.utils.options import Chosen
from envs.rewards import Outcome, Reward, paid, resolve_reward

Value = Callable[[Allocation, Score], float]
"""The reward of an allocation with a score."""


def reward_of(problem: PruningProblem, reward: Chosen | Reward) -> Value:
    """Returns the function that computes the rewards that the environment gives.

    Raises:
        UnknownNameError: If the reward does not exist.
        ConfigurationError: If the reward needs a budget and there is none.
    """
    formula = resolve_reward(reward, has_budget=problem.budget is not None)

    def value(allocation: Allocation, score: Score) -> float:
        return paid(formula, Outcome.of(problem, problem.widths(allocation), score))

    return value


class RacingEvaluator(EvaluatorProxy):
    """Scores candidates in stages, and drops those that can no longer beat the best.

    After every stage a candidate continues only if its optimistic reward reaches the highest reward that the run has
    measured on the whole split. Where the evaluator tells how candidates do on each image, a candidate is compared with
    the best one on the same images, and sees those first of which the best is in doubt, which takes fewer of them (see
    `amc.training.stages.paired_stage` and `amc.training.strata`). The agent gets the reward that the images seen
    suggest; it estimates that of the whole split. A candidate that was dropped is likely to be worse than the best, not
    certain: docs/bench.md has the odds. An allocation keeps its score for the whole run.
    """

    def __init__(self, evaluator: Evaluator, problem: PruningProblem, value: Value, first: int) -> None:
        """Starts with no candidates.

        Args:
            evaluator: Scores in stages.
            problem: Decides what is a candidate: what agents measure beyond the budget is not one, and sees all images.
            value: The reward; it must not fall with accuracy or agreement, nor rise with cross-entropy.
            first: Images of the first stage.
        """
        super().__init__(evaluator)
        self._problem, self._value, self._first = problem, value, first
        self._scores: dict[tuple[int, ...], Score] = {}
        self._highest, self._whole = float("-inf"), 0
        self._rival: ImageScores | None = None
        self._unseen: list[Allocation] = []  # best ones since that rival, of which only the score is known

    @property
    def side_by_side(self) -> int:
        """One: how far a candidate runs depends on those before it."""
        return 1

    def expect(self, allocations: Sequence[Allocation]) -> None:
        """Does nothing: few candidates see the whole split."""

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation, on more images the better it does."""
        if not self._competes(allocation):
            return self.inner.score(allocation)
        known = self._scores.get(allocation.key())
        if known is None:
            stage = self._race(allocation)
            known = stage.score
            self._observe(allocation, known, stage.images)
        return known

    def observe(self, allocation: Allocation, score: Score) -> None:
        """Takes a score from an earlier start of the run, in the order of the episodes."""
        if self._competes(allocation):
            self._observe(allocation, score, None)

    def _observe(self, allocation: Allocation, score: Score, images: ImageScores | None) -> None:
        is_new = allocation.key() not in self._scores
        self._scores[allocation.key()] = score
        # The first candidate of a run sees the whole split, which shows how large it is.
        self._whole = max(self._whole, score.images)
        if is_new and score.images == self._whole:
            value = self._value(allocation, score)
            if value > self._highest:
                self._highest = value
                self._take_best(allocation, images)

    def _take_best(self, allocation: Allocation, images: ImageScores | None) -> None:
        if images is None:
            self._unseen.append(allocation)
        else:
            self._rival = images

    def _competes(self, allocation: Allocation) -> bool:
        limit = self._problem.limit
        return limit is None or self._problem.cost(self._problem.widths(allocation)) <= limit

    def _race(self, allocation: Allocation) -> Stage:
        rival = self._images_of_best()
        for stage in self.stages(allocation, self._first, rival):
            if self._value(allocation, stage.optimistic) < self._highest:
                break
        return stage

    def _images_of_best(self) -> ImageScores | None:
        """Returns how the best does on each image; scores it again where an earlier start of the run has scored it.

        So it does with all that were the best before, each beside the last, as that start did. For images are seen in
        the order of the rival's losses, and a loss differs in its last digits with the images beside it in a batch.
        """
        while self._unseen and self.inner.tells_images:
            *_, last = self.inner.stages(self._unseen[0], self._first, self._rival)
            self._rival = last.images
            del self._unseen[0]
        return self._rival
