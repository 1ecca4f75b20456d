"""Several networks in one study: a folder each, one table, one page, and the same resumption."""

import csv
import io
from pathlib import Path

import pytest
import torch
import yaml

from amc.cli.main import main
from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.by_class import top5_accuracy
from amc.pipeline.config import RunConfig
from amc.study.problems import StudyPlan, problem_folders, problems_of
from amc.study.problems_page import leads, page_of_problems
from amc.utils.intervals import mean_with_interval
from amc.utils.json_lines import read_lines

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--train.epochs", "1", "--finetune.epochs", "1", "--device", "cpu", "--seeds", "0", "--counts", "2",
    "--pruning.recovery", "none",  # quicker than the default
]  # fmt: skip
PROBLEMS = {
    "small net": {"model": "digits_lenet", "study": {"budgets": [0.5], "finetuned": [0.5], "latency": True}},
    "its weights": {
        "config": "digits",
        "model": "digits_lenet",
        "pruning": {"family": "weight"},
        "data": {"train_images": 150},
        "study": {"budgets": [0.3, 0.2], "metric": "params", "agents": ["uniform"]},
    },
}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems")
    (folder / "problems.yaml").write_text(yaml.safe_dump(PROBLEMS, sort_keys=False))
    return [
        "study", *QUICK, "--out", str(folder / "out"), "--problems", str(folder / "problems.yaml"),
        "--agents", "ddpg", "uniform",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def played(words):
    assert main(words) == 0
    return Path(words[words.index("--out") + 1])


def test_every_problem_is_a_study_of_its_own_under_its_own_rules(played):
    first, second = (read_lines(place / "study.jsonl").records for _, place in problem_folders(played))
    assert [(r["agent"], r["budget"], r["metric"]) for r in first] == [
        ("ddpg", 0.5, "flops"),
        ("uniform", 0.5, "flops"),
    ]
    assert [(r["agent"], r["budget"], r["metric"]) for r in second] == [
        ("uniform", 0.3, "params"), ("uniform", 0.2, "params"),
    ]  # fmt: skip
    assert all(record["finetuned"] is not None and record["latency_ms"]["ratio"] > 0 for record in first)
    assert all(record["finetuned"] is None and "latency_ms" not in record for record in second)
    rules = yaml.safe_load((played / "its_weights" / "config.yaml").read_text())
    assert (rules["pruning"]["family"], rules["data"]["train_images"]) == ("weight", 150)


def test_top_5_is_measured_beside_top_1(played):
    (record, *_) = read_lines(played / "small_net" / "study.jsonl").records
    for name in ("pruned", "finetuned", "dense"):
        assert record[name] <= record[f"{name}_top5"] <= 100


def test_one_table_has_all_problems_and_names_them(played):
    table = (played / "study.md").read_text()
    assert "| small net | 50% flops | 2 | `ddpg` | 1 |" in table
    assert "| its weights | 20% params | 1 | `uniform` | 1 |" in table
    rows = list(csv.DictReader(io.StringIO((played / "study.csv").read_text())))
    assert [row["problem"] for row in rows] == ["small net"] * 2 + ["its weights"] * 2
    assert float(rows[0]["latency_ratio"]) > 0
    assert rows[2]["latency_ratio"] == ""


def test_the_page_has_figures_of_every_problem_under_names_of_their_own(played):
    page = page_of_problems(played)
    names = [figure.name for figure in page.figures]
    assert len(set(names)) == len(names)
    assert "its_weights-trade-off-pruned" in names
    assert main(["report", str(played), "--out", str(played / "again.html")]) == 0
    assert (played / "again.html").read_text() == (played / "report.html").read_text()


def test_the_same_command_plays_only_what_is_missing(words, played, monkeypatch):
    file = played / "its_weights" / "study.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    seen = []
    monkeypatch.setattr("amc.study.agents_study.AgentsStudy._keep", lambda self, cell, agent: seen.append(cell.key))
    assert main(words) == 0
    assert seen == [("uniform", 0.2, 1, 0)]
    assert len(file.read_text().splitlines()) == 2


def test_another_terminal_sees_every_problem(played, capsys):
    assert main(["watch", str(played), "--once"]) == 0
    out = capsys.readouterr().out
    assert "small_net" in out
    assert "its_weights" in out


def test_what_a_problem_says_goes_before_what_all_have():
    plan = StudyPlan(("ddpg",), budgets=(0.5, 0.3), finetuned=(0.5,))
    record = {"a": {"seed": 3, "study": {"counts": [7]}}, "b": {"study": {"budgets": [0.2], "finetuned": []}}}
    first, second = problems_of(RunConfig(model="resnet20"), plan, record)
    assert (first.config.model, first.config.seed, second.config.seed) == ("resnet20", 3, 0)
    assert (first.plan.counts, first.plan.budgets) == ((7,), (0.5, 0.3))
    assert (second.plan.budgets, second.plan.agents) == ((0.2,), ("ddpg",))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": {"study": {"budget": [0.5]}}}, "the problem 'a', study: .*budget.*did you mean"),
        ({"a": {"study": 3}}, "the problem 'a': study must hold some of agents, budgets"),
        ({"a": {"study": {"counts": [0]}}}, "the problem 'a', study: .*counts above 0"),
        ({"a": {"study": {"finetuned": [0.1]}}}, "--finetuned must be among --budgets"),
        ({"a": {"study": {"metric": "flop"}}}, "the problem 'a', study: .*flop"),
        ({"a": {"modle": "resnet20"}}, "the problem 'a': .*modle.*did you mean"),
        ({"..": {}}, "must have letters or digits"),
        ({}, "a file of problems must hold one at least"),
    ],
)
def test_problems_that_cannot_be_are_named(record, message):
    with pytest.raises(ConfigurationError, match=message):
        problems_of(RunConfig(), StudyPlan(("uniform",)), record)


def test_nothing_is_played_where_the_last_problem_cannot_be(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("a: {}\nb: {study: {budgets: [0.001]}}\n")
    words = ["study", *QUICK, "--out", str(tmp_path / "out"), "--problems", str(tmp_path / "p.yaml")]
    assert main([*words, "--agents", "uniform"]) == 2
    assert "the smallest feasible budget" in capsys.readouterr().err
    assert not list((tmp_path).rglob("study.jsonl"))


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--problems", "a: {study: {agents: [ddgp]}}", "{file}: the problem 'a': unknown agent 'ddgp'; did you mean"),
        ("--variations", "a: {agent: ddgp}", "{file}: the variation 'a': unknown agent 'ddgp'; did you mean"),
        ("--problems", "- 1", "{file} must hold options by name"),
        ("--variations", "- 1", "{file} must hold options by name"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file_once(option, text, message, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert main(["study", "--out", str(tmp_path / "out"), option, str(file)]) == 2
    told = capsys.readouterr().err
    assert message.format(file=file) in told
    assert told.count("mine.yaml") == 1


def test_nothing_is_written_through_a_link_in_the_place_of_a_problem(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("digits: {}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()  # a study was begun there
    (tmp_path / "out" / "digits").symlink_to(tmp_path / "mine")
    words = ["study", *QUICK, "--out", str(tmp_path / "out"), "--problems", str(tmp_path / "p.yaml")]
    assert main([*words, "--agents", "uniform"]) == 2
    assert "digits must lie in the folder itself, and is a link" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_code_that_a_configuration_of_a_problem_names_needs_consent(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("model: 'os:system'\n")
    (tmp_path / "p.yaml").write_text(f"a: {{config: '{tmp_path / 'mine.yaml'}'}}\n")
    assert main(["study", "--out", str(tmp_path / "out"), "--problems", str(tmp_path / "p.yaml")]) == 2
    assert "names code, 'os:system'" in capsys.readouterr().err


def test_a_list_of_problems_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "problems.yaml").write_text("- ..\n")
    with pytest.raises(RunFolderError, match="must list the problems of a study"):
        problem_folders(tmp_path)


def test_leads_are_paired_with_the_uniform_allocation_and_show_the_best_other():
    common = {"problem": "p", "budget": 0.5, "metric": "flops", "dense": 90.0, "finetuned": None}
    cells = [("uniform", 0, 80.0), ("ddpg", 0, 82.0), ("ddpg", 1, 84.0), ("random", 0, 85.0), ("random", 1, 83.5)]
    records = [
        {**common, "agent": agent, "episodes": 1 if agent == "uniform" else 9, "seed": seed, "pruned": figure}
        for agent, seed, figure in cells
    ]
    (row,) = leads(records)
    assert row[:3] == ("p", "50% flops", "before fine-tuning")
    ahead = mean_with_interval([2.0, 4.0], 2)
    assert row[3:] == ("90.00", "80.00", mean_with_interval([82.0, 84.0], 2), ahead, "`random`", "84.25", "-1.25")


def test_leads_do_not_mix_searches_of_different_lengths():
    common = {"problem": "p", "budget": 0.5, "metric": "flops", "dense": 90.0, "finetuned": None, "seed": 0}
    cells = [("uniform", 1, 80.0), ("ddpg", 20, 84.0), ("ddpg", 10, 82.0), ("random", 10, 81.0), ("random", 20, 85.0)]
    short, long = leads([{**common, "agent": who, "episodes": many, "pruned": found} for who, many, found in cells])
    assert short[1:] == (
        "50% flops, 10 candidates",
        "before fine-tuning",
        "90.00",
        "80.00",
        "82.00",
        "2.00",
        "`random`",
        "81.00",
        "+1.00",
    )
    assert long[1:] == (
        "50% flops, 20 candidates",
        "before fine-tuning",
        "90.00",
        "80.00",
        "84.00",
        "4.00",
        "`random`",
        "85.00",
        "-1.00",
    )


def test_top_5_counts_the_five_likeliest():
    logits = torch.arange(7.0).repeat(4, 1)  # the likeliest is class 6, then 5, 4, 3, 2
    assert top5_accuracy(logits, torch.tensor([6, 2, 1, 0])) == 50.0
    assert top5_accuracy(logits[:, :5], torch.tensor([4, 2, 1, 0])) is None
