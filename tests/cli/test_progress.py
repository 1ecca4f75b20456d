"""Every command shows how far it is, unless that is switched off; results alone stand on stdout."""

from __future__ import annotations

from functools import partial

import pytest

from amc.cli.main import main
from amc.utils.progress_display import ProgressDisplay

DATA = ["--data.train_images", "100", "--data.test_images", "40"]
SEARCH = [*DATA, "--model", "digits_lenet", "--train.epochs", "0", "--agent", "uniform", "--device", "cpu"]


class Ticking:
    """A clock on which whatever happens takes three seconds."""

    now = 0.0

    def __call__(self):
        self.now += 3.0
        return self.now


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Commands that take long, as far as their display knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("amc.cli.setup.ProgressDisplay", partial(ProgressDisplay, clock=Ticking()))


def said(words, capsys):
    assert main(words) == 0
    return capsys.readouterr().err


def test_searching_and_pruning(slow, capsys):
    shown = said(["search", *SEARCH, "--out", "searched"], capsys)
    for title in ("trace the network", "score the dense network", "statistics and tables", "search (uniform)"):
        assert f"{title}:" in shown, title
    shown = said(["prune", "searched", "--out", "pruned", "--device", "cpu"], capsys)
    for title in ("trace the network", "test the networks of policy", "test the dense network"):
        assert f"{title}:" in shown, title
    shown = said(["evaluate", "pruned", "--device", "cpu"], capsys)
    assert "test the network: 40 of 40 images" in shown
    assert said(["evaluate", "pruned", "--device", "cpu", "--progress", "false"], capsys).count(" in ") == 0


def test_a_study(slow, capsys):
    words = ["study", "--out", "study", "--agents", "random", "--counts", "2", "--seeds", "0", "--train.epochs", "1"]
    words += ["--model", "digits_lenet"]
    shown = said([*words, *DATA, "--device", "cpu"], capsys)
    for title in ("train the dense network", "statistics and tables", "search (random)", "test the pruned network"):
        assert f"{title}:" in shown, title


def test_a_bench(slow, capsys):
    words = ["bench", *DATA, "--agent", "random", "--episodes", "2", "--rounds", "1", "--reference_rows", "100"]
    shown = said([*words, "--device", "cpu"], capsys)
    titles = ("statistics and tables", "search (random)", "sample activations for the reference", "the reference proc")
    for title in titles:
        assert title in shown, title


def test_an_inspection_and_a_sweep(slow, capsys):
    assert "trace the network: done in" in said(["inspect"], capsys)
    shown = said(["zoo", "--models", "resnet20", "--contracts", "costs"], capsys)
    assert "resnet20: 100 of 100 % in" in shown
    assert said(["zoo", "--models", "resnet20", "--contracts", "costs", "--progress", "false"], capsys) == ""
