"""Training and evaluation on an accelerator."""

from __future__ import annotations

import pytest
import torch

from amc.models import create_model
from amc.training import DataConfig, FineTuneConfig, TrainConfig, evaluate, fine_tune, load_data, train_model

pytestmark = pytest.mark.gpu


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


def test_resumed_distillation_ends_the_same(tmp_path):
    roles = load_data(DataConfig(train_images=300, search_images=50))
    config = FineTuneConfig(epochs=2, batch_size=32)
    results = []
    for _ in range(2):
        model, teacher = create_model("digits_resnet", seed=0), create_model("digits_resnet", seed=1)
        results.append(
            fine_tune(model, roles, config, teacher=teacher, device="cuda", checkpoint=tmp_path / "state.pt")
        )
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert results[0] == results[1]
