"""Training and fine-tuning."""

from __future__ import annotations

import copy
import math
import os
import random
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from amc.data import DataConfig, DataRoles, as_source, load_data
from amc.data.tasks.task_type import soft_divergence
from amc.errors import CheckpointError, ConfigurationError, ModelError, UnknownNameError
from amc.models import create_model
from amc.training import FineTuneConfig, TrainConfig, TrainingHooks, evaluate, fine_tune, train_model
from amc.training.checkpoint import read_checkpoint, save_checkpoint
from amc.training.objective import AfterStep
from amc.utils.noted import noting_warnings
from amc.utils.stopping import StopRequested, stopping_safely

QUICK = FineTuneConfig(epochs=3, batch_size=16, learning_rate=0.05, dtype="float32", distillation=0.0)


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=200, search_images=50, calibration_images=20, test_images=40))


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(72, 10)
    )


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_digits_are_learned_in_seconds():
    roles = load_data(DataConfig())
    model = create_model("digits_resnet", seed=0)
    result = train_model(model, roles, TrainConfig(epochs=5, batch_size=64))
    assert [record.epoch for record in result.epochs] == [1, 2, 3, 4, 5]
    assert result.kept_epoch == 5
    assert evaluate(model, roles.search).accuracy > 93
    assert evaluate(model, roles.search).accuracy == pytest.approx(result.epochs[-1].accuracy, abs=1.0)


def test_same_seed_gives_the_same_network_and_another_seed_another(data):
    models = [small_network() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        fine_tune(model, data, QUICK, seed=seed)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_global_random_state_is_left_as_it_was(data):
    model = small_network()
    before = torch.get_rng_state()
    fine_tune(model, data, QUICK)
    assert torch.equal(torch.get_rng_state(), before)


class Jittered(Dataset):
    """Augments with the generators of Python and NumPy, as data sets outside of PyTorch do."""

    def __init__(self, source):
        self.images, self.targets = source.inputs(), source.targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] + random.random() + np.random.rand(), self.targets[index]


@pytest.mark.parametrize("stopped", [False, True])
def test_augmentation_of_the_users_own_follows_the_seed_through_a_stop(data, tmp_path, stopped):
    jittered = replace(data, train=as_source(Jittered(data.train)))
    expected, model, before = small_network(), small_network(), (random.getstate(), np.random.get_state()[2])
    fine_tune(expected, jittered, QUICK)
    assert (random.getstate(), np.random.get_state()[2]) == before
    if stopped:
        hooks = TrainingHooks(on_epoch=partial(kill_in, 1))
        with pytest.raises(Killed):
            fine_tune(model, jittered, QUICK, hooks=hooks, checkpoint=tmp_path / "state.pt")
        random.random()
        np.random.rand()
    fine_tune(model, jittered, QUICK, checkpoint=tmp_path / "state.pt")
    assert same(model, expected)


def kill_in(epoch, event):
    if event.epoch == epoch:
        raise Killed


class Killed(Exception):
    pass


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("killed_in", ["step", "epoch"])
def test_a_killed_training_goes_on_to_the_same_end(data, tmp_path, keep, killed_in):
    config = replace(QUICK, epochs=4, keep=keep)
    undisturbed, killed = small_network(), small_network()
    expected = fine_tune(undisturbed, data, config, seed=3)

    kill = partial(kill_in, 2)
    hooks = TrainingHooks(on_step=kill) if killed_in == "step" else TrainingHooks(on_epoch=kill)
    with pytest.raises(Killed):
        fine_tune(killed, data, config, seed=3, hooks=hooks, checkpoint=tmp_path / "new" / "state.pt")
    resumed, seen = small_network(seed=9), []
    hooks = TrainingHooks(on_epoch=lambda record: seen.append(record.epoch))
    result = fine_tune(resumed, data, config, seed=3, hooks=hooks, checkpoint=tmp_path / "new" / "state.pt")
    assert seen == ([2, 3, 4] if killed_in == "step" else [3, 4])
    assert same(resumed, undisturbed)
    assert [record.loss for record in result.epochs] == [record.loss for record in expected.epochs]
    assert result.kept_epoch == expected.kept_epoch


@pytest.mark.parametrize("augments", [False, True])
@pytest.mark.parametrize("step", [3, 9])  # an epoch has 9
def test_a_signal_within_an_epoch_keeps_the_steps_before_it(data, tmp_path, augments, step):
    roles = replace(data, train=as_source(Jittered(data.train))) if augments else data
    undisturbed, stopped, resumed, steps = small_network(), small_network(), small_network(seed=9), []
    expected = fine_tune(undisturbed, roles, QUICK, seed=3)

    def stop(progress):
        if (progress.epoch, progress.step) == (2, step):
            os.kill(os.getpid(), signal.SIGTERM)

    file = tmp_path / "state.pt"
    with stopping_safely(), pytest.raises(StopRequested):
        fine_tune(stopped, roles, QUICK, seed=3, hooks=TrainingHooks(on_step=stop), checkpoint=file)
    hooks = TrainingHooks(on_step=lambda progress: steps.append((progress.epoch, progress.step)))
    result = fine_tune(resumed, roles, QUICK, seed=3, hooks=hooks, checkpoint=file)
    assert steps[0] == ((2, step + 1) if step < 9 else (3, 1))
    assert same(resumed, undisturbed)
    assert [record.loss for record in result.epochs] == [record.loss for record in expected.epochs]


def test_a_damaged_state_costs_an_epoch_and_not_the_training(data, tmp_path):
    undisturbed, resumed, file, seen = small_network(), small_network(seed=9), tmp_path / "state.pt", []
    fine_tune(undisturbed, data, QUICK, seed=3, checkpoint=file)
    file.write_bytes(file.read_bytes()[:1000])
    hooks = TrainingHooks(on_epoch=lambda record: seen.append(record.epoch))
    with (
        pytest.warns(UserWarning, match=r"state\.pt is damaged: .*delete it.*continues from the state before it"),
        noting_warnings() as noted,
    ):
        fine_tune(resumed, data, QUICK, seed=3, hooks=hooks, checkpoint=file)
    assert noted == []  # the network's report is the same
    assert seen == [3]
    assert same(resumed, undisturbed)


def test_a_finished_training_is_only_read(data, tmp_path):
    first, second = small_network(), small_network(seed=5)
    fine_tune(first, data, QUICK, checkpoint=tmp_path / "state.pt")
    fine_tune(second, data, QUICK, checkpoint=tmp_path / "state.pt")
    assert same(first, second)


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one_alone(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"epoch": 1}, {})

    def fails(content, file):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, {"epoch": 2}, {})
    assert list(tmp_path.iterdir()) == [path]
    assert read_checkpoint(path, {}) == {"epoch": 1}


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (3, "is of 3: written by a newer amc; update amc"),
        (1, "is of 1: written by an older amc; continue with that one"),
    ],
)
def test_a_checkpoint_of_another_version_says_which(tmp_path, held, words):
    torch.save({"settings": {"format": held}, "state": {}}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=f"must be of format 2, and {words}"):
        read_checkpoint(tmp_path / "state.pt", {})


def test_checkpoints_of_other_settings_and_broken_ones_are_refused(data, tmp_path):
    path = tmp_path / "state.pt"
    fine_tune(small_network(), data, QUICK, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"written with epochs 3, not 5.*delete it"):
        fine_tune(small_network(), data, replace(QUICK, epochs=5), checkpoint=path)
    with pytest.raises(CheckpointError, match="written with parameters"):
        fine_tune(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, QUICK, checkpoint=path)
    (tmp_path / "state.pt.before").unlink()
    path.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a readable PyTorch file"):
        fine_tune(small_network(), data, QUICK, checkpoint=path)
    torch.save({}, path)
    with pytest.raises(CheckpointError, match="no training state; delete it"):
        fine_tune(small_network(), data, QUICK, checkpoint=path)


def test_best_epoch_is_chosen_on_the_search_split_and_test_is_never_read(data):
    class Unreadable:
        def __len__(self):
            raise AssertionError("the test split was read")

        batches = __len__

    roles = DataRoles(data.train, data.calibration, data.search, Unreadable())
    model = small_network()
    # Rising for most of the time, and then too far: the last epoch is not the best.
    config = replace(QUICK, epochs=6, keep="best", learning_rate=3.0, warmup=0.95)
    result = fine_tune(model, roles, config)
    best = max(result.epochs, key=lambda record: (record.accuracy, -record.cross_entropy))
    assert result.kept_epoch == best.epoch < 6
    assert evaluate(model, data.search).accuracy == best.accuracy


def test_masks_hold_after_every_step(data):
    model = small_network()
    mask = torch.rand_like(model[0].weight) < 0.5

    def apply(network):
        network[0].weight.data.mul_(mask)

    apply(model)
    before = model[0].weight.clone()
    fine_tune(model, data, QUICK, terms=[AfterStep(apply)])
    assert not model[0].weight[~mask].any()
    assert not torch.equal(model[0].weight, before)


def test_progress_is_told(data):
    seen = []
    fine_tune(small_network(), data, QUICK, hooks=TrainingHooks(on_step=seen.append))
    assert [(p.epoch, p.step) for p in seen] == [(epoch, step) for epoch in (1, 2, 3) for step in range(1, 10)]
    assert all(p.images_per_second > 0 and math.isfinite(p.loss) for p in seen)
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left


def test_no_epochs_leave_the_network_as_it_is(data):
    model = small_network()
    before = copy.deepcopy(model)
    assert fine_tune(model, data, replace(QUICK, epochs=0)).kept_epoch == 0
    assert same(model, before)


def test_training_leaves_contiguous_weights_in_evaluation_mode(data):
    model = small_network()
    fine_tune(model, data, QUICK)
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())
    assert not model.training


RUINOUS = replace(QUICK, epochs=1, learning_rate=3.0, warmup=0.0)


def test_a_training_that_ruins_the_network_says_so(data):
    model = small_network()
    fine_tune(model, data, replace(QUICK, epochs=8))
    with pytest.warns(RuntimeWarning, match=r"made the network worse: from \d\d\.\d\d % to"):
        result = fine_tune(model, data, replace(RUINOUS, keep="last"))
    assert (result.kept_epoch, result.note) == (1, "")


def test_the_best_epoch_may_be_the_start(data):
    model = small_network()
    fine_tune(model, data, replace(QUICK, epochs=8))
    trained = copy.deepcopy(model)
    result = fine_tune(model, data, RUINOUS)
    assert result.kept_epoch == 0
    assert result.note.startswith("the network before fine-tuning is kept")
    assert same(model, trained)


DIVERGED = r"diverged: the loss is (nan|inf) in epoch \d; choose a learning_rate below"


def test_divergence_from_the_start_is_named():
    data = load_data(DataConfig(train_images=200, search_images=50, calibration_images=20, test_images=40))
    with pytest.raises(ModelError, match=DIVERGED):
        train_model(small_network(), data, TrainConfig(epochs=1, learning_rate=1e20, warmup=0.0))


def test_a_fine_tuning_that_diverges_leaves_the_network_as_it_was(data):
    model, before = small_network(), small_network()
    with pytest.warns(RuntimeWarning, match=DIVERGED + r".*; the network stays as it was before"):
        result = fine_tune(model, data, replace(QUICK, learning_rate=1e20, warmup=0.0))
    assert result.kept_epoch == 0
    assert same(model, before)


@pytest.mark.parametrize("config", [QUICK, TrainConfig(epochs=3, batch_size=16, dtype="float32")])
def test_a_training_that_diverges_later_ends_with_its_best_epoch(data, config):
    model, kept = small_network(), {}

    def spoil(record):
        kept.setdefault("best", copy.deepcopy(model))
        next(model.parameters()).data.fill_(math.inf)

    with pytest.warns(RuntimeWarning, match=DIVERGED + r".*; the best epoch, 1, is kept"):
        result = fine_tune(model, data, config, hooks=TrainingHooks(on_epoch=spoil))
    assert result.kept_epoch == 1
    assert same(model, kept["best"])


def test_a_frozen_network_is_refused(data):
    with pytest.raises(ModelError, match="require gradients"):
        fine_tune(small_network().requires_grad_(False), data, QUICK)


def test_a_teacher_is_followed_and_not_changed(data):
    teacher = small_network(seed=7)
    before = copy.deepcopy(teacher)
    student, alone = small_network(), small_network()
    config = replace(QUICK, epochs=8, distillation=1.0, temperature=1.0)
    fine_tune(student, data, config, teacher=teacher)
    fine_tune(alone, data, replace(config, distillation=0.0), teacher=teacher)
    assert same(teacher, before)
    assert teacher.training

    def divergence(model):
        images = data.search.inputs()
        with torch.no_grad():
            return float(soft_divergence(model.eval()(images), before.eval()(images), 1.0))

    assert divergence(student) < divergence(alone) / 2


def test_bfloat16_trains_too(data):
    result = fine_tune(
        small_network(), data, replace(QUICK, dtype="bfloat16", distillation=0.5), teacher=small_network(1)
    )
    assert result.epochs[-1].loss < result.epochs[0].loss


def test_weight_decay_can_spare_vectors(data):
    def trained(decay_norms):
        model = small_network()
        with torch.no_grad():
            model[1].weight.fill_(1.0)
        fine_tune(model, data, replace(QUICK, weight_decay=1.0, decay_norms=decay_norms))
        return float(model[1].weight.detach().norm())

    assert trained(decay_norms=True) < trained(decay_norms=False) / 2


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": -1},
        {"learning_rate": 0.0},
        {"warmup": 1.0},
        {"batch_size": 0},
        {"momentum": 0.0},
        {"distillation": 1.5},
    ],
)
def test_settings_out_of_range_are_named(data, options):
    with pytest.raises(ConfigurationError, match="must be"):
        fine_tune(small_network(), data, replace(QUICK, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "step"}, "unknown learning-rate schedule 'step'; did you mean 'steps'"),
        ({"keep": "first"}, "unknown keep 'first'; valid names: best, last"),
    ],
)
def test_names_that_do_not_exist_are_told_those_that_do(data, options, message):
    with pytest.raises(UnknownNameError, match=message):
        fine_tune(small_network(), data, replace(QUICK, **options))


def test_a_checkpoint_makes_its_folder_but_not_that_of_the_run(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(FileNotFoundError):
        save_checkpoint(run / "checkpoints" / "dense.pt", {}, {})
    assert not run.exists()
    run.mkdir()
    save_checkpoint(run / "checkpoints" / "dense.pt", {"step": 3}, {})
    assert read_checkpoint(run / "checkpoints" / "dense.pt", {}) == {"step": 3}
