"""A short run of each command that others build on."""

import pytest

from amc.cli.main import main
from amc.training.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def small_data():
    """Options of a command that takes seconds."""
    return [
        "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "64",
        "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
    ]  # fmt: skip


@pytest.fixture(scope="session")
def quick(small_data):
    """The same for commands that train a network for a moment: the one that takes a third of the time of the other."""
    return ["--untrained", "true", "--model", "digits_lenet", *small_data]


@pytest.fixture(scope="session")
def searched(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "searched"
    words = ["search", *quick, "--train.epochs", "1", "--agent", "random", "--episodes", "2", "--out", str(folder)]
    assert main(words) == 0
    return folder


@pytest.fixture(scope="session")
def pruned(searched):
    folder = searched.with_name("pruned")
    assert main(["prune", "--policy", str(searched / "policy.json"), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def interrupt_training():
    """Presses Ctrl-C when the first epoch is on disk."""

    def save(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    return lambda monkeypatch: monkeypatch.setattr("amc.training.trainer.save_checkpoint", save)


@pytest.fixture
def error_of(capsys):
    """Runs a command line that must fail, and returns its one line."""

    def run(words):
        capsys.readouterr()
        assert main(words) == 2
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("amc: error: ")]
        assert len(lines) == 1
        assert "Traceback" not in captured.err
        return lines[0]

    return run
