"""A network that was trained on the digits for a moment, with everything that scoring its candidates needs."""

from __future__ import annotations

import pytest

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare, train_dense
from amc.pipeline.recorder import Recorder
from amc.pruning import PruningConfig
from amc.training import FineTuneConfig, TrainConfig


def make_workshop(family):
    data = load_data(DataConfig(train_images=600, search_images=240, test_images=60, calibration_images=100))
    task = prepare(
        create_model("digits_resnet", seed=0),
        data,
        Budget(flops=0.5) if family == "filter" else Budget(params=0.3),
        # By magnitude, as the optimal brain surgeon takes seconds for each network.
        pruning=PruningConfig(family=family, criterion="auto" if family == "filter" else "magnitude"),
        finetune=FineTuneConfig(epochs=1, batch_size=64),
        device="cpu",
        dtype="float32",
    )
    train_dense(task, TrainConfig(epochs=4), Recorder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "amc.pruning.candidate_scorer.images_at_once", lambda *_: 30
        )  # a few batches, so that there are stages
        made = Workshop(task)
        assert made.evaluator is not None  # it is made, and its images are split, when it is first asked for
        return made


@pytest.fixture(scope="session")
def workshop():
    return make_workshop("filter")


@pytest.fixture(scope="session")
def weight_workshop():
    return make_workshop("weight")
