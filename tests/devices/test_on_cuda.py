"""All that computes, on a stand-in for CUDA, where nothing may lie on the wrong device; some of it on CUDA itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import amc
from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.training import FineTuneConfig, TrainConfig, TrainingHooks, evaluate, fine_tune, train_model

SMALL = DataConfig(train_images=400, search_images=120, test_images=60, calibration_images=60)


def test_the_stand_in_refuses_what_cuda_refuses(cuda):
    here, there = torch.ones(2), torch.ones(2, device=cuda)
    assert there.is_cuda
    assert there.device == cuda
    assert (there + there).cpu().tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="given tensors on the CPU and on CUDA"):
        here + there
    with pytest.raises(TypeError, match="can't convert cuda"):
        np.asarray(there)
    with pytest.raises(RuntimeError, match="a generator of the CPU"):
        torch.randperm(3, generator=torch.Generator(), device=cuda)


def test_parameters_keep_their_identity_and_learn_on_the_stand_in(cuda):
    layer = nn.Linear(3, 2)
    parameters = list(layer.parameters())
    layer.to(cuda)
    assert all(a is b and a.is_cuda for a, b in zip(layer.parameters(), parameters, strict=True))
    before = layer.weight.detach().cpu().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3, device=cuda)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.cpu().weight, before - 0.1)


def compressed(family, device):
    model = create_model("digits_resnet", seed=0)
    result = amc.compress(
        model,
        load_data(SMALL),
        amc.Budget(flops=0.5) if family == "filter" else amc.Budget(params=0.4),
        agent="ddpg:warmup_episodes=4;environments=2;gradient_steps=2" if family == "filter" else "ddpg",
        episodes=8,
        search=amc.SearchConfig(first_images=30, dtype="float32", untrained=True),
        # The optimal brain surgeon takes minutes on the stand-in, where every small operator is slow.
        pruning=amc.PruningConfig(family=family, criterion="auto" if family == "filter" else "magnitude"),
        train=TrainConfig(epochs=2, dtype="float32"),
        finetune=FineTuneConfig(epochs=1, batch_size=50, distillation=0.5, feature_distillation=1.0, dtype="float32"),
        device=device,
    )
    return model, result


# Tables of weights are minutes of small operators, each of them slow on the stand-in.
@pytest.mark.heavy
@pytest.mark.parametrize("family", ["filter", pytest.param("weight", marks=pytest.mark.slow)])
def test_a_run_on_cuda_is_that_on_the_cpu(family, cuda, monkeypatch):
    monkeypatch.setattr(
        "amc.pruning.candidate_scorer.images_at_once", lambda *_: 30
    )  # else batches depend on the device
    dense, there = compressed(family, "cuda")
    _, here = compressed(family, "cpu")
    assert all(parameter.is_cuda for parameter in dense.parameters())
    assert not any(tensor.is_cuda for tensor in there.model.state_dict().values())
    assert there.allocation == here.allocation
    assert there.summary["accuracy"] == here.summary["accuracy"]
    test = load_data(SMALL).test
    assert evaluate(dense, test).accuracy == evaluate(dense, test, device="cpu").accuracy


class Rescaled(nn.Module):
    """Two modules that share a buffer, each with a convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Module(), nn.Module()
        self.first.register_buffer("scale", torch.full((1,), 0.5))
        self.second.register_buffer("scale", self.first.scale)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
        )
        self.classifier = nn.Linear(8, 10)

    def forward(self, x):
        return self.classifier((self.convolutions(x * self.first.scale) * self.second.scale).mean((2, 3)))


def test_a_network_and_loaders_of_ones_own_stay_where_they_are(cuda):
    roles = load_data(SMALL)
    train, test = ((part.inputs(), part.targets) for part in (roles.train, roles.test))
    loaders = [
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*part), batch_size=40) for part in (train, test)
    ]
    model = Rescaled().cuda()
    model.second.scale = model.first.scale  # `nn.Module.to` makes two of one
    search = amc.SearchConfig(agent="random", episodes=3, untrained=True)
    result = amc.compress(model, loaders, search=search, finetune=FineTuneConfig(epochs=1, batch_size=40))
    assert model.classifier.weight.is_cuda
    assert not result.model.classifier.weight.is_cuda
    assert result.model.first.scale is result.model.second.scale


@pytest.mark.gpu
def test_digits_are_learned_on_cuda_and_scored_alike_on_both_devices():
    roles = load_data(DataConfig())
    model = create_model("digits_resnet", seed=0)
    train_model(model, roles, TrainConfig(epochs=5, batch_size=64), device="cuda")
    assert next(model.parameters()).is_cuda
    on_cuda = evaluate(model, roles.search)
    on_cpu = evaluate(model, roles.search, device="cpu")
    assert on_cuda.accuracy > 93
    assert on_cuda.accuracy == pytest.approx(on_cpu.accuracy, abs=0.5)
    assert on_cuda.cross_entropy == pytest.approx(on_cpu.cross_entropy, rel=0.02)


class Killed(Exception):
    pass


@pytest.mark.heavy
@pytest.mark.parametrize("stand_in", [True, pytest.param(False, marks=pytest.mark.gpu)])
def test_a_killed_distillation_goes_on_to_the_same_end(stand_in, request, tmp_path):
    if stand_in:
        request.getfixturevalue("cuda")
    roles = load_data(DataConfig(train_images=300, search_images=50))

    def tuned(on_epoch=None, checkpoint=None):
        model, teacher = create_model("digits_resnet", seed=0), create_model("digits_resnet", seed=1)
        config, hooks = FineTuneConfig(epochs=2, batch_size=32), TrainingHooks(on_epoch=on_epoch)
        fine_tune(model, roles, config, teacher=teacher, device="cuda", hooks=hooks, checkpoint=checkpoint)
        return model.state_dict()

    def kill(record):
        raise Killed

    expected = tuned()
    with pytest.raises(Killed):
        tuned(kill, tmp_path / "state.pt")
    seen = []
    resumed = tuned(lambda record: seen.append(record.epoch), tmp_path / "state.pt")
    assert seen == [2]
    # CUDA's sums depend on the order in which its threads come.
    within = {"rtol": 0.0, "atol": 0.0} if stand_in else {"rtol": 0.05, "atol": 0.02}
    for name, tensor in resumed.items():
        torch.testing.assert_close(tensor, expected[name], **within, msg=name)
