"""On Ray itself: two nodes of one processor on this machine, one of which dies; and a head that does."""

import os
import subprocess
import sys
import time

import pytest

from amc.utils.json_lines import read_lines

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--train.epochs", "1", "--device", "cpu", "--deterministic", "true",
]  # fmt: skip
STUDY = [
    "study", *QUICK, "--agents", "random", "cem", "uniform", "--counts", "30", "--seeds", "0", "1", "--budgets", "0.5",
]  # fmt: skip
LONG = [*STUDY, "--counts", "600"]  # a head's death is noticed after 25 s, when there must be work left
_LONGEST_S = 600


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    # Ray lets workers yield to all else, which on a busy machine leaves them nothing.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield found
    found.shutdown()


def begin(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "amc", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    said, _ = process.communicate(timeout=_LONGEST_S)
    return process.returncode, said


def wait_for_lines(file, count, process):
    end = time.monotonic() + _LONGEST_S
    while not file.is_file() or len(file.read_text().splitlines()) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def without_times(folder, name="study.jsonl"):
    return [
        [(field, value) for field, value in record.items() if not field.endswith("seconds")]
        for record in read_lines(folder / name).records
    ]


def test_a_study_whose_node_dies_has_the_files_of_one_process(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    assert finish(begin(*STUDY, "--out", tmp_path / "alone"))[0] == 0
    process = begin(*STUDY, "--out", tmp_path / "spread", "--cluster", cluster.address)
    wait_for_lines(tmp_path / "spread" / "study.jsonl", 1, process)
    cluster.remove_node(node, allow_graceful=False)
    status, said = finish(process)
    assert status == 0, said
    assert "a worker was lost" in said
    assert without_times(tmp_path / "spread") == without_times(tmp_path / "alone")
    for name in ("study.md", "study.csv"):
        assert (tmp_path / "spread" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_head_that_dies_ends_the_run_in_one_line_and_nothing_is_lost(cluster, tmp_path):
    process = begin(*LONG, "--out", tmp_path / "study", "--cluster", cluster.address)
    wait_for_lines(tmp_path / "study" / "study.jsonl", 1, process)
    cluster.head_node.kill_gcs_server()
    status, said = finish(process)
    assert status == 2, said
    assert "amc: error: the head node of the cluster at" in said
    assert "Traceback" not in said
    kept = without_times(tmp_path / "study")
    assert kept
    assert finish(begin(*LONG, "--out", tmp_path / "study"))[0] == 0  # in one process
    found = without_times(tmp_path / "study")
    assert all(record in found for record in kept)
    assert len(found) == 5


def test_a_search_on_workers_plays_the_episodes_of_one_process(tmp_path):
    words = ["search", *QUICK, "--untrained", "true", "--agent", "random", "--episodes", "12"]
    assert finish(begin(*words, "--out", tmp_path / "alone"))[0] == 0
    status, said = finish(begin(*words, "--out", tmp_path / "spread", "--cluster", "local", "--workers", "2"))
    assert status == 0, said
    alone, spread = (without_times(tmp_path / name, "episodes.jsonl") for name in ("alone", "spread"))
    assert spread == alone


def test_where_no_cluster_answers_one_line_says_so(tmp_path):
    status, said = finish(begin(*STUDY, "--out", tmp_path / "study", "--cluster", "127.0.0.1:1"))
    assert status == 2
    assert said.splitlines()[-1].startswith("amc: error: a Ray cluster must answer at 127.0.0.1:1, and none does")
    assert not os.path.exists(tmp_path / "study" / "study.jsonl")
