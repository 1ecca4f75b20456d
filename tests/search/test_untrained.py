"""From Python: a network at chance stops the run, and progress is shown unless it is switched off."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

import amc
from amc.data import DataConfig, load_data
from amc.errors import ModelError
from amc.utils.progress_display import ProgressDisplay

QUICK = {"agent": "uniform", "finetune": amc.FineTuneConfig(epochs=1), "device": "cpu"}


class Ticking:
    """A clock on which whatever happens takes three seconds."""

    now = 0.0

    def __call__(self):
        self.now += 3.0
        return self.now


@pytest.fixture(scope="module")
def digits():
    return load_data(DataConfig(train_images=100, test_images=40))


def one_hot(split):
    return split.normalised(split.images), torch.eye(10)[split.targets]


@pytest.mark.parametrize("as_given", [lambda data: data, lambda data: (one_hot(data.train), one_hot(data.test))])
def test_a_network_at_chance_stops_the_run_before_the_search(as_given, digits, capsys):
    network, digits = amc.create_model("digits_lenet", seed=0), as_given(digits)
    with pytest.raises(
        ModelError,
        match=r"must be better than chance, but reaches .* \(top-1 on the test images, .*"
        r"train=\); continue .*SearchConfig\(untrained=True\)",
    ):
        amc.compress(network, digits, **QUICK)
    assert "search" not in capsys.readouterr().err


@pytest.mark.parametrize("progress", [True, False])
def test_a_run_from_python_shows_what_takes_long(progress, digits, capsys, monkeypatch):
    monkeypatch.setattr("amc.pipeline.compress.ProgressDisplay", partial(ProgressDisplay, clock=Ticking()))
    network = amc.create_model("digits_lenet", seed=0)
    amc.compress(network, digits, search=amc.SearchConfig(untrained=True), progress=progress, **QUICK)
    captured = capsys.readouterr()
    assert captured.out == ""
    if not progress:
        assert captured.err == ""
        return
    titles = ("trace the network", "test the dense network", "statistics and tables", "search (uniform)")
    later = ("prune and refit (uniform)", "fine-tune (uniform)", "test the networks of uniform", "latency, dense and")
    for title in (*titles, *later):
        assert any(line.startswith(f"{title}") for line in captured.err.splitlines()), title


def test_a_quick_run_from_python_shows_little(digits, capsys, monkeypatch):
    monkeypatch.setattr("amc.pipeline.compress.ProgressDisplay", partial(ProgressDisplay, clock=lambda: 0.0))
    network = amc.create_model("digits_lenet", seed=0)
    amc.compress(network, digits, search=amc.SearchConfig(untrained=True), **QUICK)
    assert re.findall(r".* in \d+\.\d s.*", capsys.readouterr().err) == []


@pytest.mark.parametrize("classes", [40, 8])
def test_one_image_a_class_is_pointed_out_in_one_line(classes, capsys):
    data = torch.rand(40, 1, 8, 8), torch.arange(40) % classes
    network = amc.create_model("digits_lenet", num_classes=classes, seed=0)
    amc.compress(network, (data, data), search=amc.SearchConfig(untrained=True), **QUICK)
    said = [line for line in capsys.readouterr().err.splitlines() if "no image to train on" in line]
    if classes == 8:
        assert said == []
        return
    (line,) = said
    assert re.fullmatch(
        r"8 of the 8 classes in the search split have no image to train on, such as class \d+: give at least two "
        "images of each",
        line,
    )
