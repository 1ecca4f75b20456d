"""Training through `torch.compile`, and without it where it fails."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from amc.data import DataConfig, load_data
from amc.training import FineTuneConfig, fine_tune
from amc.training.compiling import compiled

QUICK = FineTuneConfig(epochs=1, batch_size=16, dtype="float32", distillation=0.0, keep="last", learning_rate=0.05)


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=100, search_images=40, calibration_images=20, test_images=40))


def test_a_compiled_training_ends_where_another_does(data, monkeypatch, network):
    compilations = []

    def compile_(model):
        compilations.append(model)
        return partial(model.__call__)

    monkeypatch.setattr(torch, "compile", compile_)
    plain, other = network(), network()
    fine_tune(plain, data, QUICK)
    fine_tune(other, data, replace(QUICK, compile=True))
    assert compilations == [other]
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name])


@pytest.mark.slow
def test_what_the_compiler_makes_trains_the_same(data, network):
    plain, other = network(), network()
    fine_tune(plain, data, QUICK)
    fine_tune(other, data, replace(QUICK, compile=True))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_without_a_compiler_the_network_itself_is_trained(data, monkeypatch, network):
    def fail(images):
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr(torch, "compile", lambda model: fail)
    plain, other = network(), network()
    fine_tune(plain, data, QUICK)
    with pytest.warns(RuntimeWarning, match=r"cannot be compiled \(Failed to find C compiler\); it is trained without"):
        fine_tune(other, data, replace(QUICK, compile=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_want_of_memory_is_no_want_of_a_compiler(monkeypatch, network):
    def fail(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda model: fail)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        compiled(network())(torch.zeros(1, 1, 8, 8))
