"""A run that was started from Python is kept in a folder, and the same call carries on with it."""

import json
import os
import signal
import sys
import warnings
from multiprocessing import get_context

import pytest
import torch
from torch import nn

import amc
from amc.errors import ConfigurationError, RunFolderError
from amc.utils.folder_lock import FolderLock

QUICK = {
    "agent": "random",
    "search": amc.SearchConfig(allocation_mode="project", untrained=True),
    "episodes": 4,
    "finetune": amc.FineTuneConfig(epochs=1, batch_size=20),
    "device": "cpu",
}


def network():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3), nn.Conv2d(24, 20, 3)]
    body = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 4))


def data(count, seed):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    return torch.rand(count, 3, 8, 8, generator=generator) + classes.view(-1, 1, 1, 1) / 4, classes


PAIR = (data(80, 0), data(40, 1))


class Judge:
    """Scores a network by its weights, and fails when it has done so often enough."""

    def __init__(self, fails_at=None, error=MemoryError):
        self.calls, self.fails_at, self.error = 0, fails_at, error

    def __call__(self, model):
        self.calls += 1
        if self.calls == self.fails_at:
            raise self.error("at this point")
        with torch.no_grad():
            return float(sum(parameter.abs().sum() for parameter in model.parameters()))


def compress(evaluate=None, **options):
    given = PAIR if evaluate is None else amc.OwnTask(evaluate, PAIR)
    return amc.compress(network(), given, **{**QUICK, **options})


def same(first, second):
    tensors = (first.model.state_dict(), second.model.state_dict())
    return all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, ValueError, KeyboardInterrupt])
def test_an_error_of_the_users_function_keeps_the_episodes_before_it(tmp_path, error):
    whole, failing, again = Judge(), Judge(4, error), Judge()  # the dense network is judged first
    expected = compress(evaluate=whole, out=tmp_path / "whole")
    with pytest.raises(error, match="at this point"):
        compress(evaluate=failing, out=tmp_path / "run")
    lines = (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["episode"] for line in lines] == [0, 1]
    result = compress(evaluate=again, out=tmp_path / "run")
    assert again.calls == whole.calls - 2
    assert same(result, expected)
    assert result.policy == expected.policy


def test_an_error_says_that_the_same_call_carries_on(tmp_path):
    with pytest.raises(ValueError, match="at this point") as caught:
        compress(evaluate=Judge(4, ValueError), out=tmp_path / "run")
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == [f"2 episodes kept in {tmp_path / 'run'}; the same call continues from there"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"budget": amc.Budget(flops=0.4)}, "budget "),
        ({"episodes": 5}, "episodes 4, not 5"),
        ({"pruning": amc.PruningConfig(round_to=2)}, "pruning "),
        ({"finetune": amc.FineTuneConfig(epochs=2)}, "finetune "),
    ],
)
def test_another_call_is_refused(tmp_path, options, name):
    compress(out=tmp_path / "run")
    with pytest.raises(RunFolderError, match=f"was begun with {name}.*make the same call to continue"):
        compress(out=tmp_path / "run", **options)


def test_another_network_or_other_data_are_refused(tmp_path):
    compress(out=tmp_path / "run")
    other = network()
    nn.init.ones_(other[0].weight)
    with pytest.raises(RunFolderError, match="was begun with network"):
        amc.compress(other, PAIR, out=tmp_path / "run", **QUICK)
    with pytest.raises(RunFolderError, match="was begun with train data"):
        amc.compress(network(), (data(80, 2), PAIR[1]), out=tmp_path / "run", **QUICK)


def test_a_finished_run_is_read_and_can_be_loaded(tmp_path):
    first = compress(out=tmp_path / "run", train=amc.TrainConfig(epochs=1, batch_size=20))
    second = compress(out=tmp_path / "run", train=amc.TrainConfig(epochs=1, batch_size=20))
    assert same(first, second)
    assert same(first, type("Loaded", (), {"model": amc.load(tmp_path / "run", model=network())}))
    with pytest.raises(RunFolderError, match="save in another folder"):
        first.save(tmp_path / "run")


def test_a_taken_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "film.1.part").write_text("half of it")
    with pytest.raises(RunFolderError, match="out must name a new or an empty folder, or that of the same call"):
        compress(out=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.txt", "film.1.part"}


def test_a_call_that_was_killed_as_it_began_goes_on(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    (tmp_path / f"run.json.{os.getpid()}.part").write_text("{")
    lock._lock.release()  # as the death of the process does, without a word
    assert compress(out=tmp_path).policy


def test_a_folder_in_use_is_refused(tmp_path):
    compress(out=tmp_path / "run")
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"):
        compress(out=tmp_path / "run")
    lock.release()


def kill(message):
    """In place of an error: the system ends the process, as it does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_loses_nothing(tmp_path):
    killed = get_context("fork").Process(target=compress, args=(Judge(4, kill),), kwargs={"out": tmp_path / "run"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of threads, of which the child uses none
        killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    judge, whole = Judge(), Judge()
    result = compress(evaluate=judge, out=tmp_path / "run")
    expected = compress(evaluate=whole)
    assert judge.calls == whole.calls - 2
    assert same(result, expected)


def spoil_weight(model):
    model[0].weight.data.mul_(1.5)
    return 1.0


def train_mode(model):
    model.train()
    model(PAIR[0][0])
    return 1.0


@pytest.mark.parametrize(("evaluate", "name"), [(spoil_weight, "0.weight"), (train_mode, "9.running_mean")])
def test_an_evaluate_that_changes_the_network_is_noticed(evaluate, name):
    model = network()
    model.append(nn.BatchNorm1d(4))
    with pytest.raises(ConfigurationError, match=rf"must leave the network as it is, but changes '{name}'"):
        amc.compress(model, amc.OwnTask(evaluate, PAIR), **QUICK)


@pytest.mark.heavy
@pytest.mark.parametrize("agent", ["random", "cem:population=2", "ddpg:warmup_episodes=2;hidden=[8, 8]"])
def test_an_error_in_the_search_of_a_compared_agent_keeps_its_episodes(tmp_path, agent):
    options = {"agent": "uniform", "compare_with": (agent,), "finetune": amc.FineTuneConfig(epochs=0)}
    whole, failing, again = Judge(), Judge(7), Judge()  # four for the dense network and uniform's
    expected = compress(evaluate=whole, out=tmp_path / "whole", **options)
    with pytest.raises(MemoryError, match="at this point"):
        compress(evaluate=failing, out=tmp_path / "run", **options)
    (file,) = (tmp_path / "run" / "compared").iterdir()
    kept = file.read_text()
    assert [json.loads(line)["episode"] for line in kept.splitlines()] == [0, 1]
    result = compress(evaluate=again, out=tmp_path / "run", **options)
    assert file.read_text().startswith(kept)
    assert result.baselines == expected.baselines
    assert again.calls < whole.calls
