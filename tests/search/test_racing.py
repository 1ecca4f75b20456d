"""Candidates that cannot win see fewer images; the winner never does, and a killed search ends at the same policy."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents.protocol import EpisodeResult
from amc.errors import ConfigurationError
from amc.pipeline.deliver import Workshop
from amc.pipeline.racing import RacingEvaluator, reward_of
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.problem.evaluator import Evaluator, EvaluatorProxy, as_evaluator
from amc.problem.score import ImageScores, Score, Stage
from amc.structure import Allocation
from amc.training.stages import paired_stage, stage_of, stage_sizes
from amc.training.strata import strata_of

AGENTS = ["cem", "ddpg:gradient_steps=2"]


class Remembering(Recorder):
    """Answers with episodes of an earlier start, as a run's folder does."""

    def __init__(self, episodes=()):
        self.recorded, self.heard = list(episodes), []

    def recorded_episodes(self):
        return self.recorded

    def on_episode(self, result):
        self.heard.append(result)


STAGES_FROM_30 = [30, 45, 68, 102, 153, 230, 240]


def search(workshop, config, recorder=None):
    return search_policy(workshop.task.problem, workshop.evaluator, config, recorder)


@pytest.mark.parametrize(
    ("first", "images", "sizes"), [(10, 50, [10, 15, 23, 35, 50]), (1, 4, [1, 2, 3, 4]), (50, 50, [50]), (99, 50, [50])]
)
def test_stages_have_half_as_many_images_more_each(first, images, sizes):
    assert stage_sizes(first, images) == sizes


@pytest.mark.parametrize(
    ("fixture", "sizes"),
    [("workshop", [100, 150, 225, 240]), ("weight_workshop", STAGES_FROM_30)],  # the pass for batch norms scores 100
)
def test_the_last_stage_is_the_score_on_all_images(fixture, sizes, request):
    workshop = request.getfixturevalue(fixture)
    problem = workshop.task.problem
    allocation = problem.allocation(problem.project([0.5] * len(problem.decisions)))
    stages = list(workshop.evaluator.stages(allocation, 30))
    score = workshop.evaluator.score(allocation)
    assert [stage.score.images for stage in stages] == sizes
    assert stages[-1].score.accuracy == score.accuracy
    assert stages[-1].score.cross_entropy == pytest.approx(score.cross_entropy, abs=1e-5)
    assert stages[-1].optimistic == stages[-1].score


def test_an_evaluator_compares_with_a_rival_on_the_images_of_which_that_is_in_doubt(workshop):
    problem, evaluator = workshop.task.problem, workshop.evaluator
    good, other = (problem.allocation(problem.project([share] * len(problem.decisions))) for share in (0.7, 0.5))
    *_, last = evaluator.stages(good, 10**9)
    stages = list(evaluator.stages(other, 30, last.images))
    strata = strata_of(last.images.losses, 100)
    *_, alone = evaluator.stages(other, 10**9)
    for stage in stages[:-1]:
        numbers = strata.order[: stage.score.images]
        np.testing.assert_array_equal(stage.images.hits, alone.images.hits[numbers])
        assert stage.score.accuracy == pytest.approx(alone.score.accuracy, abs=12)
        assert stage.optimistic.accuracy > stage.score.accuracy
    assert stages[-1].score == alone.score
    np.testing.assert_array_equal(stages[-1].images.hits, alone.images.hits)


@pytest.mark.parametrize(("count", "sizes"), [(0, STAGES_FROM_30), (200, [200, 240]), (300, STAGES_FROM_30)])
def test_the_first_stage_has_the_images_of_the_batch_norms_where_there_are_as_many(workshop, count, sizes):
    task = workshop.task
    assert len(task.data.calibration) < 200 < len(task.data.search) < 300
    changed = replace(task, pruning=replace(task.pruning, recalibration_images=count))
    allocation = task.problem.allocation(task.problem.project([0.5] * len(task.problem.decisions)))
    stages = Workshop(changed, Recorder()).evaluator.stages(allocation, 30)
    assert [stage.score.images for stage in stages] == sizes


def test_the_optimistic_score_covers_the_whole_split_nearly_always():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(300):
        logits = torch.randn(400, 5, generator=generator)
        targets = torch.randint(5, (400,), generator=generator)
        logits[torch.arange(400), targets] += 1.0
        whole = stage_of(logits, targets, None, 400).score
        bound = stage_of(logits[:100], targets[:100], None, 400).optimistic
        covered += whole.accuracy <= bound.accuracy and whole.cross_entropy >= bound.cross_entropy
    assert covered >= 0.93 * 300


def test_a_perfect_start_is_not_taken_for_certain():
    logits = torch.eye(4).repeat(5, 1) * 9
    stage = stage_of(logits, torch.arange(4).repeat(5), None, 1000)
    assert stage.score.accuracy == stage.optimistic.accuracy == 100
    wrong = stage_of(logits, (torch.arange(4).repeat(5) + 1) % 4, None, 1000)
    assert wrong.score.accuracy == 0
    assert wrong.optimistic.accuracy > 5
    assert math.isnan(wrong.optimistic.agreement)


def scored(logits, targets, images):
    return stage_of(logits, targets, None, images)


class InStages(Evaluator):
    """Is scored in stages alone."""

    def score(self, allocation):
        raise AssertionError("candidates are scored in stages")


def compared(stage, best, kept=10**9):
    """Compares image by image; the images were seen in the order in which they lie."""
    return paired_stage(stage, best.images, strata_of(best.images.losses, min(kept, len(best.images.losses))))


def rivals(generator, better=0.0, images=400):
    """The outputs of a best network and of one like it, whose classes are so much clearer."""
    targets = torch.randint(5, (images,), generator=generator)
    hard = torch.randn(images, 5, generator=generator)
    hard[torch.arange(images), targets] += 1.0
    alike = hard + 0.2 * torch.randn(images, 5, generator=generator)
    alike[torch.arange(images), targets] += better
    return hard, alike, targets


def test_image_by_image_the_optimistic_score_is_tighter_and_covers_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered, widths = np.zeros(2), []
    for _ in range(300):
        hard, alike, targets = rivals(generator)
        best, whole = scored(hard, targets, 400), scored(alike, targets, 400).score
        alone = scored(alike[:100], targets[:100], 400)
        paired = compared(alone, best)
        widths.append(
            (paired.optimistic.accuracy - paired.score.accuracy, alone.optimistic.accuracy - alone.score.accuracy)
        )
        bound = paired.optimistic
        covered += whole.accuracy <= bound.accuracy, whole.cross_entropy >= bound.cross_entropy
    assert np.all(covered >= 0.8 * 300)  # one standard error above holds in 84% of all cases
    ours, theirs = np.mean(widths, axis=0)
    assert ours < 0.7 * theirs


def test_the_score_of_a_part_is_corrected_by_how_hard_its_images_were_for_the_best(monkeypatch):
    monkeypatch.setattr("amc.training.strata.STRATA", 1)
    hard, alike, targets = rivals(torch.Generator().manual_seed(1))
    best, part = scored(hard, targets, 400), scored(alike[:80], targets[:80], 400)
    estimate = compared(part, best).score
    for found, theirs, ours in (
        (estimate.accuracy / 100, best.images.hits, part.images.hits),
        (estimate.cross_entropy, best.images.losses, part.images.losses),
    ):
        slope, at_zero = np.polyfit(theirs[:80], ours, 1)
        assert 0 < slope < 1
        assert found == pytest.approx(at_zero + slope * theirs.mean())
    assert estimate.images == 80
    assert math.isnan(estimate.agreement)
    whole = scored(alike, targets, 400)
    assert compared(whole, best) is whole


def test_a_slightly_worse_candidate_is_given_up_earlier_image_by_image():
    """Alone it takes half of the split; beside the best the first stage is enough."""
    hard, alike, targets = rivals(torch.Generator().manual_seed(2), better=-0.12, images=2000)
    asked = []

    class Stages(InStages):
        tells_images = True

        def stages(self, allocation, first, rival=None):
            for images in stage_sizes(first, 2000):
                asked.append((allocation.widths["a"], images))
                stage = scored((hard, alike)[allocation.widths["a"]][:images], targets[:images], 2000)
                yield stage if rival is None else paired_stage(stage, rival, strata_of(rival.losses, 2000))

    def last_images(evaluator):
        for width in (0, 1):
            evaluator.score(Allocation("filter", {"a": width}))
        return asked[-1][1]

    problem = SimpleNamespace(limit=None)
    paired = last_images(RacingEvaluator(Stages(), problem, lambda allocation, score: score.accuracy, 100))
    Stages.tells_images = False
    alone = last_images(
        RacingEvaluator(WithoutImages(Stages()), problem, lambda allocation, score: score.accuracy, 100)
    )
    assert paired < alone


class WithoutImages(EvaluatorProxy):
    """Keeps to itself how candidates do on each image."""

    def stages(self, allocation, first, rival=None):
        return (replace(stage, images=None) for stage in super().stages(allocation, first, rival))


def test_only_hopeless_candidates_are_given_up():
    """The best has 80 percent; an optimistic 79 is hopeless, an optimistic 81 is not."""
    asked = []

    class Stages(InStages):
        def stages(self, allocation, first):  # it does not tell, and need not know of rivals
            for images in (10, 20, 40):
                asked.append((allocation.widths["a"], images))
                at_best = {1: 80.0, 2: 79.0, 3: 81.0}[allocation.widths["a"]]
                yield Stage(Score(70.0, 1.0, images=images), Score(at_best, 1.0, images=images))

    evaluator = RacingEvaluator(Stages(), SimpleNamespace(limit=None), lambda allocation, score: score.accuracy, 10)
    evaluator.observe(Allocation("filter", {"a": 9}), Score(80.0, 1.0, images=40))
    images = {width: evaluator.score(Allocation("filter", {"a": width})).images for width in (1, 2, 3, 2)}
    assert images == {1: 40, 2: 10, 3: 40}
    assert asked.count((2, 10)) == 1  # an allocation keeps its score


@pytest.mark.heavy
@pytest.mark.parametrize("agent", AGENTS)
def test_the_best_has_seen_all_images(workshop, agent):
    outcome = search(workshop, SearchConfig(agent, episodes=24, reward="cross_entropy", first_images=30))
    value = reward_of(workshop.task.problem, "cross_entropy")
    assert outcome.best.score.images == 240
    best = outcome.best.allocation
    assert outcome.best.reward == pytest.approx(value(best, workshop.evaluator.score(best)))
    assert outcome.episodes[0].score.images == 240


def test_a_finalist_that_was_given_up_can_still_win(workshop):
    """Every candidate but the first was unlucky on the first images; the narrowest is the best on all of them."""
    problem = workshop.task.problem
    keys = []

    class Unlucky(Evaluator):
        def stages(self, allocation, first, rival=None):
            keys.append(allocation.key())
            early = Score(50.0, 1.0, images=10)
            yield Stage(early, Score(60.0, 1.0, images=10))
            yield Stage(Score(70.0, 1.0, images=40), Score(70.0, 1.0, images=40))

        def score(self, allocation):
            return Score(75.0 if allocation.key() == keys[2] else 65.0, 1.0, images=40)

    config = SearchConfig("random", episodes=4, first_images=10)
    outcome = search_policy(problem, Unlucky(), config)
    assert [result.score.images for result in outcome.episodes] == [40, 10, 10, 10]
    assert outcome.best.episode == 2
    assert outcome.best.score.accuracy == 75.0
    assert outcome.best.reward == pytest.approx(0.75)


class DeliversOtherwise(Evaluator):
    """Prefers wide first layers while it searches; what is delivered is better the narrower they are."""

    delivers = True

    def __init__(self):
        self.delivered_keys = []

    def score(self, allocation):
        return Score(float(allocation.key()[0]), 1.0, images=40)

    def delivered(self, allocation):
        self.delivered_keys.append(allocation.key())
        return Score(100.0 - allocation.key()[0], 1.0, images=40)


def test_the_best_few_are_compared_as_delivered(workshop):
    evaluator = DeliversOtherwise()
    outcome = search(SimpleNamespace(task=workshop.task, evaluator=evaluator), SearchConfig("random", episodes=12))
    ranked = sorted({e.allocation.key(): e.reward for e in outcome.episodes}.items(), key=lambda pair: -pair[1])
    start = max(outcome.episodes[:4], key=lambda result: result.reward).allocation.key()
    assert set(evaluator.delivered_keys) == {ranked[0][0], ranked[1][0], start}
    assert outcome.best.allocation.key() == min(evaluator.delivered_keys, key=lambda key: key[0])
    assert outcome.best.reward == outcome.best.score.accuracy / 100  # that of the search


def test_what_was_delivered_is_remembered(workshop):
    class Keeping(Remembering):
        def __init__(self, episodes=()):
            super().__init__(episodes)
            self.records = {}

        def remember(self, name, record):
            self.records[name] = dict(record)

        def recall(self, name):
            return self.records.get(name)

    first, again, recorder = DeliversOtherwise(), DeliversOtherwise(), Keeping()
    config, task = SearchConfig("random", episodes=12), workshop.task
    outcome = search(SimpleNamespace(task=task, evaluator=first), config, recorder)
    recorder.recorded = recorder.heard
    resumed = search(SimpleNamespace(task=task, evaluator=again), config, recorder)
    assert (resumed.best, again.delivered_keys) == (outcome.best, [])


@pytest.mark.parametrize("agent", ["ddpg:gradient_steps=2", "tpe"])
def test_an_evaluator_that_draws_random_numbers_does_not_shift_the_search(workshop, agent):
    problem, config = workshop.task.problem, SearchConfig(agent, episodes=24)

    def evaluate(allocation):
        torch.rand(3), np.random.rand(3)  # as a DataLoader does that shuffles
        return Score(100.0 * sum(allocation.key()[1:]) / sum(problem.dense_widths), 1.0, images=40)

    whole = search_policy(problem, as_evaluator(evaluate), config)
    resumed = search_policy(problem, as_evaluator(evaluate), config, Remembering(whole.episodes[:17]))
    assert [e.allocation for e in resumed.episodes] == [e.allocation for e in whole.episodes]


@pytest.mark.heavy
@pytest.mark.parametrize("agent", AGENTS)
def test_a_resumed_search_ends_at_the_same_policy(workshop, agent):
    config = SearchConfig(agent, episodes=12, first_images=30, seed=1)
    whole = Remembering()
    undisturbed = search(workshop, config, whole)
    assert len({result.score.images for result in whole.heard}) > 1, "nothing was given up: the test shows nothing"
    for killed_after in (1, 6, 11):
        resumed = search(workshop, config, Remembering(whole.heard[:killed_after]))
        assert policies(resumed.episodes) == policies(undisturbed.episodes), killed_after
        assert resumed.best.allocation == undisturbed.best.allocation, killed_after
        assert resumed.best.reward == undisturbed.best.reward, killed_after


def test_a_resumed_race_compares_with_the_very_losses_of_the_first_start():
    """The last digits of a loss depend on the order in which images were seen, and with it on the best before."""
    rivals_seen = []

    class Stages(InStages):
        tells_images = True

        def stages(self, allocation, first, rival=None):
            rivals_seen.append(None if rival is None else list(rival.losses))
            losses = np.full(4, 1.0 / allocation.widths["a"]) + (0 if rival is None else 1e-7 * rival.losses)
            images = ImageScores(np.ones(4), losses, np.ones(4))
            score = Score(100.0, float(losses.mean()), images=4)
            yield Stage(score, score, images)

    def start():
        return RacingEvaluator(Stages(), SimpleNamespace(limit=None), lambda allocation, score: -score.cross_entropy, 2)

    allocations = [Allocation("filter", {"a": width}) for width in (1, 2, 3, 4)]
    undisturbed, resumed = start(), start()
    scores = [undisturbed.score(allocation) for allocation in allocations]
    expected = rivals_seen[-1]
    for allocation, score in zip(allocations[:3], scores, strict=False):
        resumed.observe(allocation, score)
    assert resumed.score(allocations[3]) == scores[3]
    assert rivals_seen[-1] == expected


def policies(episodes: list[EpisodeResult]):
    return [(result.allocation.key(), result.reward, result.score.images) for result in episodes]


def test_without_first_images_every_candidate_sees_all(workshop):
    outcome = search(workshop, SearchConfig("random", episodes=3))
    assert {result.score.images for result in outcome.episodes} == {240}


def test_first_images_must_be_positive():
    with pytest.raises(ConfigurationError, match="first_images must be at least 1, not 0"):
        SearchConfig(first_images=0)


def test_episodes_that_do_not_divide_among_environments_are_found_at_the_start():
    with pytest.raises(ConfigurationError, match=r"episodes \(100\) must be divisible by environments \(3\); use 102"):
        SearchConfig("ddpg:environments=3", episodes=100)
