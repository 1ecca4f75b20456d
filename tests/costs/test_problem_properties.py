"""What holds for every pruning problem, allocation and order of actions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

ratios = st.floats(0.0, 1.0)


def is_maximal(problem, widths):
    """Whether no width can rise by one step within the limit."""
    for index, (decision, width) in enumerate(zip(problem.decisions, widths, strict=True)):
        level = decision.level(width) + 1
        if level < decision.levels:
            raised = (*widths[:index], decision.width(level), *widths[index + 1 :])
            if problem.cost(raised) <= problem.limit:
                return False
    return True


def slow_bounds(problem, index, chosen):
    """The allowed widths with which the rest, at its smallest, still fits, from the largest that wastes nothing on."""
    decision, limit = problem.decisions[index], problem.limit
    widths = [decision.width(level) for level in range(decision.levels)]
    if limit is None:
        return widths[0], widths[-1]
    after = index + 1
    fitting = [w for w in widths if problem.cost((*chosen, w, *problem.min_widths[after:])) <= limit]
    unwasted = [w for w in widths if problem.cost((*chosen, w, *problem.max_widths[after:])) <= limit]
    return max(unwasted, default=widths[0]), max(fitting)


def clipped_walk(problem, actions):
    walk = problem.walk()
    for index, action in enumerate(actions):
        low, high = walk.bounds()
        assert low <= high
        assert (low, high) == slow_bounds(problem, index, walk.widths)
        walk.choose(min(max(problem.round_width(index, action), low), high))
    return walk


def draw_ratios(data, problem):
    count = len(problem.decisions)
    return data.draw(st.lists(ratios, min_size=count, max_size=count))


@given(data=st.data())
def test_no_sequence_of_actions_exceeds_the_limit(data, problems):
    problem = data.draw(problems)
    walk = clipped_walk(problem, draw_ratios(data, problem))
    assert problem.limit is None or problem.cost(walk.widths) <= problem.limit
    assert walk.reduced == problem.cost_model.dense - problem.cost(walk.widths)
    filled = problem.fill(walk.widths)
    assert all(after >= before for after, before in zip(filled, walk.widths, strict=True))
    assert problem.limit is None or (problem.cost(filled) <= problem.limit and is_maximal(problem, filled))
    assert problem.fill(filled) == filled


@given(data=st.data())
def test_projections_are_maximal_within_the_limit_and_deterministic(data, problems):
    problem = data.draw(problems)
    wishes = draw_ratios(data, problem)
    widths = problem.project(wishes)
    assert widths == problem.project(wishes)
    for decision, width in zip(problem.decisions, widths, strict=True):
        decision.level(width)
    if problem.limit is not None:
        assert problem.cost(widths) <= problem.limit
        assert is_maximal(problem, widths)


@given(data=st.data())
def test_every_maximal_allocation_can_be_played_and_wished_for(data, problems):
    """An agent that plays a projected allocation gets it, whether widths are clipped or projected."""
    problem = data.draw(problems)
    widths = problem.project(draw_ratios(data, problem))
    actions = [1.0 - width / decision.size for width, decision in zip(widths, problem.decisions, strict=True)]
    assert clipped_walk(problem, actions).widths == widths
    assert problem.project([1.0 - action for action in actions]) == widths


@given(data=st.data())
def test_a_walk_sums_up_what_was_saved_and_what_can_be(data, problems):
    problem = data.draw(problems)
    walk = problem.walk()
    for index, decision in enumerate(problem.decisions):
        chosen, later = walk.widths, slice(index + 1, None)
        open_large = problem.cost((*chosen, *problem.max_widths[index:]))
        open_small = problem.cost((*chosen, decision.largest, *problem.min_widths[later]))
        assert walk.reduced == problem.cost_model.dense - open_large
        assert walk.removable_later == open_large - open_small
        walk.choose(decision.width(data.draw(st.integers(0, decision.levels - 1))))
