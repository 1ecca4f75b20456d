"""Sweeps over networks: what was checked earlier is kept, and what was not is not claimed."""

from __future__ import annotations

import json

from amc.cli.main import main
from amc.zoo.sweep import Examination
from amc.zoo.table import markdown


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


def test_a_line_that_was_cut_off_is_examined_again(tmp_path, capsys):
    file = tmp_path / "zoo.jsonl"
    assert zoo("costs", file) == 0
    file.write_text(file.read_text() + '{"model": "resn')
    assert zoo("costs", file) == 0
    assert len(file.read_text().splitlines()) == 1


def test_other_images_are_another_outcome(tmp_path, capsys):
    file = tmp_path / "zoo.jsonl"
    words = ["zoo", "--models", "digits_resnet", "--contracts", "costs", "--results", str(file)]
    for size in (8, 12, 12):
        assert main([*words, "--image_size", str(size)]) == 0
    assert [json.loads(line)["image_size"] for line in file.read_text().splitlines()] == [8, 12]


def test_misspelt_networks_of_other_packages_are_named(capsys):
    assert main(["zoo", "--models", "transformers:brt"]) == 2
    assert "unknown model 'transformers:brt'; did you mean 'transformers:bert'" in capsys.readouterr().err


def test_a_network_that_has_one_size_only_is_not_examined_twice(tmp_path):
    words = ["zoo", "--models", "digits_lenet", "--contracts", "costs", "--results", str(tmp_path / "zoo.jsonl")]
    file = tmp_path / "zoo.jsonl"
    file.write_text(
        json.dumps({"model": "digits_lenet", "image_size": 8, "asked_size": 64, "contracts": {"costs": "ok"}})
    )
    assert main([*words, "--image_size", "64"]) == 0
    assert len(file.read_text().splitlines()) == 1


def test_reasons_are_counted_without_the_numbers_of_their_errors():
    left = {
        "the network's output": 1,
        "the code counts on its width: size 3": 1,
        "like 'a': the code counts on its width: 4": 2,
    }
    made = markdown([Examination("net", groups=4, contracts={"costs": "ok"}, left_alone=left)])
    assert made.startswith("The contracts that were checked hold for 1 of 1 network.")
    assert made.endswith("## Left alone\n\n- net: 3 groups, the code counts on its width\n")


def test_a_table_is_not_made_of_nothing(tmp_path, capsys):
    table = tmp_path / "zoo.md"
    table.write_text("of an earlier sweep")
    assert main(["zoo", "--table_only", "--results", str(tmp_path / "typo.jsonl"), "--out", str(table)]) == 2
    assert "typo.jsonl holds none" in capsys.readouterr().err
    assert table.read_text() == "of an earlier sweep"


def test_a_table_replaces_no_other_text(tmp_path, capsys):
    file, table = tmp_path / "zoo.jsonl", tmp_path / "zoo.md"
    words = ["zoo", "--models", "digits_resnet", "--contracts", "costs", "--results", str(file), "--out", str(table)]
    table.write_text("my notes\n")
    assert main(words) == 2
    assert "zoo.md must be new, or say by two lines, <!-- table: amc zoo --> and" in capsys.readouterr().err
    assert table.read_text() == "my notes\n"
    assert not file.exists()  # found before any work
    table.write_text("before <!-- table: amc zoo -->stale<!-- end of table --> after\n")
    for _ in range(2):
        assert main(words) == 0
        text = table.read_text()
        assert text.startswith("before <!-- table: amc zoo -->")
        assert text.endswith("<!-- end of table --> after\n")
        assert "stale" not in text


def test_a_table_examines_nothing_not_even_at_another_size(tmp_path):
    file = tmp_path / "zoo.jsonl"
    assert zoo("costs", file) == 0
    words = ["zoo", "--table_only", "--results", str(file), "--image_size", "12", "--out", str(tmp_path / "zoo.md")]
    assert main(words) == 0
    assert len(file.read_text().splitlines()) == 1
    assert "digits_resnet" not in (tmp_path / "zoo.md").read_text()
