"""The last choice of a search: the best few candidates, compared on all images and as they will be delivered."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from agents.guides import PLAYED_FIRST
from agents.protocol import EpisodeResult, SearchResult
from amc.pipeline.racing import Value
from amc.pipeline.recalled import recalled
from amc.pipeline.recorder import Recorder
from amc.problem.evaluator import Evaluator
from amc.problem.score import Score
from amc.structure import Allocation

FINALISTS = 5
"""Candidates that are scored on the whole search split before the best is chosen."""
_DELIVERED = 2
"""Of these, how many are delivered, beside the best heuristic that the search started from."""


class _ScoreRecord(msgspec.Struct):
    """What a run records about a finalist that was delivered; see `Score`."""

    accuracy: float
    cross_entropy: float
    agreement: float | None
    images: int


def choose(outcome: SearchResult, evaluator: Evaluator, value: Value, recorder: Recorder) -> EpisodeResult:
    """Returns the episode whose network is to be delivered.

    The best few are scored on the whole split, unless they were. Where a candidate is scored by a quicker recovery than
    the delivery's (weight pruning), the search may have adapted to the difference: so the best two, and the best of the
    heuristics that the search started from, are then pruned and refit as for the delivery, without training, and the
    best of these on the search split is chosen. Its reward stays that of the search.

    Args:
        outcome: All episodes.
        evaluator: Scores on the whole split, and as delivered.
        value: The reward.
        recorder: Shows the progress, and keeps what was measured.
    """
    ranked = _ranked_on_all(outcome, evaluator, value)
    if not evaluator.delivers:
        return ranked[0]
    starts = outcome.episodes[: len(PLAYED_FIRST[ranked[0].allocation.kind])]
    start = max(starts, key=lambda result: result.reward)
    contenders = {result.allocation.key(): result for result in [*ranked[:_DELIVERED], start]}
    if len(contenders) == 1:
        return ranked[0]
    with recorder.stage("compare the best as delivered", len(contenders), "networks") as advance:
        found = []
        for done, result in enumerate(contenders.values(), start=1):
            score = _delivered(result.allocation, evaluator, recorder)
            found.append((value(result.allocation, score), result))
            advance(done / len(contenders), f"episode {result.episode}: {found[-1][0]:.4f}")
    return max(found, key=lambda pair: pair[0])[1]


def _delivered(allocation: Allocation, evaluator: Evaluator, recorder: Recorder) -> Score:
    """Scores an allocation as delivered, once a run."""
    name = f"delivered {allocation.digest()}"
    known = recalled(recorder, name, _ScoreRecord)
    if known is not None:
        agreement = known["agreement"]
        return Score(**{**known, "agreement": float("nan") if agreement is None else agreement})
    score = evaluator.delivered(allocation)
    recorder.remember(name, score.as_dict())
    return score


def _ranked_on_all(outcome: SearchResult, evaluator: Evaluator, value: Value) -> list[EpisodeResult]:
    """Returns the best few, scored on the whole split, best first; of equals the earlier."""
    whole = max(result.score.images for result in outcome.episodes)
    first = {result.allocation.key(): result for result in reversed(outcome.episodes)}
    finalists = []
    for result in sorted(first.values(), key=lambda result: (-result.reward, result.episode))[:FINALISTS]:
        if result.score.images < whole:
            score = evaluator.score(result.allocation)
            result = replace(result, score=score, reward=value(result.allocation, score))
        finalists.append(result)
    return sorted(finalists, key=lambda result: (-result.reward, result.episode))
