"""Two processes train what one does, to rounding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from amc.data import as_source
from amc.pruning.masks import apply_masks, masks_of_zeros
from amc.training import FineTuneConfig, TrainingHooks, fine_tune
from amc.training.objective import AfterStep

QUICK = FineTuneConfig(epochs=2, batch_size=16, learning_rate=0.05, dtype="float32", distillation=0.0, keep="last")


def trained(make, data, config, processes=None, **options):
    """Returns a network that was trained, by some processes or by one, and what its training came to."""
    model = make(**options.pop("network", {}))
    shared = {} if processes is None else {"processes": processes}
    return model, fine_tune(model, data, config, seed=1, device="cpu", **shared, **options)


def assert_same_to_rounding(first, second):
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")


def assert_same(first, second):
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


SETTINGS = {
    "all terms": {
        "distillation": 0.9,
        "feature_distillation": 1.0,
        "label_smoothing": 0.1,
        "penalties": ("l0:strength=0.1", "slimming:strength=0.01"),
    },
    "labels": {},
    "features": {"distillation": 0.9, "feature_distillation": 1.0},
    "best": {"keep": "best"},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.001},
    "average": {"ema": 0.9},
    "sss": {"penalties": ("sss:strength=0.05",)},
    "l0": {"penalties": ("l0:strength=0.1",)},
    "autopruner": {"penalties": ("autopruner",)},
}


@pytest.mark.parametrize(
    "name", ["all terms", *(pytest.param(name, marks=pytest.mark.slow) for name in list(SETTINGS)[1:])]
)
def test_two_processes_end_where_one_does(make, data, pair, name):
    config = replace(QUICK, **SETTINGS[name])
    teacher = make(seed=5) if config.distillation else None
    one, expected = trained(make, data, config, teacher=teacher)
    two, found = trained(make, data, config, pair, teacher=teacher)
    assert_same_to_rounding(one, two)
    assert found.kept_epoch == expected.kept_epoch
    assert [r.loss for r in found.epochs] == pytest.approx([r.loss for r in expected.epochs], rel=1e-3)


def test_two_processes_that_run_their_batches_in_parts_end_where_one_does_that_runs_them_whole(make, data, pair):
    config = replace(QUICK, distillation=0.9, penalties=("l1:strength=0.003",))

    def without_norms(**options):
        model = make(**options)
        model.stem_norm, model.body_norm = torch.nn.Identity(), torch.nn.Identity()
        return model

    teacher = without_norms(seed=5)
    one, expected = trained(without_norms, data, config, teacher=teacher)
    two, found = trained(without_norms, data, replace(config, accumulate=2), pair, teacher=teacher)
    assert_same_to_rounding(one, two)
    assert [r.loss for r in found.epochs] == pytest.approx([r.loss for r in expected.epochs], rel=1e-3)


def test_masks_hold_and_the_best_epoch_is_chosen_by_the_first(make, data, pair):
    networks, results = [], []
    for processes in (None, pair):
        model = make()
        with torch.no_grad():
            model.body.weight[model.body.weight.abs() < 0.1] = 0
        masks = masks_of_zeros(model)
        config = replace(QUICK, keep="best", learning_rate=0.3)
        shared = {} if processes is None else {"processes": processes}
        keep = AfterStep(partial(apply_masks, masks=masks))
        results.append(fine_tune(model, data, config, seed=1, device="cpu", terms=[keep], **shared))
        assert not model.body.weight[~masks["body.weight"]].any()
        networks.append(model)
    assert masks["body.weight"].float().mean() < 0.9
    assert results[0].kept_epoch == results[1].kept_epoch
    assert_same_to_rounding(*networks)


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_ends_at_the_same_bits(make, data, pair, tmp_path):
    config, network = replace(QUICK, ema=0.9, keep="best"), {"dropout": 0.3}
    expected, _ = trained(make, data, config, pair, network=network)

    def stop(record):
        if record.epoch == 1:
            raise Stopped

    state = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        trained(make, data, config, pair, network=network, checkpoint=state, hooks=TrainingHooks(on_epoch=stop))
    found, _ = trained(make, data, config, pair, network=network, checkpoint=state)
    assert_same(found, expected)


def test_a_data_set_is_read_in_parts(make, data, pair):
    train = as_source(DataLoader(TensorDataset(data.train.inputs(), data.train.targets), batch_size=16, shuffle=True))
    roles = replace(data, train=train)
    one, _ = trained(make, roles, replace(QUICK, epochs=1))
    two, _ = trained(make, roles, replace(QUICK, epochs=1), pair)
    assert_same_to_rounding(one, two)
