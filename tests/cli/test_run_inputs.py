"""What a run starts from: its options, its policy and its weights, which stay what they were."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import amc
from amc.cli.main import main
from amc.data import DataConfig
from amc.models import create_model
from amc.pipeline.config import RunConfig
from amc.report.origin import Origin
from amc.report.run_folder import RunFolder
from amc.training.checkpoint import save_checkpoint


def interrupt_training(monkeypatch):
    """Presses Ctrl-C when the first epoch is on disk; returns what undoes that."""

    def save(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("amc.training.trainer.save_checkpoint", save)


def test_finetune_takes_the_epochs_of_the_search_that_its_network_was_pruned_from(searched, tmp_path, error_of):
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
    line = error_of(["finetune", str(folder), "--finetune.epochs", "0", "--out", str(tmp_path / "none")])
    assert "at least one epoch" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed", "5", "--budget.flops", "0.3"], "--seed must stay 0 until the run in {} is done, not 5"),
        (["--budget.flops", "0.3"], "--budget.flops must stay unset until the run in {} is done, not 0.3"),
        (["--agent", "random:foo=3"], "--agent must stay random until the run in {} is done, not random:foo=3"),
        (["--config", "other.yaml"], "--seed must stay 0 until the run in {} is done, not 7"),
    ],
)
def test_other_options_are_refused(searched, words, expected, tmp_path, monkeypatch, error_of):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("seed: 7\n")
    line = error_of(["search", "--out", str(searched), "--resume", *words])
    assert expected.format(searched) in line
    assert "leave it out, or start again with another --out" in line


def test_the_same_options_and_another_device_go_on(searched, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(searched, folder)
    assert main(["search", "--out", str(folder), "--resume", "--episodes", "2", "--device", "cpu"]) == 0
    assert (folder / "policy.json").read_text() == (searched / "policy.json").read_text()


def test_finetune_refuses_another_network_on_the_way(
    pruned, searched, tmp_path, monkeypatch, error_of, interrupt_training
):
    out = str(tmp_path / "tuned")
    with monkeypatch.context() as patch:
        interrupt_training(patch)
        assert main(["finetune", str(pruned), "--finetune.epochs", "2", "--out", out]) == 130
    assert f"was started with the network {pruned}" in error_of(["finetune", str(searched), "--out", out, "--resume"])
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
def test_widths_that_are_no_whole_numbers_are_refused(searched, tmp_path, width, shown, error_of):
    policy = edited_policy(searched, tmp_path / "edited", fc1=width)
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")])
    assert f"policy.json is not a policy: the width of fc1 must be a whole number, not {shown}" in line


def test_a_policy_above_the_budget_of_its_run_is_refused(searched, tmp_path, error_of):
    policy = edited_policy(searched, tmp_path / "wide", ratios=False, fc1=300, fc2=100)
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")])
    assert "which is above the budget of 25,100 (50.0%); keep less, or scale it to the budget with" in line
    assert not (tmp_path / "pruned" / "model.safetensors").exists()


def test_a_policy_that_contradicts_itself_is_refused(searched, tmp_path, error_of):
    policy = edited_policy(searched, tmp_path / "edited", fc1=1)
    line = error_of(["prune", "--policy", policy, "--out", str(tmp_path / "pruned")])
    assert "fc1" in line


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("costs", r"its widths cost [\d,]+ flops, and costs says 1; correct costs, or delete it"),
        ("pruning_ratios", "leaves it out"),
    ],
)
def test_an_edit_beside_the_widths_is_refused_before_anything_is_pruned(searched, tmp_path, place, expected, error_of):
    policy = json.loads((searched / "policy.json").read_text())
    edited = edited_policy(searched, tmp_path / "edited")
    if place == "costs":
        policy["costs"]["flops"] = 1
    else:
        del policy["pruning_ratios"]["fc2"]
    Path(edited).write_text(json.dumps(policy))
    assert re.search(expected, error_of(["prune", "--policy", edited, "--out", str(tmp_path / "pruned")]))
    assert not (tmp_path / "pruned" / "model.safetensors").exists()


@pytest.fixture
def begun(quick, tmp_path, monkeypatch):
    """A search that was started in `tmp_path` with files named from there, and where the shell is now."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    torch.save(create_model("digits_lenet", seed=1).state_dict(), "weights.pt")
    words = ["search", *quick, "--agent", "random", "--episodes", "1", "--weights", "weights.pt", "--out", "s1"]
    assert main(words) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_a_run_goes_on_from_another_folder(begun):
    assert main(["search", "--out", "../s1", "--resume"]) == 0
    assert main(["prune", "--policy", "../s1/policy.json", "--out", "../p1"]) == 0
    assert main(["finetune", "../p1", "--finetune.epochs", "1", "--out", "../f1"]) == 0


def test_replaced_weights_are_not_mixed_in(begun, error_of):
    torch.save(create_model("digits_lenet", seed=2).state_dict(), "../weights.pt")
    line = error_of(["search", "--out", "../s1", "--resume"])
    assert "the weights must be what the run was started with" in line
    assert "put the old file back, or start again" in line
    (begun / "weights.pt").unlink()
    assert "the weights that the run was started with must be readable" in error_of(
        ["search", "--out", "../s1", "--resume"]
    )


@pytest.mark.parametrize("command", ["prune", "finetune", "evaluate", "export"])
def test_every_command_that_reads_a_run_notices_replaced_weights(begun, command, error_of):
    folder = "../s1"
    if command != "prune":
        assert main(["prune", "../s1", "--out", "../p1"]) == 0
        folder = "../p1"
    old = (begun / "weights.pt").read_bytes()
    torch.save(create_model("digits_lenet", seed=2).state_dict(), "../weights.pt")
    line = error_of([command, folder])
    assert "the weights must be what the run was started with" in line
    (begun / "weights.pt").write_bytes(old)
    if command == "prune":
        assert main([command, folder, "--out", "../p2"]) == 0


def with_other_weights(run, folder, name):
    """Copies a run, and puts a valid file with other values in the place of one that the run wrote."""
    shutil.copytree(run, folder)
    save_file({key: value + 1 for key, value in load_file(run / name).items()}, folder / name)
    return folder


READERS = {
    "evaluate": ["evaluate"], "export": ["export"], "pack": ["pack"], "finetune": ["finetune"], "report": ["report"],
    "compress": ["compress", "--model"], "search": ["search", "--model"], "inspect": ["inspect", "--model"],
}  # fmt: skip


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_every_command_that_reads_a_run_notices_another_network_in_its_place(pruned, words, tmp_path, error_of):
    folder = with_other_weights(pruned, tmp_path / "run", "model.safetensors")
    before = {file.name for file in folder.iterdir()}
    line = error_of([*words, str(folder)])
    assert f"{folder / 'model.safetensors'} must be what the run wrote, but has changed since" in line
    assert "put the old file back, or continue the run to write it again" in line
    assert {file.name for file in folder.iterdir()} == before


def test_prune_notices_another_dense_network_in_the_place_of_the_one_that_the_search_trained(
    searched, tmp_path, error_of
):
    folder = with_other_weights(searched, tmp_path / "run", "dense.safetensors")
    line = error_of(["prune", str(folder), "--out", str(tmp_path / "pruned")])
    assert "dense.safetensors must be what the run wrote, but has changed since" in line


def test_the_report_on_a_finished_search_names_its_page(searched, error_of):
    line = error_of(["report", str(searched)])
    assert f"{searched} holds a search, which delivers no network; its page is {searched / 'report.html'}" in line
    assert (searched / "report.html").is_file()


def test_a_network_is_read_where_no_run_has_recorded_it(pruned, tmp_path):
    folder = with_other_weights(pruned, tmp_path / "run", "model.safetensors")
    old, new = (amc.load(path).state_dict() for path in (pruned, folder))  # in Python it may be saved over
    assert any(not old[name].equal(value) for name, value in new.items())
    record = json.loads((folder / "run.json").read_text())
    assert set(record.pop("written")) == {"model.safetensors"}
    (folder / "run.json").write_text(json.dumps(record))  # as earlier versions wrote it
    assert main(["report", str(folder)]) == 0
    (folder / "run.json").unlink()  # as CompressionResult.save leaves a folder
    assert main(["evaluate", str(folder), "--device", "cpu"]) == 0


def test_weights_that_are_named_are_taken(begun):
    torch.save(create_model("digits_lenet", seed=2).state_dict(), "../weights.pt")
    torch.save(create_model("digits_lenet", seed=2).state_dict(), "../other.pt")
    assert main(["prune", "../s1", "--weights", "../other.pt", "--out", "../p1"]) == 0


def test_the_folder_of_the_data_is_stored_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = RunConfig(weights="~/w.pt", data=DataConfig("imagefolder", root="images"))
    stored = RunFolder.create(tmp_path / "run", config, Origin("compress")).config
    assert stored.weights == str(tmp_path / "home" / "w.pt")
    assert stored.data.root == str(tmp_path / "images")


def test_a_network_in_the_current_folder_is_fine_tuned(pruned, tmp_path, monkeypatch):
    shutil.copytree(pruned, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert main(["finetune", ".", "--finetune.epochs", "1"]) == 0
    assert (tmp_path / "here-finetuned" / "model.safetensors").is_file()


def test_a_torn_configuration_is_refused(searched, tmp_path, error_of):
    folder = tmp_path / "torn"
    shutil.copytree(searched, folder)
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(lines[: len(lines) // 2]))
    line = error_of(["search", "--out", str(folder), "--resume"])
    assert "config.yaml must be as the run was started with, but is damaged or was edited" in line


def test_evaluate_says_what_helps_a_network_that_is_no_better_than_chance(pruned, monkeypatch, capsys):
    monkeypatch.setattr("amc.training.is_chance", lambda *_: True)
    assert main(["evaluate", str(pruned), "--device", "cpu"]) == 0
    shown = "".join(capsys.readouterr().err.split())
    assert f"nobetterthanchance:trainitonwithamcfinetune{pruned}" in shown
