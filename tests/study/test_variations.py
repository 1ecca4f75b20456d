"""Methods side by side: one file of variations, a study for each and every seed, one table."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from amc.cli.main import main
from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.config import RunConfig
from amc.study.methods_table import methods_table, records_by_method, study_files
from amc.study.tables import mean_with_interval
from amc.study.variations import variations_of
from amc.utils.json_lines import line_of

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--train.epochs", "1", "--finetune.epochs", "1", "--device", "cpu", "--budgets", "0.5",
]  # fmt: skip


def study_of(folder, record=(), pruning=(), **options):
    folder.mkdir(parents=True)
    rules = {"pruning": {"family": "filter", "criterion": "l1", "recovery": "none", **dict(pruning)}, **options}
    (folder / "config.yaml").write_text(yaml.safe_dump(rules))
    cell = {
        "agent": "uniform", "budget": 0.5, "episodes": 1, "seed": 0, "metric": "flops", "reward": 0.5, "pruned": 50.0,
        "finetuned": 80.0, "prune_seconds": 3.0, "allocation": {"kind": "filter", "widths": {"a": 3}},
    }  # fmt: skip
    (folder / "study.jsonl").write_text(line_of({**cell, **dict(record)}))
    return folder / "study.jsonl"


def test_a_row_a_method_with_its_own_recovery_beside_the_refit(tmp_path):
    files = [
        study_of(tmp_path / "l1-seed0", {"pruned": 20.0}),
        study_of(tmp_path / "l1-seed1", {"pruned": 30.0, "finetuned": 84.0}),
        study_of(tmp_path / "l1-refit-seed0", {"pruned": 70.0, "finetuned": 88.0}, {"recovery": "sequential"}),
        study_of(tmp_path / "lamp", {"agent": "lamp"}, {"criterion": "auto", "family": "weight"}),
        study_of(tmp_path / "slim", pruning={"criterion": "taylor"}, train={"penalties": ["slimming:strength=0.1"]}),
        study_of(tmp_path / "plain", pruning={"criterion": "auto"}, schedule="one_shot"),
        study_of(tmp_path / "merged", pruning={"recovery": "merging"}),
        study_of(tmp_path / "once", pruning={"recovery": "once"}),
        study_of(tmp_path / "lasso", pruning={"criterion": "lasso", "recovery": "once"}),
        study_of(tmp_path / "frozen", finetune={"freeze": "convolutions", "dropout": "same"}),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in methods_table(files).splitlines()]
    rows = {line[0]: line[1:] for line in lines[2:]}
    assert list(rows) == [
        "`l1`", "`lamp`", "`taylor` + `slimming:strength=0.1`", "`elimination`", "`l1` + `merging`", "`l1` + `once`",
        "`lasso`", "`l1` + `freeze=convolutions`",
    ]  # fmt: skip
    assert "1506.02626" in rows["`l1` + `freeze=convolutions`"][0]
    paper = "[1608.08710](https://arxiv.org/abs/1608.08710)"
    own = [mean_with_interval([20.0, 30.0], 2), mean_with_interval([80.0, 84.0], 2)]
    assert rows["`l1`"] == [paper, "weights", "50% flops", "2", "3", *own, "70.00", "88.00"]
    assert "2010.07611" in rows["`lamp`"][0]
    assert rows["`taylor` + `slimming:strength=0.1`"][1] == "gradients, training"
    assert rows["`elimination`"][5:] == ["50.00", "80.00", "-", "-"]


@pytest.mark.usefixtures("drawn")
def test_accuracy_over_budgets_is_drawn_with_the_names_of_the_folders(tmp_path, capsys):
    for name in ("ticket", "control"):
        for seed in (0, 1):
            place = tmp_path / f"{name}-seed{seed}"
            figures = [{"budget": budget, "finetuned": 80.0 + seed} for budget in (0.5, 0.1)]
            cells = [study_of(tmp_path / f"{name}{seed}{figure['budget']}", figure).read_text() for figure in figures]
            study_of(place).write_text("".join(cells))
    folders = [str(place) for place in sorted(tmp_path.glob("*-seed*"))]
    assert {record["agent"] for record in records_by_method(study_files(map(Path, folders)))} == {"ticket", "control"}
    assert main(["study", "--tabulate", *folders, "--plot", str(tmp_path / "plots")]) == 0
    assert "`l1`" in capsys.readouterr().out
    assert (tmp_path / "plots" / "trade-off-finetuned.png").read_bytes().startswith(b"\x89PNG")
    one = study_of(tmp_path / "one")
    assert main(["study", "--tabulate", str(one), "--plot", str(tmp_path / "plots")]) == 2
    assert "only one budget" in capsys.readouterr().err


def test_files_that_are_no_studies_are_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"must be a study\.jsonl, or a folder that holds some"):
        study_files([tmp_path])
    file = study_of(tmp_path / "study")
    (tmp_path / "study" / "config.yaml").unlink()
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        methods_table(study_files([tmp_path]))
    (tmp_path / "study" / "config.yaml").write_text("pruning: 3\n")
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        methods_table([file])
    file.write_text('{"agent": 3}\n')
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        methods_table([file])


def test_variations_differ_from_the_base_in_what_they_say():
    base = RunConfig(seed=3)
    record = {"a": {"pruning": {"criterion": "l1"}, "agent": "lamp"}, "b": {"finetune": {"epochs": 2}}}
    first, second = variations_of(base, record)
    assert (first.config.agent, first.config.pruning.criterion, first.config.seed) == ("lamp", "l1", 3)
    assert (second.config.agent, second.config.pruning, second.config.finetune.epochs) == ("uniform", base.pruning, 2)
    assert first.seeded(5).seed == 5
    assert first.folder(5) == "a-seed5"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": {"pruning": {"criterio": "l1"}}}, "the variation 'a': .*criterio.*did you mean"),
        ({"a": 3}, "the variation 'a' must hold options"),
        ({}, "must hold one at least"),
        ({"a b": {}, "a_b": {}}, "must differ in letters and digits"),
        ({"A": {}, "a": {}}, "must differ in letters and digits, not in case alone"),
    ],
)
def test_variations_that_cannot_be_are_named(record, message):
    with pytest.raises(ConfigurationError, match=message):
        variations_of(RunConfig(), record)


@pytest.mark.heavy
def test_one_command_plays_every_variation_with_every_seed_and_another_prints_the_table(tmp_path, capsys):
    file, out = tmp_path / "methods.yaml", tmp_path / "out"
    file.write_text("l1: {pruning: {criterion: l1, recovery: none}}\nerk: {agent: erk, pruning: {recovery: once}}\n")
    words = ["study", *QUICK, "--out", str(out), "--variations", str(file)]
    assert main([*words, "--seeds", "0", "1"]) == 0
    table = capsys.readouterr().out
    assert sorted(path.parent.name for path in out.rglob("study.jsonl")) == [
        "erk-seed0", "erk-seed1", "l1-seed0", "l1-seed1",
    ]  # fmt: skip
    assert all(len(path.read_text().splitlines()) == 1 for path in out.rglob("study.jsonl"))
    for seed in (0, 1):  # the same network is trained once
        nets = [(out / f"{name}-seed{seed}" / "dense.safetensors").read_bytes() for name in ("l1", "erk")]
        assert nets[0] == nets[1]
    assert (out / "methods.md").read_text() == table
    assert main(["study", "--tabulate", str(out)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(table.splitlines())


def test_nothing_is_written_through_a_link_in_the_place_of_a_variation(tmp_path, capsys):
    (tmp_path / "methods.yaml").write_text("first: {}\nsecond: {}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()  # a study was begun there
    (tmp_path / "out" / "second-seed0").symlink_to(tmp_path / "mine")
    words = ["study", *QUICK, "--out", str(tmp_path / "out"), "--variations", str(tmp_path / "methods.yaml")]
    assert main([*words, "--seeds", "0"]) == 2
    assert "second-seed0 must lie in the folder itself, and is a link" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_a_file_of_variations_that_names_code_needs_consent(tmp_path, capsys):
    (tmp_path / "methods.yaml").write_text("mine: {agent: 'os:system'}\n")
    assert main(["study", "--out", str(tmp_path / "out"), "--variations", str(tmp_path / "methods.yaml")]) == 2
    assert "names code, 'os:system'" in capsys.readouterr().err


def test_a_study_without_a_folder_is_one_line(capsys):
    assert main(["study", "--agents", "uniform"]) == 2
    assert "give --out DIR" in capsys.readouterr().err
