"""Tables are as wide as where they are read."""

import sys

import pytest
from rich.table import Table

from amc.report.tables import render


@pytest.fixture
def table():
    table = Table("run by", *("latency in ms" for _ in range(4)))
    table.add_row("onnxruntime", *("12.3 (12.1 to 14.5)" for _ in range(4)))
    return table


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
