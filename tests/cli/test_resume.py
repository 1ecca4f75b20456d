"""Runs that are interrupted go on, by the command that made them and with the options that they had."""

import errno
import json
import os
import shlex
import shutil
import socket
import threading
import time

import pytest
import torch

import amc
from amc.cli import setup
from amc.cli.main import main
from amc.errors import in_plain_words
from amc.report.run_folder import RunFolder
from amc.study import AgentsStudy
from amc.training.checkpoint import save_checkpoint
from amc.utils.folder_lock import FolderLock
from amc.utils.json_lines import read_lines

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


def test_an_interrupted_finetune_goes_on_to_the_same_network(
    pruned, tmp_path, monkeypatch, capsys, error_of, interrupt_training
):
    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        interrupt_training(patch)
        assert main([*words, "--out", str(tmp_path / "in two")]) == 130
    hint = hint_of(capsys)
    assert hint == ["finetune", "--out", str(tmp_path / "in two"), "--resume"]
    assert " ".join(["amc", *map(shlex.quote, hint)]) in error_of([*words, "--out", str(tmp_path / "in two")])
    assert main(hint) == 0
    assert f"continuing {tmp_path / 'in two'}\n" in capsys.readouterr().err
    expected, found = (amc.load(tmp_path / name).state_dict() for name in ("whole", "in two"))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    figures = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "in two")]
    assert figures[0]["accuracy"] == figures[1]["accuracy"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598"),
        RuntimeError("basic_ios::clear: iostream error"),  # where the file's last bytes do not fit
    ],
)
def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on(error, pruned, tmp_path, monkeypatch, error_of):
    def save(path, *arguments):
        if path.exists():
            raise error
        save_checkpoint(path, *arguments)

    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("amc.training.trainer.save_checkpoint", save)
        line = error_of(words)
    assert line.startswith(f"amc: error: the disk is full ({in_plain_words(str(error))}); ")
    assert "free some space, and continue with --resume" in line
    assert main(["finetune", "--out", str(tmp_path / "run"), "--resume"]) == 0


@pytest.mark.parametrize("most", [100, 20_000, 150_000], ids=["options", "curves", "network"])
def test_a_file_that_cannot_grow_is_told_in_one_line_and_the_run_goes_on(quick, most, searched, tmp_path, error_of):
    resource = pytest.importorskip("resource")
    words = ["search", *quick, "--train.epochs", "1", "--agent", "random", "--episodes", "2"]
    words += ["--out", str(tmp_path / "run")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        line = error_of(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "too large" in line or "the disk is full" in line
    assert main([*words, "--resume"] if (tmp_path / "run" / "config.yaml").exists() else words) == 0
    assert (tmp_path / "run" / "policy.json").read_bytes() == (searched / "policy.json").read_bytes()


def test_a_clock_that_jumps_back_changes_no_duration(quick, searched, tmp_path, monkeypatch):
    now = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    words = ["search", *quick, "--train.epochs", "1", "--agent", "random", "--episodes", "2"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    seconds = [record["seconds"] for record in read_lines(tmp_path / "run" / "episodes.jsonl").records]
    assert len(seconds) == 2
    assert min(seconds) >= 0
    assert (tmp_path / "run" / "policy.json").read_bytes() == (searched / "policy.json").read_bytes()


def test_a_network_that_keeps_what_it_makes_on_first_use_is_fine_tuned(quick, tmp_path, monkeypatch):
    (tmp_path / "late_net.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    policy = ["--agent", "uniform", "--compare", "none", "--finetune.epochs", "0"]
    words = ["compress", *quick, "--train.epochs", "1", *policy, "--model", "late_net:build"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert main(["finetune", str(tmp_path / "run"), "--finetune.epochs", "1", "--trust"]) == 0


def test_an_interrupted_prune_goes_on(searched, tmp_path, monkeypatch, capsys):
    words = ["prune", "--policy", str(searched / "policy.json"), "--out", str(tmp_path / "pruned")]

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("amc.pipeline.deliver.Workshop.deliver", stop)
        assert main(words) == 130
    assert main(hint_of(capsys)) == 0
    assert json.loads((tmp_path / "pruned" / "summary.json").read_text())["accuracy"]["pruned"] > 0


def test_a_resumed_prune_opens_its_folder_once(pruned, monkeypatch):
    opened, load = [], RunFolder.open

    def count(path, command):
        opened.append(path)
        return load(path, command)

    monkeypatch.setattr(RunFolder, "open", count)
    assert main(["prune", "--out", str(pruned), "--resume"]) == 0
    assert opened == [pruned]


def test_another_commands_folder_is_left_alone(pruned, error_of):
    before = {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()}
    for command in ("compress", "search", "finetune"):
        line = error_of([command, "--resume", "--out", str(pruned)])
        assert f"continue with: amc prune --out {pruned} --resume" in line
    assert {path: path.read_bytes() for path in pruned.iterdir() if path.is_file()} == before


def test_an_interruption_before_a_run_has_begun_promises_nothing(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.cli.setup.load_data", stop)
    assert main(["compress", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "amc: interrupted\n"


@pytest.mark.parametrize("command", ["compress", "search", "prune", "finetune"])
def test_resume_asks_for_the_folder(command, error_of):
    assert "--resume needs the run's folder: give it with --out" in error_of([command, "--resume"])


@pytest.mark.parametrize("agent", ["random", "ddpg:hidden=[8, 8];ensemble_hidden=8"], ids=["random", "ddpg"])
def test_a_finished_search_is_extended(quick, tmp_path, monkeypatch, error_of, agent):
    folder, scored = tmp_path / "run", []
    words = [
        "search",
        *quick,
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
    assert "--episodes must be more than the 8 of the search" in error_of([*resumed, "--episodes", "6"])


def episodes_in(folder):
    return read_lines(folder / "episodes.jsonl").records


def test_two_processes_on_one_folder(searched, tmp_path, error_of):
    folder = tmp_path / "used"
    shutil.copytree(searched, folder)
    lock = FolderLock(folder)
    lock.acquire()
    words = ["search", "--out", str(folder), "--resume"]
    assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in error_of(words)
    lock.release()
    assert main(words) == 0


def test_a_start_that_came_to_nothing_does_not_stand_in_the_way(quick, tmp_path, monkeypatch, error_of):
    words = ["search", *quick, "--train.epochs", "1", "--agent", "random", "--episodes", "1"]
    words += ["--out", str(tmp_path / "run")]

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("amc.report.run_folder.write_text", full)
        assert "no space left on device" in error_of(words)
    assert "start it again, without --resume" in error_of([*words, "--resume"])
    assert main(words) == 0


@pytest.fixture
def with_a_broken_event_file(monkeypatch):
    """Lets no thread of TensorBoard write, as if its folder were gone."""

    def write(*arguments):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "events")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", write)


@pytest.mark.parametrize("event_file", ["whole", "broken"])
def test_a_folder_that_is_deleted_meanwhile_is_said_in_one_line(
    event_file, quick, tmp_path, monkeypatch, error_of, request
):
    folder = tmp_path / "deleted"
    words = ["search", *quick, "--agent", "random", "--episodes", "3", "--train.epochs", "1", "--out", str(folder)]

    def delete(*_):
        # Moved in one step: a thread of TensorBoard may be writing into it, and would hold up a deletion.
        folder.rename(tmp_path / "elsewhere")
        if event_file == "broken":
            request.getfixturevalue("with_a_broken_event_file")

    monkeypatch.setattr("amc.report.run_recorder.RunRecorder._on_learning", delete)
    assert error_of(words).startswith(
        f"amc: error: {folder} was deleted, moved or emptied while it was worked in; put it back and continue with: "
        f"amc search --out {folder} --resume; or start the run again"
    )
    assert not folder.exists()


def test_a_thread_that_cannot_write_prints_no_traceback(quick, with_a_broken_event_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    words = ["search", *quick, "--agent", "random", "--episodes", "3", "--train.epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_that_is_too_long_is_said_in_one_line(quick, tmp_path, error_of):
    words = ["search", *quick, "--agent", "random", "--episodes", "1", "--out"]
    assert "is longer than the file system allows" in error_of([*words, str(tmp_path / ("n" * 300))])


def test_memory_that_does_not_suffice_for_a_training_is_one_line(pruned, tmp_path, monkeypatch, error_of):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    words = ["finetune", str(pruned), "--finetune.epochs", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("amc.training.step.Stepper.take", fail)
    line = error_of(words)
    assert line.startswith("amc: error: out of memory (CUDA out of memory. Tried to allocate 2 GiB); what was done")


def test_an_interrupted_study_says_that_the_same_command_goes_on(small_data, tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.study.AgentsStudy.play", stop)
    words = ["study", "--out", str(tmp_path / "study"), *small_data, "--train.epochs", "1", "--agents", "uniform"]
    assert main(words) == 130
    assert capsys.readouterr().err.endswith(f"amc: interrupted; the same command continues {tmp_path / 'study'}\n")


def test_a_study_does_not_make_a_folder_again_that_was_deleted_before_it_had_results(
    small_data, tmp_path, monkeypatch, error_of
):
    folder, load = tmp_path / "study", setup.load_roles

    def deleting(*arguments):
        shutil.rmtree(folder)
        return load(*arguments)

    monkeypatch.setattr(setup, "load_roles", deleting)
    words = ["study", "--out", str(folder), *small_data, "--train.epochs", "1", "--agents", "uniform"]
    assert f"{folder} was deleted, moved or emptied while it was worked in; put it back and give" in error_of(words)
    assert not folder.exists()


def test_a_study_whose_folder_is_deleted_meanwhile_is_said_in_one_line(small_data, tmp_path, monkeypatch, error_of):
    folder, play = tmp_path / "study", AgentsStudy.play

    def deleting(*arguments):
        shutil.rmtree(folder)
        return play(*arguments)

    monkeypatch.setattr("amc.study.AgentsStudy.play", deleting)
    words = ["study", "--out", str(folder), *small_data, "--train.epochs", "1", "--agents", "uniform"]
    assert f"{folder} was deleted, moved or emptied while it was worked in; put it back and give" in error_of(words)
