"""Bad input: one clear line, exit status 2, nothing left behind."""

import pickle
from pathlib import Path

import pytest
import torch

from amc.cli.command import make_parser
from amc.cli.commands import COMMANDS
from amc.cli.main import main
from amc.cli.words import find_run
from amc.errors import ModelError
from amc.models import create_model

SMALL = ["--data.train_images", "200", "--data.test_images", "50", "--train.epochs", "0"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(words, capsys):
    """Runs a command line that must fail, and returns its one line."""
    assert main(words) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("amc: error: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compres"], "did you mean 'compress'"),
        (["compress", "--episods", "3"], "unknown option '--episods'; did you mean '--episodes'"),
        (["compress", "--data.nam", "digits"], "did you mean '--data.name'"),
        (["compress", "--episodes", "many"], "--episodes must be a whole number such as 10, not many"),
        (["compress", "--model", "digits_resne"], "did you mean 'digits_resnet'"),
        (
            ["compress", "--finetune.lr", "0.1"],
            "'--finetune.lr'; did you mean '--finetune.learning_rate'",
        ),
        (["compress", "--model", "./tiny.py:make"], "not a file: write 'tiny:make' in place of './tiny.py:make'"),
        (
            ["compress", "--model", "resnet20"],
            "so that it is the digits; name yours with --data.name",
        ),
        (["compress", "--data.root", "photos"], "data.name is digits, which needs none; name the data too"),
        (["search", "--data.name", "fake", "--data.root", "photos"], "data.name is fake, which needs none"),
        (["compress", "--pruning.family", "weight", "--pruning.residual", "true"], "needs pruning.family filter"),
        (["compress", "--budget.flops", "50"], "did you mean flops=0.5? no allocation costs as little as 50 FLOPs"),
        (["compress", "--budget.flops", "0.001"], "no other rules of pruning would reach it"),
        (["compress", "--classes", "0"], "--classes must be at least 1"),
        (["compress", "--model", "renset"], "unknown model 'renset'; did you mean 'resnet56'"),
        (["compress", "--model", "no_such.module:build"], "cannot import 'no_such.module'"),
        (["compress", "--agent", "dppg"], "did you mean 'ddpg'"),
        (["compress", "--agent", "random:warmup=3"], "has no option 'warmup'"),
        (["compress", "--agent", "ddpg:sigma=abc"], "ddpg: sigma must be a number, not 'abc'"),
        (["compress", "--agent", "ddpg:hidden=300"], "ddpg: hidden must be a list such as [a, b], not 300"),
        (["compress", "--agent", "ddpg:warm_start=uniform"], "ddpg: warm_start must be a list"),
        (["compress", "--agent", "ddpg:warm_start=[greedy]"], "warm_start takes heuristics"),
        (["compress", "--agent", "cem:population=8.5"], "population must be a whole number"),
        (["compress", "--budget.flops", ""], "--budget.flops must be a number such as 0.5, not an empty text; leave"),
        (["compress", "--episodes", ""], "--episodes must be a whole number such as 10, not an empty text"),
        (["compress", "--budget.flops", "50%"], "--budget.flops must be a number such as 0.5, not 50%; write 0.5"),
        (["compress", "--first_images", "x"], "--first_images must be a whole number such as 10, not x"),
        (["compress", "--train_first", "3"], "--train_first must be true or false, not 3"),
        (["compress", "--data.mean", "abc"], "--data.mean must be a list of numbers such as [0.5, 0.25], not abc"),
        (["compress", "--agent", "ddpg:sigma"], "the options of an agent must read KEY=VALUE, not 'sigma'"),
        (["compress", "--seed", "-1"], "a seed must be from 0 to 4294967295, not -1"),
        (["compress", "--seed", "99999999999999999999"], "a seed must be from 0"),
        (["compress", "--budget.flops", ".inf"], "budget.flops must be a finite number, not inf"),
        (["compress", "--reward", "acuracy"], "did you mean 'accuracy'"),
        (["compress", "--compare", "unifrom"], "did you mean 'uniform'"),
        (["compress", "--data.name", "digit"], "did you mean 'digits'"),
        (["compress", "--data.name", "imagefolder", "--data.root", "nowhere"], "nowhere"),
        (["compress", "--pruning.family", "filters"], "did you mean 'filter'"),
        (["compress", "--pruning.criterion", "l3"], "unknown criterion 'l3'"),
        (["compress", "--pruning.exclude", "layer9.*"], "layer9"),
        (["compress", "--pruning.exclude", "*"], "prune"),
        (["compress", "--pruning.bounds", "layer1.*"], "pruning.bounds must be PATTERN=MIN:MAX"),
        (
            ["compress", "--pruning.bounds", "layer1.*=0.6:0.5"],
            "smallest <= largest <= 1, not 0.6 and 0.5 for 'layer1.*'",
        ),
        (["compress", "--pruning.bounds", "layer9.*=0:0.5"], "layer9"),
        (
            ["compress", "--pruning.bounds", "linear=0:0.5"],
            "bounds of 'linear' reach nothing that is pruned (the network's",
        ),
        (
            ["compress", "--pruning.recalibration_images", "-1"],
            "recalibration_images must be at least 2, or 0 for none, not -1",
        ),
        (["compress", "--budget.flops", "0.001"], "smallest feasible budget is flops=0."),
        (["compress", "--budget.params", "0.001", "--budget.flops", "0.5"], "smallest feasible budget is params=0."),
        (["compress", "--budget.flops", "-1"], "a budget is a share"),
        (["compress", "--finetune.learning_rate", "0"], "learning_rate must be positive"),
        (["compress", "--finetune.dtype", "int8"], "dtype must be auto, float32 or bfloat16, not 'int8'"),
        (["compress", "--train.momentum", "1"], "momentum must be in [0, 1), not 1.0"),
        (["compress", "--train.distillation", "0.5"], "unknown option '--train.distillation'"),
        (["compress", "--finetune.keep", "first"], "'last', 'best'"),
        (["compress", "--weights", "missing.pt"], "no file at missing.pt"),
        (["compress", "--config", "missing.yaml"], "missing.yaml"),
        (["compress", "--device", "tpu"], "device must be"),
        (["compress", "--device", "meta"], "device must be auto, cpu or cuda, not 'meta'"),
        (["compress", "--resume"], "--resume needs the run's folder"),
        (["compress", "--resume", "--out", "nothing"], "must hold a run"),
        (["compress", "--allocation_mode", "clap"], "allocation_mode"),
        (["compress", "extra"], "unrecognized arguments: extra; options read --NAME VALUE, and 'amc compress --help'"),
        (["compress", "--agent"], "--agent needs a value: --agent "),
        (["study", "--agents"], "--agents needs a value: --agents "),
        (["report", "--figures"], "--figures needs a value: --figures DIR; 'amc report --help' explains it"),
        (["export"], "amc export needs RUN, which is missing; 'amc export --help' has examples"),
        (["train"], "amc train needs --out DIR, which is missing"),
        (
            ["compress", "--pruning.min_keep_ratio", "2"],
            "min_keep_ratio and max_keep_ratio must satisfy 0 <= min <= max",
        ),
        (["compress", "--pruning.max_keep_ratio", "0"], "and max > 0, not 0 and 0; for example 0.1 and 1"),
        (["prune"], "--policy"),
        (["prune", ".", "--policy", "policy.json"], "one policy"),
        (["prune", "--policy", "missing.json"], "missing.json"),
        (["finetune"], "needs the folder"),
        (["evaluate", "nothing"], "nothing must be a finished run's folder"),
        (["bench", "--curve", "resnet20", "--rounds", "0"], "rounds and reference_rows must be at least 1"),
        (["study", "--out", "study", "--budgets", "0.5", "--finetuned", "0.4"], "must be among --budgets [0.5]"),
        (["study", "--out", "study", "--agents", "random", "--seeds", "-1"], "a seed must be from 0"),
        (["bench", "--curve", "resnet20,resnte56"], "did you mean 'resnet56'"),
        (["bench", "--curve", ","], "--curve must name networks, comma-separated"),
        (["bench", "--curve", "resnet20", "--data.search_images", "0"], "search_images must be at least 1, not 0"),
        (["search", "--agent", "cem:name=1"], "agent 'cem' has no option 'name'"),
        (["export", "run", "--seconds", "-1"], "--seconds must be at least 0, not -1"),
        (["study", "--agents", "random"], "a study needs a folder: give --out DIR"),
        (
            ["study", "--out", "study", "--agents", "random", "--train.epochs", "-1"],
            "epochs must be at least 0, not -1",
        ),
        (["study", "--out", "study", "--seeds", "a"], "--seeds element 1 must be a whole number such as 10, not a"),
        (["zoo", "--models", "resnet20,resnte21"], "unknown model 'resnte21'; did you mean"),
        (["zoo", "--table_only"], "--results FILE"),
        (["inspect", "--shape", "3,x,3"], "--shape must be three positive numbers"),
        (["inspect", "--model", "torchvision.models:resnet18"], "the network fails on (1, 8, 8)"),
        (["search", "--agent", "dppg", "--help"], "did you mean 'ddpg'"),
        (["finetune", "run", "--dtype", "float32"], "did you mean '--finetune.dtype'"),
    ],
)
def test_bad_input_is_one_line(words, expected, here, error_of):
    if words[0] == "compress":
        words = [words[0], *SMALL, *words[1:]]
    assert expected in error_of(words)
    assert not list(here.rglob("config.yaml")), "no half-written run folder"


def test_unknown_option_in_a_file(here, error_of):
    (here / "run.yaml").write_text("data:\n  nam: digits\n")
    assert "unknown option 'data.nam'; did you mean 'data.name'" in error_of(["compress", "--config", "run.yaml"])


def test_an_empty_file(here, error_of):
    (here / "run.yaml").write_text("# nothing yet\n")
    assert "must hold options by name ('episodes: 300'), and is empty" in error_of(["compress", "--config", "run.yaml"])


@pytest.mark.parametrize("command", ["evaluate", "finetune", "export"])
def test_the_folder_of_a_search_tells_how_to_go_on(here, error_of, command):
    (here / "searched").mkdir()
    (here / "searched" / "policy.json").write_text("{}")
    assert "amc prune searched" in error_of([command, "searched"])


def test_what_cannot_be_written_is_told_before_anything_is_measured(here, error_of, monkeypatch):
    (here / "taken").write_text("a file")
    monkeypatch.setattr("amc.cli.bench._speed", lambda *arguments: pytest.fail("measured first"))
    assert "--json must name a file that can be written" in error_of(["bench", "--json", "taken/bench.json"])


def test_a_bench_that_fails_leaves_the_figures_of_an_earlier_one(here, error_of, monkeypatch):
    def fail(*arguments):
        raise ModelError("out of luck")

    monkeypatch.setattr("amc.cli.bench._speed", fail)
    (here / "bench.json").write_text('{"curve": []}')
    assert "out of luck" in error_of(["bench", "--json", "bench.json"])
    assert [file.name for file in here.iterdir()] == ["bench.json"]
    assert (here / "bench.json").read_text() == '{"curve": []}'


@pytest.mark.parametrize("content", ["weights", "[1]", '{"networks": []}'])
def test_a_bench_replaces_no_file_of_another_kind(here, error_of, monkeypatch, content):
    monkeypatch.setattr("amc.cli.bench._speed", lambda *arguments: pytest.fail("measured first"))
    (here / "mine").write_text(content)
    assert "--json replaces nothing but figures of a bench, and mine is none" in error_of(["bench", "--json", "mine"])
    assert (here / "mine").read_text() == content


def test_wrong_type_in_a_file(here, error_of):
    (here / "run.yaml").write_text("episodes: many\n")
    assert "episodes must be a whole number, not 'many'" in error_of(["compress", "--config", "run.yaml"])


def test_taken_folder_names_the_remedies(here, error_of):
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text("seed: 1\n")
    line = error_of(["compress", "--out", "run"])
    assert "--resume" in line
    assert "--out" in line
    assert (here / "run" / "config.yaml").read_text() == "seed: 1\n"


def test_folder_with_other_files_is_refused(here, error_of):
    (here / "notes.txt").write_text("mine")
    assert "must be new or empty" in error_of(["compress", "--out", str(here)])


def test_checkpoint_of_another_network(here, error_of):
    torch.save(create_model("resnet20").state_dict(), "other.pt")
    line = error_of(["compress", *SMALL, "--weights", "other.pt"])
    assert "does not fit" in line
    assert "conv1.weight" in line


def test_nan_weights(here, error_of):
    state = create_model("digits_resnet").state_dict()
    state["conv1.weight"][0] = float("nan")
    torch.save(state, "nan.pt")
    assert "'conv1.weight' holds NaN" in error_of(["compress", *SMALL, "--weights", "nan.pt"])


class Payload:
    def __reduce__(self):
        return (open, ("owned.txt", "w"))


def test_pickles_are_refused_unread(here, error_of):
    with open("model.pkl", "wb") as file:
        pickle.dump(Payload(), file)
    assert "model.pkl" in error_of(["compress", *SMALL, "--weights", "model.pkl"])
    assert not (here / "owned.txt").exists()


def test_failure_in_training_leaves_no_folder(here, error_of):
    words = ["compress", *SMALL, "--train.epochs", "1", "--train.learning_rate", "1e30", "--out", "run"]
    assert "diverged" in error_of(words)
    assert not (here / "run").exists()


def test_failure_after_training_keeps_the_trained_network(here, error_of, monkeypatch):
    def fail(*arguments, **options):
        raise ModelError("out of luck")

    monkeypatch.setattr("amc.pipeline.job.search_policy", fail)
    words = ["compress", *SMALL, "--train.epochs", "1", "--untrained", "true", "--out", "run"]
    assert "out of luck" in error_of(words)
    assert (here / "run" / "dense.safetensors").is_file()


@pytest.mark.parametrize("option", [["--model", "resnet20"], ["--weights=w.pt"]])
def test_evaluate_takes_a_run_or_a_network(here, option, error_of):
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text("seed: 1\n")
    line = error_of(["evaluate", "run", *option])
    assert f"measures the network in run or that of {option[0].partition('=')[0]}; leave one out" in line


def test_the_value_of_an_option_is_not_the_run(here):
    for name in ("run", "out"):
        (here / name).mkdir()
        (here / name / "config.yaml").write_text("seed: 1\n")
    assert find_run(["--out", "out", "run"]) == Path("run")
    assert find_run(["--out=out", "--resume", "run"]) == Path("run")
    assert find_run(["--out", "out"]) is None


@pytest.mark.parametrize("name", ["prune", "finetune", "evaluate", "pack"])
def test_a_run_is_found_behind_a_switch(name, here):
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text("seed: 1\n")
    switches = [
        action.option_strings[-1] for action in make_parser(name, COMMANDS.get(name))._actions if action.nargs == 0
    ]
    assert "--trust" in switches
    for switch in switches:
        assert find_run([switch, "run"]) == Path("run"), switch


def test_print_config_is_a_config(here, capsys):
    assert main(["compress", "--seed", "7", "--budget.params", "0.3", "--print_config"]) == 0
    (here / "printed.yaml").write_text(capsys.readouterr().out)
    assert main(["compress", "--config", "printed.yaml", "--episodes", "5", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "seed: 7" in printed
    assert "params: 0.3" in printed
    assert "episodes: 5" in printed


@pytest.mark.parametrize("number", ["1e-3", "1E-3", ".1e-2", "+1.e-3", "0.001"])
def test_numbers_with_exponents_work_in_a_file(here, capsys, number):
    (here / "run.yaml").write_text(f"finetune:\n  learning_rate: {number}\n")
    assert main(["compress", "--config", "run.yaml", "--print_config"]) == 0
    assert "learning_rate: 0.001" in capsys.readouterr().out


def test_text_that_is_no_number_is_still_refused_in_a_file(here, error_of):
    (here / "run.yaml").write_text("finetune:\n  learning_rate: 1e-3x\n")
    assert "finetune.learning_rate must be a number or unset, not '1e-3x'" in error_of(
        ["compress", "--config", "run.yaml"]
    )


def test_a_folder_in_place_of_a_file_of_weights_is_told_with_what_to_name(here, capsys):
    (here / "empty").mkdir()
    (here / "run").mkdir()
    assert error_of(["compress", "--weights", "empty"], capsys).endswith("no file at empty, but a folder")
    (here / "run" / "model.safetensors").write_bytes(b"")
    assert "the folder of a network; --model run prunes it further" in error_of(["search", "--weights", "run"], capsys)
    (here / "run" / "dense.safetensors").write_bytes(b"")
    found = error_of(["search", "--weights", "run"], capsys)
    assert found.endswith(f"its dense network's weights are {Path('run', 'dense.safetensors')}")


def test_data_that_is_not_there_is_told_without_the_words_of_another_library(here, capsys):
    found = error_of(["compress", "--data.name", "cifar10", "--data.root", "photos"], capsys)
    assert "download=" not in found
    assert found.endswith("set data.root, or data.download to fetch it")


def test_settings_that_train_nothing_are_told(here, capsys, monkeypatch):
    (here / "own_net_for_settings.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    monkeypatch.syspath_prepend(str(here))
    words = ["search", "--model", "own_net_for_settings:net", "--agent", "uniform", "--untrained", "true", *SMALL[:4]]
    assert main([*words, "--out", "plain"]) == 0
    assert "trains nothing" not in capsys.readouterr().err
    assert main([*words, "--out", "set", "--train.epochs", "3"]) == 0
    assert "own_net_for_settings:net is taken as trained: --train.* trains nothing unless" in capsys.readouterr().err
