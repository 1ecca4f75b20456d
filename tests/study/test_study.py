"""A study compares under the same rules, keeps what it has, and computes what its tables say."""

import math
from pathlib import Path

import numpy as np
import pytest

from agents import AGENTS
from amc.cli.main import main
from amc.data import DataConfig
from amc.errors import ConfigurationError, RunFolderError, UnknownNameError
from amc.pipeline.config import RunConfig
from amc.pruning import FilterPruner
from amc.study.cells import plan_cells
from amc.study.rewards import correlations, diverse_allocations, kendall
from amc.study.study_folder import open_folder
from amc.study.tables import agents_table, share_or_count
from amc.study.variants import Variant
from amc.utils.intervals import half_width, mean_with_interval
from amc.utils.json_lines import Lines, read_lines
from amc.utils.options import Choice, choose

QUICK = [
    "--data.train_images", "200", "--data.test_images", "50", "--data.calibration_images", "32",
    "--train.epochs", "1", "--finetune.epochs", "1", "--device", "cpu",
    "--model", "digits_lenet", "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
]  # fmt: skip


@pytest.fixture(scope="session")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "study"
    assert main(command(folder, "ddpg", "random", "uniform")) == 0
    return folder


def command(folder, *agents, counts=2, budgets=("0.5", "0.3", "--finetuned", "0.3")):
    return [
        "study", *QUICK, "--out", str(folder), "--agents", *agents, "--counts", str(counts), "--seeds", "0", "1",
        "--budgets", *budgets,
    ]  # fmt: skip


def lines(folder, name="study.jsonl"):
    return read_lines(folder / name).records


def test_every_cell_has_one_line_with_its_figures(studied):
    records = lines(studied)
    keys = [(record["agent"], record["budget"], record["episodes"], record["seed"]) for record in records]
    assert len(set(keys)) == len(keys) == 2 * (2 + 2 + 1)  # uniform plays once a budget
    for record in records:
        assert record["played"] == (1 if record["agent"] == "uniform" else 2)
        assert 0 <= record["pruned"] <= 100
        assert (record["finetuned"] is not None) == (record["budget"] == 0.3)
    dense = max(record["costs"]["flops"] for record in records)
    assert all(record["costs"]["flops"] < dense for record in records if record["budget"] == 0.3)


def test_a_study_goes_on_where_it_was_killed(studied, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in ("config.yaml", "dense.safetensors"):
        (folder / name).write_bytes((studied / name).read_bytes())
    whole = (studied / "study.jsonl").read_text().splitlines(keepends=True)
    (folder / "study.jsonl").write_text("".join(whole[:-2]) + whole[-2][:30])
    played = []
    monkeypatch.setattr("amc.study.agents_study.AgentsStudy._keep", lambda self, cell, agent: played.append(cell.key))
    assert main(command(folder, "ddpg", "random", "uniform")) == 0
    assert len(played) == 2
    assert [without_time(record) for record in lines(folder)] == [without_time(record) for record in lines(studied)]
    assert (folder / "study.md").read_text() == (studied / "study.md").read_text() == capsys.readouterr().out


def without_time(record):
    return {name: value for name, value in record.items() if name not in ("seconds", "prune_seconds")}


def test_other_rules_need_another_folder(studied, capsys):
    assert main([*command(studied, "uniform"), "--pruning.round_to", "2"]) == 2
    assert "holds a study under other rules" in capsys.readouterr().err
    assert len(lines(studied)) == 10


def test_the_same_words_in_another_place_mean_other_data(tmp_path, monkeypatch):
    config = RunConfig(data=DataConfig("imagefolder", root="images"))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_folder(tmp_path / "study", config, {})
    (tmp_path / "study" / "study.jsonl").write_text('{"finetuned": null}\n')
    open_folder(tmp_path / "study", config, {})
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(RunFolderError, match="under other rules"):
        open_folder(tmp_path / "study", config, {})


def test_counts_that_an_agent_cannot_play_are_refused_before_anything_takes_time(tmp_path, capsys):
    assert main(command(tmp_path / "study", "ddpg:environments=2", counts=3)) == 2
    assert "episodes (3) must be divisible by environments (2); use 4" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_what_an_agent_ranks_by_is_checked_before_anything_takes_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("amc.study.cell_player.Workshop", lambda *given: pytest.fail("work has started"))
    assert main(command(tmp_path / "study", "uniform", "global:criterion=bn_scal")) == 2
    assert "unknown criterion 'bn_scal'; did you mean 'bn_scale'?" in capsys.readouterr().err


def test_the_table_shows_what_earlier_commands_have_played(tmp_path, capsys):
    words = ["study", *QUICK, "--out", str(tmp_path / "study")]
    assert main([*words, "--agents", "uniform"]) == 0
    alone = capsys.readouterr().out
    assert main([*words, "--agents", "erk"]) == 0
    both = capsys.readouterr().out
    assert "`erk`" in both
    assert "`erk`" not in alone
    assert set(alone.splitlines()) < set(both.splitlines())
    assert (tmp_path / "study" / "study.md").read_text() == both


def test_cells_that_were_played_are_fine_tuned_later(tmp_path, capsys):
    words = ["study", *QUICK, "--out", str(tmp_path / "study"), "--agents", "uniform", "--budgets", "0.5", "0.503"]
    assert main(words) == 0
    before = lines(tmp_path / "study")
    assert main([*words, "--finetuned", "0.503"]) == 0
    after = lines(tmp_path / "study")
    assert before[0] == after[0]
    assert before[1] == {**after[1], "finetuned": None, "finetuned_top5": None}
    assert after[1]["finetuned"] > 0
    assert "| 50.3% flops | 1 |" in capsys.readouterr().out


def test_a_search_counts_when_it_is_played_and_not_when_its_network_is_timed(tmp_path, monkeypatch):
    done = []

    def latency(self, allocation, recorder):
        done.append("timed")
        return {"dense": 2.0, "pruned": 1.0, "ratio": 0.5}

    monkeypatch.setattr("amc.study.cell_player.CellPlayer.latency", latency)
    monkeypatch.setattr("amc.report.study_standing.standing_table", lambda records, *_: done.append(len(records)))
    words = ["study", *QUICK, "--out", str(tmp_path / "study"), "--agents", "uniform", "erk", "--latency", "true"]
    assert main(words) == 0
    assert done == [1, 2, "timed", "timed"]
    done.clear()
    assert main([*words, "--budgets", "0.5", "0.4"]) == 0
    assert done == [1, 2, 3, 4, "timed", "timed"]
    assert all(record["latency_ms"]["ratio"] == 0.5 for record in lines(tmp_path / "study"))


@pytest.mark.parametrize(("budget", "words"), [(0.5, "50%"), (0.503, "50.3%"), (1.0, "100%"), (800000.0, "800,000")])
def test_budgets_are_worded_as_given(budget, words):
    assert share_or_count(budget) == words


@pytest.mark.heavy
def test_a_trained_agent_is_transferred(studied, tmp_path):
    trained = next((studied / "agents").glob("ddpg-flops0.5-2-seed0*"))
    before = set((studied / "agents").iterdir())
    assert len(before) == 2 * 2  # budgets, seeds
    for name in ("first", "second"):  # of the same name in two folders
        (tmp_path / name).mkdir()
        copy = tmp_path / name / trained.name
        copy.write_bytes(trained.read_bytes())
        assert main([*command(studied, "uniform", counts=3, budgets=["0.5"]), "--transfer", str(copy)]) == 0
    assert len(set((studied / "agents").iterdir()) - before) == 2 * 2  # transfers, seeds
    records = {record["agent"]: record for record in lines(studied)}
    assert {record["played"] for label, record in records.items() if label.startswith("act:")} == {1}
    assert {record["played"] for label, record in records.items() if label.startswith("warm:")} == {3}


def test_rewards_are_set_against_fine_tuned_accuracy(tmp_path, capsys):
    folder = tmp_path / "rewards"
    arguments = ["study", *QUICK, "--out", str(folder), "--rewards", "2"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "| search | accuracy | refit, recalibrated |" in table
    assert "| test | cross_entropy | cut |" in table
    first = (folder / "rewards.jsonl").read_text()
    assert len(first.splitlines()) == 2
    assert (folder / "environment.json").is_file()
    assert main(arguments) == 0
    assert (folder / "rewards.jsonl").read_text() == first
    assert capsys.readouterr().out == table


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ddpg", {}),
        ("ddpg:warm_start=[]", {"warm_start": []}),
        ("ddpg:warm_start=[uniform, erk];critic=step;sigma=0.3", {
            "warm_start": ["uniform", "erk"], "critic": "step", "sigma": 0.3,
        }),
    ],
)  # fmt: skip
def test_variants_name_options(text, options):
    variant = Variant.parse(text)
    assert (variant.label, choose(AGENTS, variant.agent)) == (text, Choice("ddpg", options))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("dpg", UnknownNameError, "ddpg"),
        ("ddpg:sigmo=1", ConfigurationError, "sigma"),
        ("ddpg:sigma", ConfigurationError, "must read KEY=VALUE"),
        ("ddpg:sigma=[", ConfigurationError, "must be a YAML value"),
    ],
)
def test_wrong_variants_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        Variant.parse(text)


def test_agents_that_play_once_have_one_cell_a_budget():
    cells = plan_cells([Variant.parse("uniform"), Variant.parse("cem")], [0.7, 0.5], [100, 300], [0, 1, 2])
    assert len(cells) == 2 * (1 + 2 * 3)
    assert len({cell.key for cell in cells}) == len(cells)


def test_rules_have_no_seed_and_play_once_unless_they_measure():
    names = ["uniform", "global", "lamp", "dp", "snip", "sensitivity", "random"]
    cells = plan_cells(list(map(Variant.parse, names)), [0.5], [100, 300], [0, 1])
    played = {name: [(cell.episodes, cell.seed) for cell in cells if cell.key[0] == name] for name in names}
    assert all(played[name] == [(1, 0)] for name in names[:5])
    assert played["sensitivity"] == [(100, 0), (300, 0)]
    assert played["random"] == [(100, 0), (100, 1), (300, 0), (300, 1)]


def test_intervals_are_student_s():
    # t(0.975, 2 degrees of freedom) = 4.3027; the deviation of 1, 2, 3 is 1.
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert mean_with_interval([1.0, 2.0, 3.0], 2) == "2.00 ± 2.48"
    assert mean_with_interval([1.5], 2) == "1.50"
    assert mean_with_interval([], 2) == "-"


def test_the_best_reward_comes_first():
    common = {"budget": 0.5, "metric": "flops", "episodes": 10, "finetuned": None, "pruned": 80.0}
    records = [{**common, "agent": name, "reward": reward} for name, reward in (("a", 0.1), ("b", 0.3), ("a", 0.2))]
    rows = agents_table(records).splitlines()[2:]
    assert [row.split("|")[3].strip() for row in rows] == ["`b`", "`a`"]
    assert [row.split("|")[4].strip() for row in rows] == ["1", "2"]


def test_kendall_counts_pairs():
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    assert kendall(rising, 10 * rising) == pytest.approx(1.0)
    assert kendall(rising, np.array([1.0, 2.0, 4.0, 3.0])) == pytest.approx(4 / 6)  # 5 pairs agree, 1 does not
    assert kendall(rising, np.array([1.0, 1.0, 2.0, 2.0])) == pytest.approx(4 / math.sqrt(6 * 4))  # ties count less
    assert kendall(rising, np.ones(4)) == 0.0


def test_correlations_tell_a_good_reward_from_a_bad_one():
    generator = np.random.default_rng(0)
    accuracies = generator.normal(90, 1, 30)
    records = [
        {
            "rewards": {"good": {"refit": value, "cut": -value}},
            "finetuned_search": value,
            "finetuned_test": value,
        }
        for value in accuracies
    ]
    best, worst = (row for row in correlations(records) if row["target"] == "finetuned_search")
    assert (best["scored"], best["tau"]) == ("refit", pytest.approx(1.0))
    assert (worst["scored"], worst["tau"]) == ("cut", pytest.approx(-1.0))
    assert best["low"] <= best["tau"] <= best["high"]


def test_allocations_are_different_and_meet_the_budget(make_problem):
    problem = make_problem()
    allocations = diverse_allocations(problem, 12, seed=0)
    assert len({allocation.key() for allocation in allocations}) == 12
    assert all(problem.cost(problem.widths(allocation)) <= problem.limit for allocation in allocations)
    assert diverse_allocations(problem, 12, seed=0) == allocations


def test_too_few_allocations_are_refused(make_problem):
    with pytest.raises(ConfigurationError, match=r"only \d+ different allocations at this budget, not 60"):
        diverse_allocations(make_problem(2), 60, seed=0)


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "study.jsonl").write_text("hello\n")
    with pytest.raises(RunFolderError, match="one JSON record per line"):
        Lines(Path(tmp_path / "study.jsonl"), ("agent",))


def test_a_network_that_is_fine_tuned_at_once_is_pruned_once_and_ends_as_later(tmp_path, monkeypatch):
    pruned = []
    prune = FilterPruner.prune
    monkeypatch.setattr(
        FilterPruner, "prune", lambda pruner, allocation: pruned.append(allocation) or prune(pruner, allocation)
    )
    words = ["study", *QUICK[:-2], "--agents", "uniform", "--budgets", "0.5"]  # with a refit
    assert main([*words, "--out", str(tmp_path / "at_once"), "--finetuned", "0.5"]) == 0
    assert len(pruned) == 1
    for finetuned in ([], ["--finetuned", "0.5"]):
        assert main([*words, "--out", str(tmp_path / "later"), *finetuned]) == 0
    assert len(pruned) == 3
    (at_once,), (later,) = lines(tmp_path / "at_once"), lines(tmp_path / "later")
    times = ("seconds", "prune_seconds")
    assert {**at_once, **dict.fromkeys(times)} == {**later, **dict.fromkeys(times)}
