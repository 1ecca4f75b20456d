"""Jobs over workers: every one is done once, whoever dies and whoever is first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc.cluster.executor import InProcess
from amc.cluster.pool import PATIENCE_S, RETRIES, Done, Failed, Pool, Ready
from amc.errors import ClusterError, ConfigurationError

JOBS = range(7)


def results_of(pool):
    return dict(pool.results())


@given(data=st.data(), size=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_results_are_the_same_in_whatever_order_workers_finish_and_die(data, size, make_fleet, make_shown):
    losses = data.draw(st.lists(st.booleans(), max_size=RETRIES))

    def order(busy):
        return data.draw(st.sampled_from(sorted(busy))), bool(losses and losses.pop())

    pool = Pool(make_fleet(size, order), make_shown())
    numbers = [pool.submit(job) for job in JOBS]
    assert results_of(pool) == {number: 10 * job for number, job in zip(numbers, JOBS, strict=True)}


def test_results_come_as_workers_finish(make_fleet, shown):
    fleet = make_fleet(2, lambda busy: (max(busy), False))
    pool = Pool(fleet, shown)
    for job in range(4):
        pool.submit(job)
    assert [result for _, result in pool.results()] == [10, 20, 30, 0]  # the second worker is the faster one


def test_a_lost_worker_costs_its_job_a_retry_and_nothing_else(make_fleet, shown):
    lost = iter([True])
    fleet = make_fleet(1, lambda busy: (min(busy), next(lost, False)))
    pool = Pool(fleet, shown)
    for job in range(3):
        pool.submit(job)
    assert [result for _, result in pool.results()] == [0, 10, 20]
    assert fleet.assigned == [(1, 0), (2, 0), (2, 1), (2, 2)]  # another worker, and the lost job first
    assert shown.lines == ["a worker was lost (its node is gone); its job is done again"]


def test_a_job_that_loses_every_worker_ends_the_run_with_a_remedy(make_fleet, shown):
    fleet = make_fleet(1, lambda busy: (min(busy), True))
    pool = Pool(fleet, shown)
    pool.submit(0)
    with pytest.raises(ClusterError, match=r"on one of 4 workers.*gone.*is kept: give workers more memory"):
        results_of(pool)
    assert len(fleet.assigned) == RETRIES + 1


def test_what_has_finished_is_handed_out_before_the_run_ends(make_fleet, shown):
    fleet = make_fleet(3)
    pool = Pool(fleet, shown)
    for job in range(3):
        pool.submit(job)
    together = [Done(1, "first"), Failed(2, ConfigurationError("out of luck")), Done(3, "third")]
    fleet.wait = lambda seconds: [Ready(1), Ready(2), Ready(3)] if not fleet.busy else together
    found = []
    with pytest.raises(ConfigurationError, match="out of luck"):
        found.extend(result for _, result in pool.results())
    assert found == ["first", "third"]


def test_without_workers_the_run_ends_after_a_while(make_fleet, shown):
    now = iter(range(0, 10_000, 10))
    pool = Pool(make_fleet(2, starts=False), shown, clock=lambda: float(next(now)))
    pool.submit(0)
    with pytest.raises(
        ClusterError, match=f"free within {PATIENCE_S:.0f} s, and none is .none has started.*start nodes"
    ):
        results_of(pool)


def test_jobs_may_be_added_while_results_come(make_fleet, shown):
    pool = Pool(make_fleet(1), shown)
    pool.submit(1)
    pool.submit(2)
    seen = []
    for _, result in pool.results():
        seen.append(result)
        if result == 10:
            pool.submit(7, first=True)
    assert seen == [10, 20, 70] or seen == [10, 70, 20]


def test_an_iterator_that_is_dropped_loses_nothing(make_fleet, shown):
    pool = Pool(make_fleet(2), shown)
    numbers = [pool.submit(job) for job in range(5)]
    first, _ = next(pool.results())
    rest = results_of(pool)
    assert {first, *rest} == set(numbers)
    assert first not in rest


def test_the_share_under_way_is_watched(make_fleet, shown):
    pool = Pool(make_fleet(2), shown)
    for job in range(3):
        pool.submit(job)
    seen = []
    assert len(list(pool.results(seen.append))) == 3
    assert 1.0 in seen


def test_in_this_process_jobs_are_done_in_order_and_when_asked_for(shown):
    done = []

    class Replica:
        def work(self, job, shown):
            done.append(job)
            return 10 * job

    executor = InProcess(Replica(), shown)
    for job in (1, 2, 3):
        executor.submit(job)
    results = executor.results()
    assert next(results) == (0, 10)
    assert done == [1]
    executor.submit(9, first=True)
    assert [result for _, result in results] == [90, 20, 30]
