"""A study's folder keeps what was measured, and refuses what would not go with it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from amc.cli.main import main
from amc.errors import ModelError
from amc.models import create_model
from amc.pipeline.config import RunConfig
from amc.pruning import PruningConfig
from amc.storage.save import save_weights
from amc.study.rewards import STATES, states_of
from amc.study.study_folder import open_folder
from amc.utils.json_lines import read_lines

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32", "--device", "cpu",
    "--model", "digits_lenet", "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
]  # fmt: skip


@pytest.fixture
def words(tmp_path):
    """A study of a network with random weights, which takes seconds."""
    save_weights(tmp_path / "w.safetensors", create_model("digits_lenet", seed=0))
    return ["study", *QUICK, "--weights", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "study")]


def lines(folder):
    return read_lines(folder / "study.jsonl").records


def test_weights_that_have_changed_are_refused(words, tmp_path, capsys):
    assert main([*words, "--agents", "uniform"]) == 0
    save_weights(tmp_path / "w.safetensors", create_model("digits_lenet", seed=1))
    assert main([*words, "--agents", "uniform", "erk"]) == 2
    assert "holds a study under other rules (weights_sha256; see " in capsys.readouterr().err
    assert [line["agent"] for line in lines(tmp_path / "study")] == ["uniform"]


def test_a_trained_agent_that_has_changed_is_refused(words, tmp_path, capsys):
    words = [*words, "--counts", "2"]
    assert main([*words, "--agents", "ddpg", "--seeds", "0", "1"]) == 0
    agent = tmp_path / "agent.safetensors"
    first, second = sorted((tmp_path / "study" / "agents").iterdir())
    agent.write_bytes(first.read_bytes())
    transfer = [*words, "--agents", "ddpg", "--seeds", "0", "--transfer", str(agent)]
    assert main(transfer) == 0
    agent.write_bytes(second.read_bytes())
    assert main(transfer) == 2
    assert "agent.safetensors must be what the cells of" in capsys.readouterr().err


def test_a_search_outlives_a_fine_tuning_that_fails(words, tmp_path, capsys, monkeypatch):
    tuned = [*words, "--agents", "uniform", "--finetuned", "0.5", "--finetune.epochs", "1"]

    def fail(*arguments, **options):
        raise ModelError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr("amc.pipeline.rounds.fine_tune", fail)
        assert main([*tuned, "--finetune.learning_rate", "0.1"]) == 2
    assert "out of luck" in capsys.readouterr().err
    (kept,) = lines(tmp_path / "study")
    monkeypatch.setattr("amc.study.cell_player.search_policy", lambda *arguments, **options: pytest.fail("searched"))
    assert main([*tuned, "--finetune.learning_rate", "0.01"]) == 0
    (line,) = lines(tmp_path / "study")
    assert {**line, "finetuned": None, "finetuned_top5": None} == kept
    assert line["finetuned"] > 0
    assert main([*tuned, "--finetune.learning_rate", "0.02"]) == 2  # what is fine-tuned holds the rule
    assert "under other rules (finetune; see" in capsys.readouterr().err


def test_rules_may_change_before_the_first_figure(tmp_path, capsys):
    words = ["study", *QUICK, "--out", str(tmp_path / "study"), "--agents", "uniform", "--train.epochs", "1"]
    assert main([*words, "--train.learning_rate", "1e9"]) == 2
    assert "diverged" in capsys.readouterr().err
    assert main(words) == 0
    assert main([*words, "--train.learning_rate", "0.05"]) == 2
    assert "under other rules (train; see" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "is_kept"), [("classes", 5, False), ("seed", 1, False), ("dtype", "float32", True)]
)
def test_a_trained_network_is_discarded_where_an_option_that_made_it_changes(tmp_path, option, value, is_kept):
    config, dense = RunConfig(classes=10), tmp_path / "dense.safetensors"
    open_folder(tmp_path, config, {})
    dense.touch()
    open_folder(tmp_path, config, {})
    assert dense.exists()
    open_folder(tmp_path, replace(config, **{option: value}), {})
    assert dense.exists() == is_kept


def test_the_label_of_an_agent_may_be_long(words, tmp_path):
    options = ";".join(f"{name}=0.5" for name in ("elite_share", "pessimism", "elite_focus", "sigma", "critic_lr"))
    labels = [f"ddpg:{options};{options};batch_size={size}" for size in (8, 16)]
    assert main([*words, "--counts", "1", "--seeds", "0", "--agents", *labels]) == 0
    assert [line["agent"] for line in lines(tmp_path / "study")] == labels
    assert len(list((tmp_path / "study" / "agents").iterdir())) == 2


def test_rewards_are_refused_before_anything_is_trained(tmp_path, capsys):
    words = ["study", *QUICK, "--out", str(tmp_path / "study"), "--rewards", "2", "--finetune.epochs", "0"]
    assert main(words) == 2
    assert "--finetune.epochs must be at least 1, not 0" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("kind", "images", "states"),
    [("filter", 10, list(STATES)), ("filter", 0, ["cut", "refit"]), ("weight", 10, list(STATES))],
)
def test_only_rewards_that_differ_are_compared(kind, images, states):
    pruning, problem = PruningConfig(recalibration_images=images), SimpleNamespace(kind=kind)
    task = SimpleNamespace(pruning=pruning, problem=problem)
    assert list(states_of(task)) == states
