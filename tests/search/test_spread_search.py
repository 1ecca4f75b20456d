"""A search whose candidates are scored elsewhere is the search of one process, to the bit."""

import contextlib
import random

import pytest
import torch
from torch import nn

import amc
from amc.cli.main import main
from amc.cluster.cluster import Needs
from amc.cluster.parcel import pack, unpack
from amc.errors import ConfigurationError
from amc.pipeline.spread_evaluator import SpreadEvaluator
from amc.problem.evaluator import FunctionEvaluator
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.json_lines import read_lines

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32", "--train.epochs", "1",
    "--untrained", "true", "--device", "cpu", "--episodes", "8",
    "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
]  # fmt: skip


class Elsewhere:
    """A replica that was sent, and finishes jobs in a random order."""

    workers = 2

    def __init__(self, replica):
        self._replica, self._random = unpack(pack(replica)), random.Random(0)
        self._waiting, self.jobs = {}, []

    def submit(self, job, *, first=False):
        self.jobs.append(job)
        self._waiting[len(self.jobs)] = job
        return len(self.jobs)

    def results(self, watch=None):
        while self._waiting:
            number = self._random.choice(sorted(self._waiting))
            yield number, self._replica.work(self._waiting.pop(number), None)

    def close(self):
        pass


@pytest.mark.heavy
@pytest.mark.parametrize(
    "options",
    [
        ["--agent", "random"],
        ["--agent", "ddpg:environments=4;gradient_steps=2;hidden=[8, 8];ensemble_hidden=8", "--model", "digits_lenet"],
    ],
    ids=["random", "ddpg"],
)
def test_episodes_are_those_of_one_process(options, tmp_path, monkeypatch, capsys):
    opened = []

    @contextlib.contextmanager
    def cluster_of(parsed, config, *, races):
        assert not races
        yield lambda replica, shown: opened.append(Elsewhere(replica)) or opened[-1]

    assert main(["search", *QUICK, *options, "--out", str(tmp_path / "alone")]) == 0
    monkeypatch.setattr("amc.cli.search.cluster_of", cluster_of)
    words = ["search", *QUICK, *options, "--out", str(tmp_path / "spread")]
    assert main(words) == 0
    assert len(opened[0].jobs) >= 7  # all but allocations that were scored before
    assert episodes(tmp_path / "spread") == episodes(tmp_path / "alone")
    policies = [(tmp_path / name / "policy.json").read_bytes() for name in ("spread", "alone")]
    assert policies[0] == policies[1]
    assert main([*words, "--resume"]) == 0
    assert not opened[-1].jobs  # every score is in the record


def episodes(folder):
    return [
        {name: value for name, value in record.items() if not name.endswith("seconds")}
        for record in read_lines(folder / "episodes.jsonl").records
    ]


def test_what_was_not_announced_is_scored_here():
    def allocation(width):
        return Allocation("filter", {"conv": width})

    class Replica:
        def work(self, job, shown):
            return Score(float(job.widths["conv"]), 0.0)

    executor = Elsewhere(Replica())
    evaluator = SpreadEvaluator(FunctionEvaluator(lambda each: Score(-1.0, 0.0)), executor)
    assert evaluator.side_by_side == 2
    evaluator.expect([allocation(5), allocation(6), allocation(5)])
    assert len(executor.jobs) == 2
    assert [evaluator.score(allocation(width)).accuracy for width in (6, 5, 5, 7)] == [6.0, 5.0, 5.0, -1.0]


def test_candidates_that_race_are_not_spread(tmp_path, capsys):
    words = ["search", *QUICK, "--first_images", "20", "--cluster", "local", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "first_images 20 lets each candidate" in said or "needs Ray" in said


def test_several_processes_for_one_training_are_refused(tmp_path, capsys):
    words = ["compress", "--devices", "2", "--device", "cpu", "--cluster", "local", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "devices 2 trains one network in several processes" in said or "needs Ray" in said


def test_agents_that_play_one_candidate_at_a_time_say_so(tmp_path, monkeypatch, capsys):
    @contextlib.contextmanager
    def cluster_of(parsed, config, *, races):
        yield lambda replica, shown: Elsewhere(replica)

    monkeypatch.setattr("amc.cli.search.cluster_of", cluster_of)
    assert main(["search", *QUICK, "--agent", "tpe", "--model", "digits_lenet", "--out", str(tmp_path / "run")]) == 0
    assert "tpe plays one candidate after the other, for which workers are of no use" in capsys.readouterr().err


class Blobs(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


def blobs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    return torch.rand(count, 3, 8, 8, generator=generator) + classes.view(-1, 1, 1, 1) / 4, classes


def compressed(evaluate=None, **settings):
    torch.manual_seed(0)
    out = settings.pop("out", None)
    data = (blobs(80, 0), blobs(40, 1))
    return amc.compress(
        Blobs(),
        data if evaluate is None else amc.OwnTask(evaluate, data),
        agent="random",
        episodes=6,
        search=amc.SearchConfig(untrained=True, **settings),
        finetune=amc.FineTuneConfig(epochs=1, batch_size=20),
        device="cpu",
        progress=False,
        out=out,
    )


@pytest.fixture
def opened(monkeypatch):
    """Puts a replica in place of Ray's workers; returns those that were opened."""
    found = []

    @contextlib.contextmanager
    def connected(address, workers, needs):
        assert address == "local"
        assert needs() == Needs(threads=torch.get_num_threads())
        yield lambda replica, shown: found.append(Elsewhere(replica)) or found[-1]

    monkeypatch.setattr("amc.pipeline.spreading.connected", connected)
    monkeypatch.setattr("amc.cluster.cluster.find_spec", lambda name: True)
    return found


def norm(model):
    return -float(model.first.weight.detach().norm())


@pytest.mark.parametrize("evaluate", [None, norm])
def test_a_call_in_python_plays_the_episodes_of_one_process(opened, evaluate):
    alone, spread = compressed(evaluate), compressed(evaluate, cluster="local", workers=2)
    assert opened[0].jobs
    for name in ("allocation", "reward", "score"):
        assert [getattr(episode, name) for episode in spread.episodes] == [getattr(e, name) for e in alone.episodes]
    for tensor, other in zip(spread.model.state_dict().values(), alone.model.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)


def test_a_run_is_continued_with_other_workers_or_none(opened, tmp_path):
    first = compressed(out=tmp_path / "run", cluster="local", workers=2)
    assert compressed(out=tmp_path / "run", cluster="local").policy == first.policy
    assert compressed(out=tmp_path / "run").policy == first.policy
    assert not opened[1].jobs


def test_what_does_not_go_with_workers_is_refused(opened):
    with pytest.raises(ConfigurationError, match="first_images 20 lets each candidate"):
        compressed(cluster="local", first_images=20)
    with pytest.raises(ConfigurationError, match="workers must be 1 or more, and need a cluster"):
        amc.SearchConfig(workers=2)
