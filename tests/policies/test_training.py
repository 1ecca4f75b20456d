"""`amc train`: what it leaves, that a kill loses nothing, and that its policy serves other commands."""

from __future__ import annotations

import json
import shutil

import pytest

from agents.ddpg.trainer import PolicyTrainer
from agents.loading import load_agent
from amc.cli.main import main
from amc.errors import RunFolderError
from amc.policies.rules import TrainingRules
from amc.policies.training_record import TrainingRecord
from amc.storage.agent_card import read_card

WORDS = [
    "--data.train_images", "120", "--data.test_images", "30", "--data.calibration_images", "16",
    "--data.search_images", "30", "--train.epochs", "1", "--device", "cpu", "--budgets", "0.7", "0.5",
    "--held_out_budgets", "0.6", "--evaluate_every", "6", "--checkpoint_every", "4",
    "--agent", "ddpg:hidden=[8, 8];ensemble_hidden=8;gradient_steps=1;warmup_episodes=2;warm_start=[uniform]",
    "--models", "digits_lenet",
]  # fmt: skip
FILES = ("agent.safetensors", "checkpoint.safetensors", "agent.json", "evaluations.jsonl")


def train(folder, *words, episodes=13):
    return main(["train", *WORDS, "--out", str(folder), "--episodes", str(episodes), *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "policy"
    assert train(folder, "--first_images", "10") == 0
    return folder


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_it_leaves_a_policy_with_its_card_and_every_episode(trained):
    card, agent = read_card(trained / "agent.json"), load_agent(trained / "agent.safetensors")
    assert [task.share for task in card.tasks] == pytest.approx([0.7, 0.5], abs=0.001)
    assert [task.share for task in card.held_out] == pytest.approx([0.6], abs=0.001)
    assert card.feature_count == len(agent.tasks[0].features) == 15
    evaluations = lines(trained, "evaluations.jsonl")
    assert [line["episode"] for line in evaluations] == [6, 12, 13]
    best = max(line["mean"] for line in evaluations)
    kept = next(line for line in evaluations if line["mean"] == best)
    assert (card.episodes, card.curve[-1].rewards) == (kept["episode"], kept["rewards"])
    episodes = lines(trained, "training.jsonl")
    assert [line["episode"] for line in episodes] == list(range(13))
    assert len({line["task"] for line in episodes}) == 2
    assert any((trained / "tensorboard").iterdir())


@pytest.mark.heavy
@pytest.mark.parametrize("after", [3, 6, 10])
def test_a_training_that_was_killed_ends_at_the_same_bits(trained, tmp_path, monkeypatch, after, capsys):
    play, count = PolicyTrainer.play, 0

    def interrupted(self):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return play(self)

    monkeypatch.setattr(PolicyTrainer, "play", interrupted)
    assert train(tmp_path / "p", "--first_images", "10") == 130
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(PolicyTrainer, "play", play)
    assert train(tmp_path / "p", "--first_images", "10") == 0
    for name in FILES:
        assert (tmp_path / "p" / name).read_bytes() == (trained / name).read_bytes(), name
    done, whole = (lines(folder, "training.jsonl") for folder in (tmp_path / "p", trained))
    assert [(line["task"], line["reward"], line["widths"]) for line in done] == [
        (line["task"], line["reward"], line["widths"]) for line in whole
    ]


def test_its_policy_is_applied_by_other_commands(trained, tmp_path, capsys):
    policy = str(trained / "agent.safetensors")
    words = [*WORDS[:12], "--policy", policy, "--budget.flops", "0.4", "--untrained", "true"]
    assert main(["search", *words, "--episodes", "0", "--out", str(tmp_path / "run")]) == 0
    assert len(lines(tmp_path / "run", "episodes.jsonl")) == 1
    capsys.readouterr()
    assert main(["policy", "show", policy]) == 0
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budgets", "0.8"], "holds a training with budgets [0.7, 0.5], not [0.8]"),
        (["--features", "budget"], "holds a training with features"),
        (["--agent", "random"], "trains ddpg over several tasks, not 'random'"),
        (["--agent", "ddpg:critic=step"], "needs ddpg with critic=episode"),
        (["--episodes", "0"], "--episodes must be at least 1, not 0"),
        (["--features", "depht"], "unknown feature 'depht'; did you mean 'depth'"),
        (["--reward_names", "acuracy"], "unknown reward 'acuracy'; did you mean 'accuracy'"),
        (["--models", "digits_lenet=missing.pth"], "missing.pth"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(trained, capsys, words, message):
    before = {file: file.read_bytes() for file in trained.iterdir() if file.is_file()}
    assert train(trained, "--first_images", "10", *words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {file: file.read_bytes() for file in trained.iterdir() if file.is_file()} == before


def test_a_start_under_other_rules_takes_no_dense_network_of_an_earlier_one(trained, tmp_path, monkeypatch):
    dense = "dense-digits_lenet.safetensors"
    for name in ("config.yaml", dense, ".lock"):  # as a kill before the first checkpoint leaves it
        (tmp_path / name).write_bytes((trained / name).read_bytes())

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.policies.PolicyTraining", stop)
    before = (tmp_path / dense).stat().st_mtime_ns
    assert train(tmp_path, "--first_images", "10") == 130
    assert (tmp_path / dense).stat().st_mtime_ns == before
    assert train(tmp_path, "--first_images", "10", "--train.epochs", "2") == 130
    assert (tmp_path / dense).read_bytes() != (trained / dense).read_bytes()


def test_a_damaged_checkpoint_is_refused(trained, tmp_path, capsys):
    for name in ("config.yaml", "training.jsonl", "evaluations.jsonl", "dense-digits_lenet.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "checkpoint.safetensors").write_bytes((trained / "checkpoint.safetensors").read_bytes()[:-99])
    assert train(tmp_path, "--first_images", "10") == 2
    assert "cannot read the agent" in capsys.readouterr().err


def lose_all(file):
    file.write_bytes(b"")


def zero_the_end(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("training.jsonl", lose_all, "lacks 13 lines, that of episode 0 first"),
        ("training.jsonl", zero_the_end, "must hold what led to the checkpoint after 13 episodes"),
        ("evaluations.jsonl", lose_all, "lacks 2 lines, that of episode 6 first"),
        ("agent.safetensors", zero_the_end, "must hold the tensors that it was written with"),
        ("checkpoint.safetensors", zero_the_end, "must hold the tensors that it was written with"),
        ("dense-digits_lenet.safetensors", zero_the_end, "must hold the tensors that it was written with"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*damaged")
def test_what_a_power_cut_took_is_noticed(trained, tmp_path, capsys, name, damage, message):
    folder = tmp_path / "p"
    shutil.copytree(trained, folder)
    damage(folder / name)
    assert train(folder, "--first_images", "10") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "line", ['{"task": "a"}', '{"task": "a", "episode": [1]}', '{"episode": 1}', '{"episode": "x"}']
)
def test_lines_that_are_no_episodes_of_a_training_are_refused(tmp_path, line):
    (tmp_path / "training.jsonl").write_text(line + "\n")
    with pytest.raises(RunFolderError, match=r"training\.jsonl must hold what was written there"):
        TrainingRecord(tmp_path)


def test_a_training_continues_without_a_record_that_was_deleted(trained, tmp_path, capsys):
    folder = tmp_path / "p"
    shutil.copytree(trained, folder)
    for name in ("training.jsonl", "evaluations.jsonl"):
        (folder / name).unlink()
    assert train(folder, "--first_images", "10", episodes=15) == 0
    assert [line["episode"] for line in lines(folder, "training.jsonl")] == [13, 14]
    assert train(folder, "--first_images", "10", episodes=16) == 0


def test_it_stops_when_the_evaluations_bring_nothing(tmp_path, capsys):
    assert train(tmp_path / "p", "--evaluate_every", "1", "--patience", "2", episodes=40) == 0
    means = [line["mean"] for line in lines(tmp_path / "p", "evaluations.jsonl")]
    assert len(means) < 40
    assert max(means[-2:]) <= max(means[:-2])


def test_evaluations_follow_checkpoints():
    rules = TrainingRules(episodes=13, evaluate_every=6, checkpoint_every=4)
    assert [episode for episode in range(14) if rules.is_due(episode)] == [4, 6, 8, 12, 13]
    assert [episode for episode in range(14) if rules.is_evaluated(episode)] == [6, 12, 13]
