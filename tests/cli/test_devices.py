"""Several processes on the command line."""

import json
import os
import shlex
import signal
import subprocess
import sys
from functools import partial

import pytest

from amc.cli.main import main
from amc.cli.spelling import read_spellings
from amc.errors import ConfigurationError
from amc.training.checkpoint import save_checkpoint
from amc.training.distributed import processes

pytest.importorskip("lightning_fabric")


@pytest.fixture
def forked(monkeypatch):
    """Forks the second process, as a new Python takes seconds; returns what to call with it when it trains."""
    made = []

    def make(size, device):
        made.append(processes_of(size, device, start_method="fork"))
        return made[-1]

    processes_of = processes.LocalProcesses
    monkeypatch.setattr(processes, "LocalProcesses", make)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    return made


def test_a_process_that_dies_is_one_line_with_the_command_that_continues(
    pruned, tmp_path, forked, monkeypatch, error_of, capsys
):
    def kill(*arguments):
        save_checkpoint(*arguments)
        os.kill(forked[0]._others[0].pid, signal.SIGKILL)

    words = ["finetune", str(pruned), "--finetune.epochs", "2", "--device", "cpu", "--devices", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("amc.training.trainer.save_checkpoint", kill)
        line = error_of([*words, "--out", str(tmp_path / "run")])
    assert line.startswith("amc: error: process 1 of 2 has died (killed by signal 9")
    hint = line.partition("continue with: amc ")[2]
    assert main(shlex.split(hint)) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["accuracy"]["finetuned"] > 0


def test_what_cannot_be_shared_is_refused_before_a_folder_is_made(pruned, tmp_path, forked, error_of):
    words = ["finetune", str(pruned), "--finetune.epochs", "1", "--device", "cpu", "--devices", "2"]
    line = error_of([*words, "--finetune.batch_size", "15", "--out", str(tmp_path / "run")])
    assert "batch_size must be a multiple of the 2 processes" in line
    assert not (tmp_path / "run").exists()


def test_commands_without_shared_trainings_know_no_devices(error_of):
    assert "unknown option '--devices'" in error_of(["search", "--devices", "2"])


def test_torchrun_is_refused_where_nothing_is_shared(monkeypatch, error_of):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert "torchrun is for amc compress and amc finetune; run amc inspect without it" in error_of(["inspect"])


def test_decays_by_layer_are_read(pruned):
    assert read_spellings({"finetune": {"decay_by_layer": "fc*=0.001,layer1.*=0"}}) == {
        "finetune": {"decay_by_layer": {"fc*": 0.001, "layer1.*": 0.0}}
    }
    with pytest.raises(ConfigurationError, match=r"decay_by_layer must be PATTERN=N.*not 'fc'; for example"):
        read_spellings({"finetune": {"decay_by_layer": "fc"}})


@pytest.mark.slow
def test_torchrun_and_devices_deliver_the_same_network(pruned, tmp_path):
    run = partial(subprocess.run, check=True, capture_output=True, text=True, timeout=300)
    words = ["amc", "finetune", str(pruned), "--finetune.epochs", "1", "--device", "cpu", "--progress", "false"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    run([sys.executable, *torchrun, *words, "--out", str(tmp_path / "one")])
    output = run([sys.executable, "-m", *words, "--devices", "2", "--out", str(tmp_path / "two")]).stdout
    assert "The fine-tuned network" in output
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
