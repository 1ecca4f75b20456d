"""Sweeps over networks: what was checked earlier is kept, and what was not is not claimed."""

from __future__ import annotations

import json

from amc.cli.main import main


def zoo(contract, file):
    return main(["zoo", "--models", "digits_resnet", "--contracts", contract, "--results", str(file)])


def test_contracts_that_were_not_checked_are_examined_and_joined(tmp_path, capsys):
    file = tmp_path / "zoo.jsonl"
    assert zoo("costs", file) == 0
    assert "held: costs" in capsys.readouterr().out
    assert zoo("training", file) == 0
    assert "held: costs, training" in capsys.readouterr().out
    assert zoo("costs", file) == 0
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [list(record["contracts"]) for record in records] == [["costs"], ["costs", "training"]]
