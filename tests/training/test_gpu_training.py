"""Training and evaluation on an accelerator."""

from __future__ import annotations

import pytest
import torch

from amc.models import create_model
from amc.training import (
    DataConfig,
    FineTuneConfig,
    TrainConfig,
    TrainingHooks,
    evaluate,
    fine_tune,
    load_data,
    train_model,
)

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


class Killed(Exception):
    pass


def test_killed_distillation_goes_on_to_nearly_the_same_end(tmp_path):
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
    for name, tensor in resumed.items():  # CUDA's sums depend on the order in which its threads come
        torch.testing.assert_close(tensor, expected[name], rtol=0.05, atol=0.02, msg=name)
