"""The simulation of docs/cluster.md: its clock is right where the answer is known."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "docs" / "cluster_simulation.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("cluster_simulation", FILE)
    module = sys.modules["cluster_simulation"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["cluster_simulation"]


def test_equal_cells_take_the_time_of_their_rounds(simulation):
    free = {"start_s": 0.0, "replica_mb": 0.0, "dispatch_s": 0.0, "spread": 0.0, "node_hours": 1e9, "cell_s": 3600.0}
    assumed = simulation.Assumptions(nodes=2, per_node=4, **free)
    assert simulation.simulate(assumed, 8)["hours"] == pytest.approx(1)
    found = simulation.simulate(assumed, 9)
    assert found["hours"] == pytest.approx(2)
    assert found["used"] == pytest.approx(9 / 16)


def test_the_link_of_the_driver_is_shared(simulation):
    assumed = simulation.Assumptions(
        nodes=3, per_node=1, start_s=5, replica_mb=1000, link_mb_s=100, unpack_mb_s=1000, dispatch_s=0, spread=0,
        cell_s=100, node_hours=1e9,
    )  # fmt: skip
    assert 3600 * simulation.simulate(assumed, 3)["hours"] == pytest.approx(5 + 3 * 10 + 1 + 100)


def test_cells_outlive_nodes_that_die(simulation):
    assumed = simulation.Assumptions(nodes=4, per_node=2, node_hours=2, cell_s=600)
    found = simulation.simulate(assumed, 100)
    assert found["lost"] > 0
    assert found["hours"] > simulation.simulate(simulation.Assumptions(4, 2, cell_s=600, node_hours=1e9), 100)["hours"]
