"""The whole command line on the digits, in a few seconds."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml

import amc
from amc.cli.main import main
from amc.costs.counting import count_flops
from amc.data import DataConfig, load_data
from amc.tracing import skipping
from amc.utils.json_lines import line_of, read_lines

QUICK = [
    "--data.train_images", "400", "--data.test_images", "100", "--data.calibration_images", "64",
    "--train.epochs", "2", "--finetune.epochs", "1", "--agent", "random", "--device", "cpu",
]  # fmt: skip
SMALL = ["--model", "digits_lenet"]  # runs in a third of the time of the other, which one run below takes


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["compress", *QUICK, *SMALL, "--episodes", "4", "--out", str(folder)]) == 0
    return folder


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_summary_has_all_figures(run_folder):
    figures = summary(run_folder)
    assert figures["model"] == "digits_lenet"
    assert figures["agent"] == "random"
    assert figures["seed"] == 0
    flops, params = figures["costs"]["flops"], figures["costs"]["params"]
    assert flops["pruned"] <= figures["budget"]["flops"] == flops["dense"] // 2
    assert 0 < params["pruned"] < params["dense"]
    assert set(figures["accuracy"]) == {"dense", "pruned", "finetuned"}
    assert figures["search"]["episodes"] == 4
    sizes = {role: figures["data"][role] for role in ("train", "calibration", "search", "test")}
    assert sizes == {"train": 320, "calibration": 64, "search": 80, "test": 100}
    assert figures["data"]["name"] == "digits"
    assert set(figures["baselines"]) == {"uniform", "erk"}
    for baseline in figures["baselines"].values():
        assert 0 <= baseline["pruned"] <= 100
        assert 0 <= baseline["finetuned"] <= 100
        assert baseline["costs"]["flops"] <= figures["budget"]["flops"]
    assert figures["not_counted"] == {}
    assert figures["versions"]["amc"] == amc.__version__


def test_run_folder_is_complete(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert names >= {
        "config.yaml", "policy.json", "episodes.jsonl", "model.safetensors", "architecture.json", "summary.json",
        "summary.txt", "report.html", "tensorboard",
    }  # fmt: skip
    assert not [name for name in names if name.endswith(".part")]
    assert list((run_folder / "tensorboard").iterdir())
    lines = (run_folder / "episodes.jsonl").read_text().splitlines()
    rewards = [json.loads(line)["reward"] for line in lines]
    assert len(rewards) == 4
    assert max(rewards) == summary(run_folder)["search"]["best_reward"]
    assert yaml.safe_load((run_folder / "config.yaml").read_text())["data"]["train_images"] == 400


def test_policy_is_the_best_episode(run_folder):
    policy = json.loads((run_folder / "policy.json").read_text())
    lines = [json.loads(line) for line in (run_folder / "episodes.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["reward"])
    assert policy["widths"] == best["widths"]
    assert policy["costs"] == best["costs"]
    assert all(0 <= ratio < 1 for ratio in policy["pruning_ratios"].values())


def test_loaded_network_is_smaller_and_as_accurate(run_folder):
    model = amc.load(run_folder)
    figures = summary(run_folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == figures["costs"]["params"]["pruned"]
    data = load_data(DataConfig(train_images=400, test_images=100))
    with torch.inference_mode():
        hits = model(data.test.inputs()).argmax(1) == data.test.targets
    assert 100 * float(hits.float().mean()) == pytest.approx(figures["accuracy"]["finetuned"], abs=1e-3)


def test_killed_run_resumes_to_the_same_policy(run_folder, tmp_path):
    folder = tmp_path / "killed"
    copy_started_run(run_folder, folder, episodes=2)
    # A kill in the middle of a line leaves half of it.
    with (folder / "episodes.jsonl").open("a") as file:
        file.write('{"episode": 2, "rew')
    assert main(["compress", "--resume", "--out", str(folder)]) == 0
    assert (folder / "policy.json").read_text() == (run_folder / "policy.json").read_text()
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    original = (run_folder / "episodes.jsonl").read_text().splitlines()
    assert lines[:2] == original[:2]
    assert [json.loads(line)["reward"] for line in lines] == [json.loads(line)["reward"] for line in original]
    assert summary(folder)["accuracy"] == summary(run_folder)["accuracy"]


def test_resuming_answers_recorded_episodes_without_the_network(run_folder, tmp_path, monkeypatch):
    from amc.pipeline.evaluators import FilterEvaluator

    folder = tmp_path / "killed"
    copy_started_run(run_folder, folder, episodes=4)
    scored = []
    score = FilterEvaluator.score
    monkeypatch.setattr(
        FilterEvaluator, "score", lambda self, allocation: scored.append(allocation) or score(self, allocation)
    )
    assert main(["compress", "--resume", "--out", str(folder)]) == 0
    assert len(scored) == 2  # one for each baseline


def test_a_record_that_does_not_fit_is_left_with_a_warning(run_folder, tmp_path):
    folder = tmp_path / "edited"
    copy_started_run(run_folder, folder, episodes=3)
    lines = read_lines(folder / "episodes.jsonl").records
    name = next(iter(lines[1]["widths"]))
    lines[1]["widths"][name] += 1
    (folder / "episodes.jsonl").write_text("".join(map(line_of, lines)))
    with pytest.warns(RuntimeWarning, match="episode 1 differs from the recorded one"):
        assert main(["compress", "--resume", "--out", str(folder)]) == 0
    assert (folder / "policy.json").read_text() == (run_folder / "policy.json").read_text()


def test_a_pruned_network_is_pruned_further(run_folder, tmp_path, capsys):
    further = tmp_path / "further"
    words = ["compress", "--model", str(run_folder), "--budget.flops", "0.5", "--episodes", "2", "--compare", "none"]
    assert main([*words, "--finetune.epochs", "0", "--out", str(further)]) == 0
    capsys.readouterr()
    assert main(["finetune", str(further), "--finetune.epochs", "1", "--out", str(tmp_path / "tuned")]) == 0
    assert "there is no distillation" not in capsys.readouterr().err, "the network that was pruned further teaches"
    once, twice = (summary(folder)["costs"]["flops"] for folder in (run_folder, further))
    assert twice["dense"] == once["pruned"]
    assert 2 * twice["pruned"] <= once["pruned"]
    loaded = amc.load(further)
    assert count_flops(loaded, torch.zeros(1, 1, 8, 8)) == twice["pruned"]
    record = json.loads((further / "architecture.json").read_text())
    assert record["source"]["reference"] == "digits_lenet"
    assert json.loads((further / "run.json").read_text())["files"]["network"].startswith(str(run_folder))
    assert main([*words, "--weights", "other.pt", "--out", str(tmp_path / "other")]) == 2
    assert "leave --weights and --classes out" in capsys.readouterr().err
    assert main(["inspect", "--model", str(run_folder)]) == 0
    assert f"of {once['pruned']:,}" in capsys.readouterr().out


def test_search_prune_finetune_evaluate(tmp_path, capsys):
    searched, pruned, tuned = (tmp_path / name for name in ("searched", "pruned", "tuned"))
    options = [option for option in QUICK if option not in ("--finetune.epochs", "1")]
    assert main(["search", *options, "--episodes", "2", "--out", str(searched)]) == 0
    assert main(["prune", str(searched), "--out", str(pruned)]) == 0
    assert main(["finetune", str(pruned), "--finetune.epochs", "1", "--out", str(tuned)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tuned)]) == 0
    printed = capsys.readouterr().out
    figures = summary(tuned)
    assert f"{figures['costs']['params']['pruned']:,}" in printed
    assert f"{figures['accuracy']['finetuned']:.2f}" in printed
    assert summary(pruned)["accuracy"]["pruned"] == figures["accuracy"]["pruned"]
    predicted = json.loads((searched / "policy.json").read_text())["costs"]
    assert {name: cost["pruned"] for name, cost in summary(pruned)["costs"].items()} == predicted
    assert [epoch["epoch"] for epoch in figures["curve"]] == [0, 1]
    for folder in (pruned, tuned):
        assert f"{summary(folder)['accuracy']['pruned']:.2f}" in (folder / "summary.txt").read_text()
        assert "<html" in (folder / "report.html").read_text()
    assert set(figures) == set(summary(pruned))  # one schema, whatever command wrote it
    assert figures["costs"] == summary(pruned)["costs"]


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory):
    """A run of weight pruning: by magnitude and without refit, whose tables are most of the time."""
    folder = tmp_path_factory.mktemp("sparse") / "run"
    weights = ["--pruning.family", "weight", "--pruning.criterion", "magnitude", "--pruning.recovery", "none"]
    words = [*weights, "--budget.params", "0.3", "--episodes", "2", "--compare", "none", "--out", str(folder)]
    assert main(["compress", *QUICK, *words]) == 0
    return folder


def test_weight_pruning_keeps_zeros_through_finetuning(sparse_folder):
    figures = summary(sparse_folder)
    model = amc.load(sparse_folder)
    nonzero = sum(int(parameter.count_nonzero()) for parameter in model.parameters())
    assert nonzero <= figures["budget"]["params"]
    assert nonzero > 0.95 * figures["budget"]["params"]


def test_zeros_of_weight_pruning_stay_and_cost_nothing_in_later_commands(sparse_folder, tmp_path, capsys):
    folder, later = tmp_path / "run", tmp_path / "later"
    shutil.copytree(sparse_folder, folder)
    assert main(["finetune", str(folder), "--finetune.epochs", "2", "--out", str(later)]) == 0
    zeros = [[parameter == 0 for parameter in amc.load(path).parameters()] for path in (folder, later)]
    assert all(torch.equal(before, after) for before, after in zip(*zeros, strict=True) if before.dim() > 1)
    before, after = summary(folder), summary(later)
    for metric, cost in before["costs"].items():
        assert after["costs"][metric] == cost
        assert cost["pruned"] < cost["dense"]
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"{before['costs']['flops']['pruned']:,}" in printed
    assert f"{before['costs']['params']['pruned']:,}" in printed
    (folder / "summary.json").write_text("{ damaged")
    assert main(["evaluate", str(folder)]) == 0
    assert f"{before['costs']['params']['pruned']:,}" in capsys.readouterr().out


def test_inspect_lists_groups_and_reasons(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["inspect", "--model", "digits_resnet"]) == 0
    printed = capsys.readouterr().out
    assert "layer1.0.conv1" in printed
    assert "no (a)" in printed
    assert "(a) residual stream" in printed
    assert ") the network's output" in printed


def test_inspect_takes_images_and_classes_of_data_that_is_named(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    command = ["inspect", "--model", "resnet20"]
    assert main([*command, "--data.name", "fake", "--data.image_size", "16"]) == 0
    small = capsys.readouterr().out
    assert main([*command, "--shape", "3,16,16"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == small.splitlines()[3:]


def test_inspect_says_what_it_leaves_out_of_a_large_network(capsys, monkeypatch):
    command = ["inspect", "--model", "digits_resnet"]
    assert main(command) == 0
    in_full = capsys.readouterr().out
    assert "not looked at" not in in_full
    monkeypatch.setattr(skipping, "WORTHWHILE", 1)
    assert main(command) == 0
    in_short = capsys.readouterr().out.splitlines()
    note = [line for line in in_short if line not in in_full.splitlines()]
    assert note[0].startswith("In so large a network two things were not checked")
    assert [line for line in in_short if line not in note] == in_full.splitlines()


def test_inspect_tells_what_is_not_counted_and_a_budget_out_of_reach(capsys, tmp_path, monkeypatch):
    (tmp_path / "recurrent_net.py").write_text(RECURRENT)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["inspect", "--model", "recurrent_net:build", "--shape", "3,8,8"]
    assert main([*command, "--budget.flops", "0.04"]) == 0
    printed = capsys.readouterr().out
    assert "not counted in FLOPs: fft_irfft2 (1 call), fft_rfft2 (1 call)" in printed
    assert "FLOPs by a rule of amc's own, as fvcore counts none: lstm (1 call)" in printed
    assert "smallest reachable: 9,280 FLOPs (33.6% of the dense network)" in printed
    reach = "cannot be reached: the smallest reachable is 9,280 (flops=0.3357)"
    assert f"budget: flops of at most 1,105 of 27,648 {reach}" in printed
    assert main([*command, "--budget.flops", "0.5"]) == 0
    assert "cannot be reached" not in capsys.readouterr().out
    assert main([*command, "--budget.flops", "99999"]) == 2
    assert "above the dense network's 27,648" in capsys.readouterr().err


RECURRENT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 11, 1)
        self.recurrent = nn.LSTM(11, 5, batch_first=True)

    def forward(self, x):
        x = self.wide(self.stem(torch.fft.irfft2(torch.fft.rfft2(x))))
        return self.recurrent(x.flatten(2).transpose(1, 2))[0][:, -1]

build = Net
"""


def copy_started_run(source, target, *, episodes):
    """Leaves in `target` what a run that was killed after so many episodes leaves."""
    (target / "checkpoints").mkdir(parents=True)
    (target / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
    (target / "checkpoints" / "dense.pt").write_bytes((source / "checkpoints" / "dense.pt").read_bytes())
    lines = (source / "episodes.jsonl").read_text().splitlines()[:episodes]
    (target / "episodes.jsonl").write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize(
    ("pruned", "words"), [(90, "The smaller network: "), (100, "Nothing was removed; the network: ")]
)
def test_a_run_that_removed_nothing_says_so(pruned, words, tmp_path, monkeypatch, capsys):
    done = SimpleNamespace(summary={"costs": {"flops": {"dense": 100, "pruned": pruned}}})
    monkeypatch.setattr("amc.pipeline.job.Job.carry_out", lambda *arguments: done)
    monkeypatch.setattr("amc.report.files.write_report", lambda path, result: "the table")
    assert main(["compress", *QUICK, "--out", str(tmp_path / "run")]) == 0
    assert f"the table\n{words}" in capsys.readouterr().out
