"""Choices and counts that cannot be used are refused before the data is read or a network traced."""

import pytest

import amc
from amc.cli.main import main
from amc.errors import AmcError


@pytest.fixture
def idle(tmp_path, monkeypatch):
    """Fails the test where a command reads data."""
    monkeypatch.chdir(tmp_path)

    def read(*arguments, **options):
        pytest.fail("data was read first")

    monkeypatch.setattr("amc.cli.setup.load_data", read)
    return tmp_path


VARIATIONS = "good:\n  agent: lamp\nbad:\n  agent: lmap\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compress", "--agent", "dddpg"], "did you mean 'ddpg'"),
        (["compress", "--episodes", "0"], "at least 1 episode, not 0"),
        (["compress", "--agent", "cem:population=x"], "population must be a whole number"),
        (["compress", "--compare", "unifrom"], "did you mean 'uniform'"),
        (["compress", "--reward", "acuracy"], "did you mean 'accuracy'"),
        (["compress", "--features", "dept"], "did you mean 'depth'"),
        (["compress", "--first_images", "0"], "first_images must be at least 1"),
        (["compress", "--schedule", "iterativ"], "did you mean 'iterative'"),
        (["compress", "--model", "resnte20"], "did you mean 'resnet20'"),
        (["compress", "--classes", "0"], "--classes must be at least 1"),
        (["compress", "--weights", "nowhere.pt"], "no file at nowhere.pt"),
        (["compress", "--policy", "nowhere"], "there is no file or folder 'nowhere'"),
        (["search", "--agent", "dddpg"], "did you mean 'ddpg'"),
        (["search", "--episodes", "0"], "at least 1 episode, not 0"),
        (["bench", "--agent", "dddpg"], "did you mean 'ddpg'"),
        (["bench", "--episodes", "0"], "at least 1 episode, not 0"),
        (["evaluate", "--model", "resnte20"], "did you mean 'resnet20'"),
        (["study", "--out", "s", "--agents", "dddpg"], "did you mean 'ddpg'"),
        (["study", "--out", "s", "--counts", "0"], "counts above 0"),
        (["study", "--out", "s", "--agents", "ddpg", "--budgets", "0"], "a budget is a share"),
        (["study", "--out", "s", "--reward", "acuracy"], "did you mean 'accuracy'"),
        (["study", "--out", "s", "--seeds", "-1"], "a seed must be from 0"),
        (["study", "--out", "s", "--model", "resnte20"], "did you mean 'resnet20'"),
        (["study", "--out", "s", "--rewards", "3", "--finetune.epochs", "0"], "--finetune.epochs must be at least 1"),
        (["study", "--out", "s", "--variations", "methods.yaml"], "did you mean 'lamp'"),
        (["train", "--out", "t", "--agent", "cem"], "trains ddpg over several tasks, not 'cem'"),
        (["train", "--out", "t", "--episodes", "0"], "--episodes must be at least 1, not 0"),
        (["train", "--out", "t", "--models", "resnte20"], "did you mean 'resnet20'"),
        (["train", "--out", "t", "--models", "resnet20=nowhere.pt"], "no file at nowhere.pt"),
        (["train", "--out", "t", "--budgets", "-1"], "a budget is a share"),
        (["train", "--out", "t", "--held_out_budgets", "0"], "a budget is a share"),
        (["train", "--out", "t", "--reward_names", "acuracy"], "did you mean 'accuracy'"),
        (["train", "--out", "t", "--seeds", "-1"], "a seed must be from 0"),
    ],
)
def test_what_is_chosen_is_checked_first(words, expected, idle, error_of):
    (idle / "methods.yaml").write_text(VARIATIONS)
    assert expected in error_of(words)
    assert [file.name for file in idle.iterdir()] == ["methods.yaml"], "nothing is left behind"


def test_python_checks_agents_before_the_network_is_traced(monkeypatch):
    monkeypatch.setattr("amc.pipeline.compress.prepare", lambda *given, **options: pytest.fail("traced first"))
    model = amc.create_model("digits_resnet")
    for options, message in (
        ({"agent": "dddpg"}, "did you mean 'ddpg'"),
        ({"compare_with": ["unifrom"]}, "did you mean 'uniform'"),
        ({"episodes": 0}, "at least 1 episode, not 0"),
    ):
        with pytest.raises(AmcError, match=message):
            amc.compress(model, None, **options)


BAD_PATHS = ["nowhere", "afile/below", "adir", "loop", "n" * 300]


@pytest.mark.parametrize(
    "words",
    [
        ["policy", "show", "PATH"],
        ["prune", "PATH"],
        ["prune", "--policy", "PATH"],
        ["finetune", "PATH"],
        ["evaluate", "PATH"],
        ["export", "PATH"],
        ["pack", "PATH"],
        ["report", "PATH"],
        ["watch", "PATH"],
        ["compress", "--config", "PATH"],
        ["compress", "--policy", "PATH"],
        ["compress", "--weights", "PATH"],
        ["compress", "--budget.latency", "0.5", "--budget.profile", "PATH"],
        ["compress", "--resume", "--out", "PATH"],
        ["compress", "--agent", "policy:file=PATH"],
        ["study", "--out", "s", "--variations", "PATH"],
        ["study", "--tabulate", "PATH"],
        ["zoo", "--table_only", "--results", "PATH"],
    ],
    ids=" ".join,
)
def test_a_path_that_leads_nowhere_is_told_in_plain_words(words, tmp_path, monkeypatch, error_of):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x")
    (tmp_path / "adir").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for path in BAD_PATHS:
        line = error_of([word.replace("PATH", path) for word in words])
        assert "Errno" not in line
        assert "deserializ" not in line


def test_the_help_of_train_lists_the_agents_that_it_takes(capsys):
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    section = printed.partition("\nagents:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in section.splitlines()] == ["ddpg"]
    assert "What decides how much of each layer stays: ddpg (default" in " ".join(printed.split())
