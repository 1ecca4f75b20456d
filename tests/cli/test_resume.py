"""Runs that are interrupted go on, by the command that made them and with the options that they had."""

import errno
import json
import os
import shlex
import shutil
import socket

import pytest
import torch
import yaml

import amc
from amc.cli.main import main
from amc.data import DataConfig
from amc.models import create_model
from amc.pipeline.config import RunConfig
from amc.report.origin import Origin
from amc.report.run_folder import RunFolder
from amc.training.checkpoint import save_checkpoint
from amc.utils.folder_lock import FolderLock
from amc.utils.json_lines import read_lines

DATA = ["--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "64"]
UNTRAINED = ["--untrained", "true"]  # they train for a second
QUICK = [*DATA, "--train.epochs", "1", "--finetune.epochs", "0", "--agent", "random", "--compare", "none"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "searched"
    assert main(["search", *UNTRAINED, *QUICK[:-6], "--agent", "random", "--episodes", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def pruned(searched):
    folder = searched.with_name("pruned")
    assert main(["prune", "--policy", str(searched / "policy.json"), "--out", str(folder)]) == 0
    return folder


def interrupt_training(monkeypatch):
    """Presses Ctrl-C when the first epoch is on disk; returns what undoes that."""

    def save(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.training.trainer.save_checkpoint", save)


def hint_of(capsys):
    """Returns the words of the command line that the interruption names."""
    line = capsys.readouterr().err.splitlines()[-1]
    start = "amc: interrupted; continue with: amc "
    assert line.startswith(start)
    return shlex.split(line[len(start) :])


def error_of(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_interrupted_finetune_goes_on_to_the_same_network(pruned, tmp_path, monkeypatch, capsys):
    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        interrupt_training(patch)
        assert main([*words, "--out", str(tmp_path / "in two")]) == 130
    hint = hint_of(capsys)
    assert hint == ["finetune", "--out", str(tmp_path / "in two"), "--resume"]
    assert " ".join(["amc", *map(shlex.quote, hint)]) in error_of([*words, "--out", str(tmp_path / "in two")], capsys)
    assert main(hint) == 0
    assert f"continuing {tmp_path / 'in two'}\n" in capsys.readouterr().err
    expected, found = (amc.load(tmp_path / name).state_dict() for name in ("whole", "in two"))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    figures = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "in two")]
    assert figures[0]["accuracy"] == figures[1]["accuracy"]


def test_finetune_takes_the_epochs_of_the_search_that_its_network_was_pruned_from(searched, tmp_path, capsys):
    folder = tmp_path / "pruned"
    words = ["prune", str(searched), "--config", str(searched / "config.yaml"), "--out", str(folder)]
    record = yaml.safe_load((searched / "config.yaml").read_text())
    record["finetune"]["epochs"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    words[3] = str(tmp_path / "config.yaml")
    assert main(words) == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["finetune"]["epochs"] == 3
    assert main(["finetune", str(folder), "--out", str(tmp_path / "tuned"), "--device", "cpu"]) == 0
    assert yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["finetune"]["epochs"] == 3
    before, after = (amc.load(path).state_dict() for path in (folder, tmp_path / "tuned"))
    assert any(not before[name].equal(value) for name, value in after.items())
    line = error_of(["finetune", str(folder), "--finetune.epochs", "0", "--out", str(tmp_path / "none")], capsys)
    assert "at least one epoch" in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598"),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on(error, pruned, tmp_path, monkeypatch, capsys):
    def save(path, *arguments):
        if path.exists():
            raise error
        save_checkpoint(path, *arguments)

    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("amc.training.trainer.save_checkpoint", save)
        line = error_of(words, capsys)
    assert line.startswith(f"amc: error: the disk is full ({error}); ")
    assert "make room, and continue with --resume" in line
    assert main(["finetune", "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_a_network_that_keeps_what_it_makes_on_first_use_is_fine_tuned(tmp_path, monkeypatch):
    (tmp_path / "late_net.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    policy = ["--agent", "uniform", "--compare", "none", "--finetune.epochs", "0"]
    words = ["compress", *UNTRAINED, *DATA, "--train.epochs", "1", *policy, "--model", "late_net:build"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert main(["finetune", str(tmp_path / "run"), "--finetune.epochs", "1", "--trust"]) == 0


LATE = """
import torch
from torch import nn

class Net(nn.Module):
    scale = None

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        x = self.first(x).relu()
        if self.scale is None:
            self.scale = torch.linspace(0.5, 1, x.shape[-1])
        return self.head(self.second(x * self.scale).relu().mean((2, 3)))

build = Net
"""


def test_an_interrupted_prune_goes_on(searched, tmp_path, monkeypatch, capsys):
    words = ["prune", "--policy", str(searched / "policy.json"), "--out", str(tmp_path / "pruned")]

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.pipeline.deliver.Workshop.deliver", stop)
        assert main(words) == 130
    assert main(hint_of(capsys)) == 0
    assert json.loads((tmp_path / "pruned" / "summary.json").read_text())["accuracy"]["pruned"] > 0


def test_another_commands_folder_is_left_alone(pruned, capsys):
    before = {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()}
    for command in ("compress", "search", "finetune"):
        line = error_of([command, "--resume", "--out", str(pruned)], capsys)
        assert f"continue with: amc prune --out {pruned} --resume" in line
    assert {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()} == before


def test_an_interruption_before_a_run_has_begun_promises_nothing(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.cli.setup.load_data", stop)
    assert main(["compress", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "amc: interrupted\n"


@pytest.mark.parametrize("command", ["compress", "search", "prune", "finetune"])
def test_resume_asks_for_the_folder(command, capsys):
    assert "--resume needs the run's folder: give it with --out" in error_of([command, "--resume"], capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed", "5", "--budget.flops", "0.3"], "--seed must stay 0 until the run in {} is done, not 5"),
        (["--budget.flops", "0.3"], "--budget.flops must stay unset until the run in {} is done, not 0.3"),
        (["--agent", "random:foo=3"], "--agent must stay random until the run in {} is done, not random:foo=3"),
        (["--config", "other.yaml"], "--seed must stay 0 until the run in {} is done, not 7"),
    ],
)
def test_other_options_are_refused(searched, words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("seed: 7\n")
    line = error_of(["search", "--out", str(searched), "--resume", *words], capsys)
    assert expected.format(searched) in line
    assert "leave it out, or start again with another --out" in line


def test_the_same_options_and_another_device_go_on(searched, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(searched, folder)
    assert main(["search", "--out", str(folder), "--resume", "--episodes", "2", "--device", "cpu"]) == 0
    assert (folder / "policy.json").read_text() == (searched / "policy.json").read_text()


def test_finetune_refuses_another_network_on_the_way(pruned, searched, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "tuned")
    with monkeypatch.context() as patch:
        interrupt_training(patch)
        assert main(["finetune", str(pruned), "--finetune.epochs", "2", "--out", out]) == 130
    assert f"was started with the network {pruned}" in error_of(
        ["finetune", str(searched), "--out", out, "--resume"], capsys
    )
    assert main(["finetune", str(pruned), "--out", out, "--resume"]) == 0


def edited_policy(searched, folder, *, ratios=True, **widths):
    """Writes a run's policy with other widths, beside the run's options; without its pruning ratios if asked."""
    policy = json.loads((searched / "policy.json").read_text())
    if not ratios:
        del policy["pruning_ratios"]
    folder.mkdir(exist_ok=True)
    shutil.copy(searched / "config.yaml", folder)
    shutil.copy(searched / "dense.safetensors", folder)
    (folder / "policy.json").write_text(json.dumps({**policy, "widths": {**policy["widths"], **widths}}))
    return str(folder / "policy.json")


@pytest.mark.parametrize(("width", "shown"), [(8.5, "8.5"), (True, "True"), ("8", "'8'"), (None, "None")])
def test_widths_that_are_no_whole_numbers_are_refused(searched, tmp_path, width, shown, capsys):
    policy = edited_policy(searched, tmp_path / "edited", **{"layer1.0.conv1": width})
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")], capsys)
    assert f"policy.json is no policy: the width of layer1.0.conv1 must be a whole number, not {shown}" in line


def test_a_policy_above_the_budget_of_its_run_is_refused(searched, tmp_path, capsys):
    wide = {"layer1.0.conv1": 16, "layer1.1.conv1": 16, "layer2.0.conv1": 32, "layer2.1.conv1": 32}
    policy = edited_policy(searched, tmp_path / "wide", ratios=False, **wide)
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")], capsys)
    assert "which is above the budget of 824,128 (50.0%); keep less, or scale it to the budget with" in line
    assert not (tmp_path / "pruned" / "model.safetensors").exists()


def test_a_policy_that_contradicts_itself_is_refused(searched, tmp_path, capsys):
    policy = edited_policy(searched, tmp_path / "edited", **{"layer1.0.conv1": 1})
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")], capsys)
    assert "layer1.0.conv1" in line


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A search that was started in `tmp_path` with files named from there, and where the shell is now."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    torch.save(create_model("digits_resnet", seed=1).state_dict(), "weights.pt")
    assert (
        main(
            [
                "search",
                *UNTRAINED,
                *DATA,
                "--agent",
                "random",
                "--episodes",
                "1",
                "--weights",
                "weights.pt",
                "--out",
                "s1",
            ]
        )
        == 0
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_a_run_goes_on_from_another_folder(begun):
    assert main(["search", "--out", "../s1", "--resume"]) == 0
    assert main(["prune", "--policy", "../s1/policy.json", "--out", "../p1"]) == 0
    assert main(["finetune", "../p1", "--finetune.epochs", "1", "--out", "../f1"]) == 0


def test_replaced_weights_are_not_mixed_in(begun, capsys):
    torch.save(create_model("digits_resnet", seed=2).state_dict(), "../weights.pt")
    line = error_of(["search", "--out", "../s1", "--resume"], capsys)
    assert "the weights must be what the run was started with" in line
    assert "put the old file back, or start again" in line
    (begun / "weights.pt").unlink()
    assert "the weights that the run was started with must be readable" in error_of(
        ["search", "--out", "../s1", "--resume"], capsys
    )


@pytest.mark.parametrize("command", ["prune", "finetune", "evaluate", "export"])
def test_every_command_that_reads_a_run_notices_replaced_weights(begun, command, capsys):
    folder = "../s1"
    if command != "prune":
        assert main(["prune", "../s1", "--out", "../p1"]) == 0
        folder = "../p1"
    old = (begun / "weights.pt").read_bytes()
    torch.save(create_model("digits_resnet", seed=2).state_dict(), "../weights.pt")
    line = error_of([command, folder], capsys)
    assert "the weights must be what the run was started with" in line
    (begun / "weights.pt").write_bytes(old)
    if command == "prune":
        assert main([command, folder, "--out", "../p2"]) == 0


def test_weights_that_are_named_are_taken(begun):
    torch.save(create_model("digits_resnet", seed=2).state_dict(), "../weights.pt")
    torch.save(create_model("digits_resnet", seed=2).state_dict(), "../other.pt")
    assert main(["prune", "../s1", "--weights", "../other.pt", "--out", "../p1"]) == 0


def test_the_folder_of_the_data_is_stored_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = RunConfig(weights="~/w.pt", data=DataConfig(root="images"))
    stored = RunFolder.create(tmp_path / "run", config, Origin("compress")).config
    assert stored.weights == str(tmp_path / "home" / "w.pt")
    assert stored.data.root == str(tmp_path / "images")


def test_a_network_in_the_current_folder_is_fine_tuned(pruned, tmp_path, monkeypatch):
    shutil.copytree(pruned, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert main(["finetune", ".", "--finetune.epochs", "1"]) == 0
    assert (tmp_path / "here-finetuned" / "model.safetensors").is_file()


@pytest.mark.parametrize("agent", ["random", "ddpg"])
def test_a_finished_search_is_extended(tmp_path, monkeypatch, capsys, agent):
    folder, scored = tmp_path / "run", []
    words = [
        "search",
        *UNTRAINED,
        *DATA,
        "--train.epochs",
        "1",
        "--agent",
        agent,
        "--episodes",
        "4",
        "--out",
        str(folder),
    ]
    assert main(words) == 0
    before, policy = episodes_in(folder), json.loads((folder / "policy.json").read_text())
    resumed = ["search", "--out", str(folder), "--resume"]

    def stop(recorder, result):
        scored.append(result.episode)
        if len(scored) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.report.run_recorder.RunRecorder.on_new_episode", stop)
        assert main([*resumed, "--episodes", "8"]) == 130
        assert main(resumed) == 0  # to the 8 that it was extended to
    assert scored == [4, 5, 6, 7]
    assert [episode["episode"] for episode in episodes_in(folder)] == list(range(8))
    assert episodes_in(folder)[:4] == before
    best = max(episodes_in(folder), key=lambda episode: episode["reward"])
    assert json.loads((folder / "policy.json").read_text())["widths"] == best["widths"]
    assert policy["widths"] in [episode["widths"] for episode in before]
    assert "--episodes must be more than the 8 of the search" in error_of([*resumed, "--episodes", "6"], capsys)


def episodes_in(folder):
    return read_lines(folder / "episodes.jsonl").records


def test_two_processes_on_one_folder(searched, tmp_path, capsys):
    folder = tmp_path / "used"
    shutil.copytree(searched, folder)
    lock = FolderLock(folder)
    lock.acquire()
    words = ["search", "--out", str(folder), "--resume"]
    assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in error_of(words, capsys)
    lock.release()
    assert main(words) == 0


def test_a_torn_configuration_is_refused(searched, tmp_path, capsys):
    folder = tmp_path / "torn"
    shutil.copytree(searched, folder)
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(lines[: len(lines) // 2]))
    line = error_of(["search", "--out", str(folder), "--resume"], capsys)
    assert "config.yaml must be as the run was started with, but is damaged or was edited" in line


def test_a_start_that_came_to_nothing_does_not_stand_in_the_way(tmp_path, monkeypatch, capsys):
    words = ["search", *UNTRAINED, *DATA, "--train.epochs", "1", "--agent", "random", "--episodes", "1"]
    words += ["--out", str(tmp_path / "run")]

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("amc.report.run_folder.write_text", full)
        assert "No space left on device" in error_of(words, capsys)
    assert "start it again, without --resume" in error_of([*words, "--resume"], capsys)
    assert main(words) == 0


def test_a_folder_that_is_deleted_meanwhile_is_said_in_one_line(searched, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "deleted"
    monkeypatch.setattr("amc.report.run_recorder.RunRecorder.on_new_episode", lambda *_: shutil.rmtree(folder))
    words = [
        "search",
        *UNTRAINED,
        *DATA,
        "--agent",
        "random",
        "--episodes",
        "3",
        "--train.epochs",
        "1",
        "--out",
        str(folder),
    ]
    assert "No such file or directory" in error_of(words, capsys)


def test_a_name_that_is_too_long_is_said_in_one_line(tmp_path, capsys):
    words = ["search", *UNTRAINED, *DATA, "--agent", "random", "--episodes", "1", "--out"]
    assert "File name too long" in error_of([*words, str(tmp_path / ("n" * 300))], capsys)


def test_memory_that_does_not_suffice_for_a_training_is_one_line(pruned, tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    words = ["finetune", str(pruned), "--finetune.epochs", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("amc.training.trainer._Trainer._step", fail)
    line = error_of(words, capsys)
    assert line.startswith("amc: error: out of memory (CUDA out of memory. Tried to allocate 2 GiB); what was done")


def test_an_interrupted_study_says_that_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.study.AgentsStudy.play", stop)
    words = ["study", "--out", str(tmp_path / "study"), *DATA, "--train.epochs", "1", "--agents", "uniform"]
    assert main(words) == 130
    assert capsys.readouterr().err.endswith(f"amc: interrupted; the same command continues {tmp_path / 'study'}\n")
