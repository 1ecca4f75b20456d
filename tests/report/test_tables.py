"""Tables are as wide as where they are read."""

import sys

import pytest
from rich.table import Table

from amc.report.policy_tables import curve_table
from amc.report.tables import amount, render, summary_table
from amc.storage.agent_card import CurvePoint
from amc.utils.printable import series


@pytest.fixture
def table():
    table = Table("run by", *("latency in ms" for _ in range(4)))
    table.add_row("onnxruntime", *("12.3 (12.1 to 14.5)" for _ in range(4)))
    return table


def test_what_was_kept_stands_below_the_summary():
    figures = {"pruned": 90.0, "finetuned": 80.0, "costs": {"flops": 50}, "notes": []}
    summary = {
        "model": "net",
        "agent": "ddpg",
        "metric": "mean overlap",
        "budget": {"flops": 50},
        "costs": {"flops": {"dense": 100, "pruned": 50}},
        "not_counted": {},
        "counted_by_own_rule": {},
        "accuracy": {"dense": 95.0, "pruned": 90.0, "finetuned": 90.0},
        "notes": ["the network before fine-tuning is kept"],
        "baselines": {"erk": {**figures, "notes": ["training made it worse"]}, "uniform": figures},
    }
    text = render(summary_table(summary))
    assert "accuracy: mean overlap; FLOPs" in text
    assert "ddpg: the network before fine-tuning is kept" in text
    assert "erk: training made it worse" in text
    assert "uniform:" not in text


def test_notes_are_lines_from_the_left_edge(table):
    table.caption = "a first note that is longer than the second\na second note"
    assert [line.index("a") for line in render(table).splitlines() if "note" in line] == [0, 0]


def test_tasks_keep_their_names_however_many_there_are():
    tasks = [f"digits_resnet{letter} flops {share} accuracy" for letter in "ab" for share in (0.7, 0.5, 0.3)]
    text = render(curve_table([CurvePoint(episode=8, rewards=dict.fromkeys(tasks, 0.9))]))
    assert "…" not in text
    heads = [line.split("┃")[2:-1] for line in text.splitlines() if "┃" in line]
    assert ["".join("".join(column).split()) for column in zip(*heads, strict=True)] == [
        task.replace(" ", "") for task in tasks
    ]


def test_several_things_are_joined_as_in_a_sentence():
    assert [series(["a", "b", "c"][:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_a_latency_is_shown_in_milliseconds():
    assert amount(4_512_000, "latency") == "4.51 ms"
    assert amount(4_512_000, "flops") == "4.5 M"


def widest(text):
    return max(len(line) for line in text.splitlines())


def test_a_table_fits_the_terminal(table, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert widest(render(table)) <= 80
    assert widest(render(table, 100)) > 80


def test_a_table_that_goes_to_a_file_is_the_same_everywhere(table, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert widest(render(table)) > 80
