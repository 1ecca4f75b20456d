"""Timing, with a clock that moves by what the networks take."""

from __future__ import annotations

import pytest
import torch

from amc.errors import ConfigurationError
from amc.runtime.latency import measure_latency


class Clock:
    """A clock that stands still unless a network runs."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def network(self, name, *seconds):
        """A network that takes the given times in turn, for one row."""

        def run(inputs):
            self.now += seconds[sum(call[0] == name for call in self.calls) % len(seconds)] * len(inputs)
            self.calls.append((name, len(inputs)))

        return run


@pytest.fixture
def clock():
    return Clock()


def test_median_and_percentiles_are_those_of_the_counted_runs(clock):
    # Three runs warm up; ten are counted: 10, 20, ..., 100 ms.
    seconds = [9.0, 9.0, 9.0, *(0.01 * k for k in range(1, 11))]
    (found,) = measure_latency(
        {"net": clock.network("net", *seconds)}, torch.zeros(1, 2), (1,), 10, max_seconds=1e9, clock=clock
    )
    assert (found.name, found.batch_size, len(found.times_ms)) == ("net", 1, 10)
    assert found.median_ms == pytest.approx(55.0)
    assert found.p10_ms == pytest.approx(19.0)
    assert found.p90_ms == pytest.approx(91.0)


def test_networks_run_in_turn_and_the_order_is_reversed(clock):
    models = {"a": clock.network("a", 0.001), "b": clock.network("b", 0.002)}
    measure_latency(models, torch.zeros(1, 2), (1,), 4, clock=clock)
    counted = [name for name, _ in clock.calls[6:]]
    assert counted == list("ab" + "ba" + "ab" + "ba")


def test_batch_sizes_are_those_asked_for(clock):
    models = {"a": clock.network("a", 0.001), "b": clock.network("b", 0.002)}
    found = measure_latency(models, torch.zeros(1, 2), (1, 32), 2, clock=clock)
    assert [(entry.name, entry.batch_size) for entry in found] == [("a", 1), ("b", 1), ("a", 32), ("b", 32)]
    assert found[2].median_ms == pytest.approx(32.0)
    assert {size for _, size in clock.calls} == {1, 32}


def test_time_is_bounded_and_shared_by_batch_sizes(clock):
    found = measure_latency(
        {"a": clock.network("a", 0.5)}, torch.zeros(1, 1), (1, 2), 10_000, max_seconds=20.0, clock=clock
    )
    # Ten seconds for each batch size. Of the runs of 0.5 s, three warm up, and the last starts as time is up; runs of
    # 1 s have warmed up for long enough after three, too.
    assert [len(entry.times_ms) for entry in found] == [18, 8]
    assert clock.now == (3 + 18) * 0.5 + (3 + 8) * 1.0


def test_a_network_slower_than_the_time_allowed_is_timed_once(clock):
    found = measure_latency({"a": clock.network("a", 100.0)}, torch.zeros(1, 1), (1,), 50, max_seconds=1.0, clock=clock)
    assert [len(entry.times_ms) for entry in found] == [1]


def test_speed_up_is_that_of_each_round(clock):
    # The machine stalls in turn for both networks alike: the ratio of the medians would be another.
    models = {"dense": clock.network("dense", 4.0, 40.0, 400.0), "pruned": clock.network("pruned", 2.0, 20.0, 200.0)}
    dense, pruned = measure_latency(models, torch.zeros(1, 1), (1,), 9, max_seconds=1e9, clock=clock)
    assert pruned.speed_up_over(dense) == pytest.approx(2.0)
    assert dense.speed_up_over(pruned) == pytest.approx(0.5)


def test_progress_rises_to_one(clock):
    shares = []
    measure_latency(
        {"a": clock.network("a", 0.1)},
        torch.zeros(1, 1),
        (1, 2),
        5,
        advance=lambda share, *note: shares.append(share),
        clock=clock,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert 0.5 in shares


def test_no_gradients_are_recorded():
    layer = torch.nn.Linear(2, 2)
    recorded = []
    measure_latency({"a": lambda x: recorded.append(layer(x).requires_grad)}, torch.zeros(1, 2), (1,), 2)
    assert recorded
    assert not any(recorded)


@pytest.mark.parametrize(("batch_sizes", "repeats"), [((0,), 1), ((), 1), ((1,), 0)])
def test_nonsense_is_refused(batch_sizes, repeats):
    with pytest.raises(ConfigurationError, match="must be positive"):
        measure_latency({}, torch.zeros(1, 1), batch_sizes, repeats)
