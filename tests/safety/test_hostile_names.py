"""Names from a file reach a terminal, a table, LaTeX and a spreadsheet as text, and are not obeyed."""

import io
import json

import pytest

from amc.cli.config_files import read_yaml
from amc.cli.main import main
from amc.errors import CheckpointError, ConfigurationError, RunFolderError
from amc.storage.agent_card import read_card
from amc.study.page import study_records
from amc.study.tables import agents_csv, agents_latex, agents_table
from amc.utils.json_lines import line_of
from amc.utils.progress_display import ProgressDisplay

NAME = "a\nb\x1b]0;c\x07|"


def record(**names):
    return {
        "agent": "uniform", "budget": 0.5, "metric": "flops", "episodes": 1, "seed": 0, "reward": 0.5,
        "pruned": 50.0, "finetuned": None, **names,
    }  # fmt: skip


def test_a_table_has_one_line_for_each_row():
    table = agents_table([record(agent=NAME, problem=NAME)])
    (row,) = (line for line in table.splitlines() if "0.5000" in line)
    assert len(table.splitlines()) == 3
    assert row.startswith("| a b ]0;c \\| |")
    assert "\x1b" not in table


def test_latex_runs_nothing_that_a_name_says():
    latex = agents_latex([record(agent=r"^^5cinput /etc/passwd \input{x}~")])
    assert r"\textasciicircum{}\textasciicircum{}5cinput /etc/passwd \textbackslash{}input\{x\}" in latex


@pytest.mark.parametrize("name", ["=1+1", "@x", "+1", "-1"])
def test_a_spreadsheet_computes_nothing_that_a_name_says(name):
    line = agents_csv([record(agent=name)]).splitlines()[1]
    assert line.startswith(f",'{name},0.5,")


def test_what_is_said_has_no_control_characters():
    stream = io.StringIO()
    ProgressDisplay(stream).say(f"problem {NAME}")
    assert stream.getvalue() == "problem a\nb ]0;c |\n"


def test_the_table_of_examinations_has_no_control_characters(tmp_path, capsys):
    found = {
        "model": NAME, "groups": 3, "prunable": 2, "share": 0.5, "contracts": {"costs": f"no: {NAME}"},
        "left_alone": {NAME: 1}, "streams": False,
    }  # fmt: skip
    (tmp_path / "zoo.jsonl").write_text(line_of(found))
    main(["zoo", "--table_only", "--results", str(tmp_path / "zoo.jsonl"), "--out", str(tmp_path / "zoo.md")])
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err + (tmp_path / "zoo.md").read_text()
    assert "| a b ]0;c \\| | 2/3 |" in (tmp_path / "zoo.md").read_text()


def test_a_name_is_given_once_however_it_is_written(tmp_path):
    (tmp_path / "x.yaml").write_text('1: {}\n"1": {}\n')
    with pytest.raises(ConfigurationError, match="must give each name once"):
        read_yaml(tmp_path / "x.yaml")


def test_the_card_of_an_agent_is_shown_as_text(tmp_path, capsys, monkeypatch):
    from types import SimpleNamespace

    import agents.loading

    learnt = SimpleNamespace(kind="filter", features=(NAME,), reward="accuracy")
    monkeypatch.setattr(agents.loading, "load_agent", lambda file: SimpleNamespace(name="ddpg", tasks=[learnt]))
    card = {
        "agent": "ddpg", "kind": "filter", "features": [NAME], "feature_count": 1, "tasks": [], "episodes": 1,
        "versions": {}, "curve": [],
    }  # fmt: skip
    (tmp_path / "agent.json").write_text(json.dumps(card))
    main(["policy", "show", str(tmp_path / "agent.safetensors")])
    assert "features: a b ]0;c |" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["tasks", "held_out", "curve"])
def test_a_card_of_more_than_a_table_shows_is_refused(tmp_path, part):
    task = {
        "network": "a", "metric": "flops", "limit": 1, "share": 0.5, "reward": "accuracy", "decisions": 1,
        "episodes": 1,
    }  # fmt: skip
    card = {
        "agent": "ddpg", "kind": "filter", "features": [], "feature_count": 0, "tasks": [], "episodes": 1,
        "versions": {}, "curve": [],
    }  # fmt: skip
    card[part] = [task] * 1001 if part != "curve" else [{"episode": 1, "rewards": {str(i): 0.0 for i in range(1001)}}]
    (tmp_path / "agent.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="length <= 1000"):
        read_card(tmp_path / "agent.json")


def test_costs_that_cannot_be_averaged_are_refused(tmp_path):
    cell = record(allocation={"kind": "filter", "widths": {}}, costs={"flops": 1e308, "params": 1.0})
    (tmp_path / "study.jsonl").write_text(line_of(cell) + line_of({**cell, "seed": 1}))
    with pytest.raises(RunFolderError, match=r"must hold the cells of a study.*costs"):
        study_records(tmp_path)
