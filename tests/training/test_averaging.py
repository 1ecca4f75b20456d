"""The moving average of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.errors import CheckpointError, ConfigurationError
from amc.training import FineTuneConfig, TrainingHooks, evaluate, fine_tune
from amc.training.averaging import WeightAverage
from amc.training.checkpoint import read_checkpoint, save_checkpoint
from amc.training.config import settings_of

QUICK = FineTuneConfig(epochs=3, batch_size=16, dtype="float32", distillation=0.0, keep="last", learning_rate=0.05)


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=160, search_images=40, calibration_images=20, test_images=40))


def same(first, second):
    return all(torch.equal(a, second.state_dict()[name]) for name, a in first.state_dict().items())


def test_the_average_follows_its_formula():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average, expected = WeightAverage(model, 0.5), 0.0
    for step in range(1, 12):
        nn.init.constant_(model.weight, float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 11.0


def test_what_is_scored_and_delivered_is_the_average(data, network):
    plain, averaged = network(), network()
    fine_tune(plain, data, QUICK)
    result = fine_tune(averaged, data, replace(QUICK, ema=0.9))
    assert not same(plain, averaged)
    assert evaluate(averaged, data.search).accuracy == pytest.approx(result.epochs[-1].accuracy)


def test_the_best_epoch_is_the_best_of_the_averages(data, network):
    model = network()
    result = fine_tune(model, data, replace(QUICK, ema=0.9, keep="best", epochs=4))
    records = [result.start, *result.epochs]
    best = max(records, key=lambda record: record.rank())
    assert result.kept_epoch == best.epoch
    score = evaluate(model, data.search)
    assert (score.accuracy, score.cross_entropy) == pytest.approx((best.accuracy, best.cross_entropy))


def test_a_killed_training_ends_at_the_same_bits(data, tmp_path, network):
    config, whole, part = replace(QUICK, ema=0.99, keep="best"), network(), network()
    fine_tune(whole, data, config)

    def stop(record):
        raise KeyboardInterrupt

    state = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(part, data, config, checkpoint=state, hooks=TrainingHooks(on_epoch=stop))
    part = network()
    fine_tune(part, data, config, checkpoint=state)
    assert same(whole, part)


def test_a_damaged_average_is_refused(data, tmp_path, network):
    state, config = tmp_path / "state.pt", replace(QUICK, ema=0.99)
    fine_tune(network(), data, config, checkpoint=state)
    content = torch.load(state)
    content["state"]["average"]["average"]["0.weight"] = torch.full((6, 1, 3, 3), torch.nan)
    torch.save(content, state)
    with pytest.raises(CheckpointError, match=r"'0\.weight' holds NaN"):
        fine_tune(network(), data, config, checkpoint=state)


def test_an_average_changes_what_a_state_can_be_continued_with(data, tmp_path, network):
    state = tmp_path / "state.pt"
    fine_tune(network(), data, QUICK, checkpoint=state)
    with pytest.raises(CheckpointError, match=r"was written with ema at its default, not 0\.99"):
        fine_tune(network(), data, replace(QUICK, ema=0.99), checkpoint=state)


def test_states_of_earlier_versions_lack_what_they_could_not_set(tmp_path):
    assert not {"ema", "compile", "decay_by_layer", "optimizer"} & settings_of(QUICK).keys()
    save_checkpoint(tmp_path / "state.pt", {"number": 1}, settings_of(QUICK))
    assert read_checkpoint(tmp_path / "state.pt", settings_of(QUICK)) == {"number": 1}


@pytest.mark.parametrize("ema", [0.0, 1.0, -0.5])
def test_a_decay_out_of_range_is_refused(ema):
    with pytest.raises(ConfigurationError, match=r"ema must be in \(0, 1\)"):
        FineTuneConfig(ema=ema)


def test_an_average_beside_penalties_is_refused():
    with pytest.raises(ConfigurationError, match=r"ema must be unset where there are penalties, not 0\.9"):
        FineTuneConfig(ema=0.9, penalties=("l1",), keep="last")
