"""A study on workers has the files of a study in one process, whatever the order in which cells finish."""

import contextlib
import random

import pytest
import torch

from amc.cli.main import main
from amc.cluster import InProcess
from amc.cluster.parcel import pack, unpack
from amc.errors import ClusterError, ConfigurationError
from amc.pipeline.search import SearchConfig
from amc.study.cell_player import StudyRules
from amc.utils.json_lines import Lines, read_lines

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--train.epochs", "1", "--finetune.epochs", "1", "--device", "cpu", "--agents", "ddpg", "uniform",
    "--counts", "2", "--seeds", "0", "1", "--budgets", "0.5", "--finetuned", "0.5",
    "--model", "digits_lenet", "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
]  # fmt: skip


class Shuffled:
    """Two replicas that are sent like those of a cluster, and finish in a random order; one call may be the last."""

    def __init__(self, replica, shown, *, seed, ends_after=10**9):
        parcel = pack(replica)
        self._replicas = [unpack(parcel), unpack(parcel)]
        assert {each.fingerprint() for each in self._replicas} == {replica.fingerprint()}
        self._shown, self._random, self._left = shown, random.Random(seed), ends_after
        self.workers, self._waiting, self._count = 2, {}, 0

    def submit(self, job, *, first=False):
        self._waiting[self._count] = unpack(pack(job))
        self._count += 1
        return self._count - 1

    def results(self, watch=None):
        while self._waiting:
            number = self._random.choice(sorted(self._waiting))
            replica = self._random.choice(self._replicas)
            result = replica.work(self._waiting.pop(number), self._shown)
            if not self._left:
                raise ClusterError("no worker is left")
            self._left -= 1
            yield number, result

    def close(self):
        pass


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "study"
    assert main(["study", *QUICK, "--out", str(folder)]) == 0
    return folder


def spread(monkeypatch, **options):
    """Lets the command line play on shuffled replicas."""

    @contextlib.contextmanager
    def cluster_of(parsed, config):
        yield lambda replica, shown: Shuffled(replica, shown, **options)

    monkeypatch.setattr("amc.cli.study.cluster_of", cluster_of)


def prepared(alone, folder):
    folder.mkdir()
    (folder / ".lock").touch()  # as in every study that was begun
    (folder / "dense.safetensors").write_bytes((alone / "dense.safetensors").read_bytes())
    (folder / "config.yaml").write_bytes((alone / "config.yaml").read_bytes())
    return ["study", *QUICK, "--out", str(folder)]


def check_same(alone, folder):
    for name in ("study.md", "study.csv", "study.tex"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes()
    agents = {file.name: file.read_bytes() for file in (alone / "agents").iterdir()}
    assert {file.name: file.read_bytes() for file in (folder / "agents").iterdir()} == agents
    assert without_times(folder) == without_times(alone)


def without_times(folder):
    return [
        [(name, value) for name, value in record.items() if name not in ("seconds", "prune_seconds")]
        for record in read_lines(folder / "study.jsonl").records
    ]


@pytest.mark.heavy
def test_files_are_the_same_whatever_the_order(alone, tmp_path, monkeypatch):
    words = prepared(alone, tmp_path / "spread")
    spread(monkeypatch, seed=1)
    assert main(words) == 0
    check_same(alone, tmp_path / "spread")


@pytest.mark.heavy
def test_a_study_that_lost_its_cluster_continues_with_another_number_of_workers(alone, tmp_path, monkeypatch, capsys):
    words = prepared(alone, tmp_path / "lost")
    spread(monkeypatch, seed=3, ends_after=3)
    assert main(words) == 2
    assert "no worker is left" in capsys.readouterr().err
    assert 0 < len(read_lines(tmp_path / "lost" / "study.jsonl").records) <= 3
    monkeypatch.undo()
    assert main(words) == 0  # in this process
    check_same(alone, tmp_path / "lost")


def test_a_trained_agent_is_sent_along(alone, tmp_path, monkeypatch):
    source = next(file for file in (alone / "agents").iterdir() if "seed0" in file.name)
    trained = tmp_path / "elsewhere.safetensors"
    trained.write_bytes(source.read_bytes())
    words = prepared(alone, tmp_path / "transfer")
    words[words.index("--agents") + 1 : words.index("--counts")] = [f"act:{trained}", f"warm:{trained}"]

    class WithoutFile(Shuffled):
        def results(self, watch=None):
            trained.rename(trained.with_suffix(".away"))
            yield from list(super().results(watch))
            trained.with_suffix(".away").rename(trained)

    @contextlib.contextmanager
    def cluster_of(parsed, config):
        def opened(replica, shown):
            return WithoutFile(replica, shown, seed=0)

        yield opened

    monkeypatch.setattr("amc.cli.study.cluster_of", cluster_of)
    monkeypatch.setattr("amc.study.agents_study.AgentsStudy._keep", lambda self, cell, agent: None)
    monkeypatch.setattr("amc.study.agents_study._source", lambda cell: {"digest": "0"})
    assert main(words) == 0
    records = read_lines(tmp_path / "transfer" / "study.jsonl").records
    assert {record["agent"].partition(":")[0] for record in records} == {"act", "warm"}


def test_lines_are_put_in_order_without_losing_any(tmp_path):
    lines = Lines(tmp_path / "lines.jsonl", ("name",))
    for name in ("c", "x", "a", "y", "b"):
        lines.add({"name": name})
    lines.arrange([["a"], ["b"], ["c"], ["never"]])
    names = [record["name"] for record in read_lines(tmp_path / "lines.jsonl").records]
    assert names == [record["name"] for record in lines.records] == ["x", "y", "a", "b", "c"]
    before = (tmp_path / "lines.jsonl").stat().st_mtime_ns
    lines.arrange([["a"], ["b"], ["c"]])
    assert (tmp_path / "lines.jsonl").stat().st_mtime_ns == before


def test_in_one_process_nothing_is_copied():
    weight = torch.zeros(3)

    class Replica:
        def work(self, job, shown):
            return weight

    executor = InProcess(Replica(), None)
    executor.submit(0)
    assert next(executor.results())[1] is weight


def test_the_search_of_a_study_names_no_cluster(monkeypatch):
    monkeypatch.setattr("amc.cluster.cluster.find_spec", lambda name: object())  # as if Ray were there
    with pytest.raises(ConfigurationError, match="must be None, not 'local': a study spreads its cells"):
        StudyRules(search=SearchConfig(cluster="local"))
