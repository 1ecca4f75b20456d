"""What keeps a cluster or a worker from taking part is said in one line with the remedy, before or without any loss."""

import signal
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from amc.cli.main import main
from amc.cluster import cluster as clusters
from amc.cluster.cluster import (
    Needs,
    check_answers,
    check_cluster,
    check_store,
    connected,
    count_workers,
    keeping_signal_handlers,
)
from amc.cluster.fitness import check_data, check_versions
from amc.cluster.head_watch import PATIENCE_S, HeadWatch
from amc.cluster.replay import replay
from amc.cluster.worker import Failure, Outcome, Worker, here
from amc.errors import ClusterError, ConfigurationError, DataError, UnknownNameError


def node(cpus=4, gpus=0, store=10**9, *, alive=True):
    resources = {"CPU": float(cpus), "GPU": float(gpus), "object_store_memory": float(store)}
    return {"Alive": alive, "Resources": resources, "NodeManagerHostname": "far"}


@pytest.mark.parametrize("name", ["torch", "python", "amc", "numpy"])
def test_a_worker_of_another_version_is_unfit(name, shown):
    there = {**here(), name: "0.0.1", "machine": "far"}
    with pytest.raises(ClusterError, match=rf"far has {name} 0.0.1, not .*: install the same there.*is kept"):
        check_versions(here(), there, shown)


def test_another_processor_is_said_and_taken(shown):
    assert check_versions(here(), {**here(), "machine": "far", "processor": "ABACUS"}, shown) == "far"
    assert "far computes with ABACUS" in shown.lines[0]
    check_versions(here(), here(), shown)
    assert len(shown.lines) == 1


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("other", "on far has other data .its digest differs.: copy the data from here to the same path there"),
        (Failure("FileNotFoundError", "no /data/train"), r"cannot read its data \(no /data/train\): put the data at"),
        (Failure("ModuleNotFoundError", "No module named 'mynet'"), "No module named 'mynet': install it there"),
        (Failure("MemoryError", ""), "fails: MemoryError: : free memory there"),
    ],
)
def test_a_worker_with_other_data_or_without_it_is_unfit(found, words):
    with pytest.raises(ClusterError, match=words):
        check_data("far", "digest", found)
    check_data("far", "digest", "digest")


def test_a_worker_reports_what_it_cannot_put_together():
    worker = Worker(1)
    found = worker.open(None)
    assert isinstance(found, Failure)
    assert found.trace


def test_an_error_of_a_job_is_the_same_error_here(shown):
    failure = Failure.of(UnknownNameError("agent", "dpg", ["ddpg"]))
    with pytest.raises(UnknownNameError, match="unknown agent 'dpg'; did you mean 'ddpg'"):
        replay(Outcome(failure=failure), shown)
    with pytest.raises(DataError, match=r"^torn$"):
        replay(Outcome(failure=Failure.of(DataError("torn"))), shown)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: by zero"):
        replay(Outcome(failure=Failure.of(ZeroDivisionError("by zero"))), shown)


def test_what_a_job_says_and_warns_of_is_shown_here(shown):
    with pytest.warns(RuntimeWarning, match="diverged"):
        assert replay(Outcome(7, said=("epoch 1",), warned=("diverged",)), shown) == 7
    assert shown.lines == ["epoch 1"]


def test_a_head_node_that_does_not_answer_ends_the_run_in_one_line():
    now, silence = [0.0], threading.Event()
    watch = HeadWatch(silence.wait, "head:6379", clock=lambda: now[0])
    for now[0] in (1.0, 6.0, 12.0, PATIENCE_S):
        watch.check()
    now[0] = PATIENCE_S + 1
    with pytest.raises(ClusterError, match="the cluster at head:6379 must answer, and has not for 26 s: start the"):
        watch.check()
    silence.set()


def test_a_head_node_that_answers_is_asked_again():
    now, answered = [0.0], threading.Event()
    watch = HeadWatch(answered.set, "head:6379", clock=lambda: now[0])
    for now[0] in (6.0, 30.0, 54.0):
        answered.clear()
        watch._answered = now[0] - 1  # as of the answer before
        watch.check()
        assert answered.wait(5)


def test_workers_are_as_many_as_nodes_have_room_for():
    nodes = [node(4), node(7), node(64, alive=False)]
    assert count_workers(nodes, Needs(), None) == 11
    assert count_workers(nodes, Needs(threads=2), None) == 2 + 3
    assert count_workers(nodes, Needs(threads=2), 4) == 4
    with pytest.raises(ClusterError, match=r"workers must be at most 5, .* at 2 processors each, not 6"):
        count_workers(nodes, Needs(threads=2), 6)
    with pytest.raises(ClusterError, match="a node must have 16 processors for a worker, and none has"):
        count_workers(nodes, Needs(threads=16), None)


def test_with_gpus_a_worker_has_one_to_itself():
    nodes = [node(16, gpus=4), node(2, gpus=4), node(64)]
    needs = Needs(threads=1, gpus=1)
    assert needs.resources() == {"num_cpus": 1, "num_gpus": 1}
    assert count_workers(nodes, needs, None) == 4 + 2
    with pytest.raises(ClusterError, match="a node must have 1 GPU and 1 processors"):
        count_workers([node(64)], needs, None)


def test_too_small_an_object_store_is_found_before_anything_is_sent():
    check_store([node(store=200 << 20)], Needs(), 100 << 20)
    check_store([node(cpus=0, store=10)], Needs(), 100 << 20)  # a head that computes nothing
    with pytest.raises(ClusterError, match=r"object store of far must have .* MB .*--object-store-memory \d+"):
        check_store([node(store=120 << 20)], Needs(), 100 << 20)


def test_what_cannot_be_sent_is_said_in_one_line(shown):
    class Stuck:
        def fingerprint(self):
            return ""

    stuck = Stuck()
    stuck.lock = threading.Lock()
    with pytest.raises(ClusterError, match=r"can be sent to another process, and .*lock.*: leave the cluster out"):
        clusters._packed(stuck)


def test_an_address_at_which_nothing_listens_is_found_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"must answer at 127.0.0.1:{port}, .*refused.*: start one"):
            check_answers(f"127.0.0.1:{port}")
        free.listen()
        check_answers(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["head", "head:", "locla", ":6379"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(ClusterError, match="must be local or HOST:PORT, such as head:6379, not"):
        check_answers(address)


@pytest.mark.parametrize("is_theirs", [True, False])
def test_a_connection_that_was_there_before_stays(monkeypatch, is_theirs):
    ended, closed = [], []
    ray = SimpleNamespace(is_initialized=lambda: is_theirs, shutdown=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(clusters, "_opened", lambda *_: SimpleNamespace(close=lambda: closed.append(True)))
    with connected("local", None, Needs) as open_executor:
        open_executor(None, None)
    assert (bool(ended), bool(closed)) == (not is_theirs, is_theirs)


def test_signals_still_reach_this_process():
    before = signal.getsignal(signal.SIGTERM)
    with keeping_signal_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray's own handler takes its place
    assert signal.getsignal(signal.SIGTERM) is before


def test_workers_without_a_cluster_are_refused():
    for address, workers in ((None, 2), ("local", 0)):
        with pytest.raises(ConfigurationError, match="workers must be 1 or more, and need a cluster"):
            check_cluster(address, workers)
    check_cluster(None, None)


def test_without_ray_the_remedy_is_said_before_anything_takes_time(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(clusters, "find_spec", lambda name: None)
    assert main(["study", "--out", str(tmp_path / "study"), "--cluster", "local"]) == 2
    said = capsys.readouterr().err
    assert said == "amc: error: a cluster needs Ray, which is not installed: pip install 'amc-compress[cluster]'\n"
    assert not (tmp_path / "study").exists()


def test_rewards_are_compared_in_one_process(tmp_path, capsys):
    assert main(["study", "--out", str(tmp_path / "s"), "--rewards", "3", "--cluster", "local"]) == 2
    assert "--rewards compares in one process: leave --cluster out" in capsys.readouterr().err
