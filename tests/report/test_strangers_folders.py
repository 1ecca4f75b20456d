"""Reports, watching, tables of studies and variations: folders of strangers run nothing, and reach no terminal raw."""

from __future__ import annotations

import json

import pytest
import yaml

from amc.cli.main import main
from amc.utils.json_lines import line_of

EVIL = "from pathlib import Path\nPath('touched').write_text('x')\nclass Agent: pass\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_part.py").write_text(EVIL)
    return tmp_path


def record(**changes):
    entries = {
        "agent": "uniform", "budget": 0.5, "episodes": 1, "seed": 0, "metric": "flops", "reward": 0.5, "pruned": 50.0,
        "finetuned": None, "allocation": {"kind": "filter", "widths": {}},
    }  # fmt: skip
    return {**entries, **changes}


def write_study(folder, entry, **config):
    folder.mkdir()
    rules = {"pruning": {"family": "filter", "criterion": "l1", "recovery": "none"}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(rules))
    (folder / "study.jsonl").write_text(line_of(entry))
    return folder


@pytest.mark.parametrize("where", ["agent", "criterion", "schedule", "penalty"])
def test_a_table_of_studies_imports_nothing_that_they_name(here, where, capsys):
    name = "evil_part:Agent"
    rules = {"pruning": {"family": "filter", "criterion": name if where == "criterion" else "l1", "recovery": "none"}}
    rules |= {"schedule": name} if where == "schedule" else {}
    rules |= {"finetune": {"penalties": [name]}} if where == "penalty" else {}
    write_study(here / "study", record(agent=name if where == "agent" else "uniform"), **rules)
    assert main(["study", "--tabulate", "study"]) == 0
    assert name in capsys.readouterr().out
    assert not (here / "touched").exists()


@pytest.mark.parametrize("name", ["run", "weights", "policy", "config", "root", "one"])
def test_the_name_of_a_variation_gives_no_consent(here, name, capsys):
    (here / "v.yaml").write_text(yaml.safe_dump({name: {"agent": "evil_part:Agent"}}))
    assert main(["study", "--out", "s", "--variations", "v.yaml", "--seeds", "0", "--counts", "1"]) == 2
    assert "'evil_part:Agent', which is not run unless you ask for it" in capsys.readouterr().err
    assert not (here / "touched").exists()


@pytest.mark.parametrize(
    "rules",
    [
        {"pruning": {"family": "nope", "criterion": "l1", "recovery": "none"}},
        {"pruning": {"family": "filter", "recovery": "none"}},
        {"train": [1]},
        {"finetune": None},
        {"train": {"penalties": 5}},
    ],
)
def test_rules_that_are_none_are_one_line(here, rules, capsys):
    write_study(here / "study", record(), **rules)
    assert main(["study", "--tabulate", "study"]) == 2
    assert capsys.readouterr().err.startswith("amc: error: study/study.jsonl must lie beside the config.yaml")


@pytest.mark.parametrize(
    "changes",
    [{"reward": 1.7e308}, {"pruned": -1.7e308}, {"prune_seconds": "x"}, {"costs": {"flops": "x"}}],
)
def test_figures_that_cannot_be_are_one_line(here, changes, capsys):
    write_study(here / "study", record(**changes))
    assert main(["report", "study"]) == 2
    assert "must hold the cells of a study" in capsys.readouterr().err


def test_costs_of_which_some_are_missing_are_left_out(here, capsys):
    write_study(here / "study", record(dense=90.0, costs={"params": 1}, dense_costs={"params": 2}))
    assert main(["report", "study"]) == 0
    capsys.readouterr()


ESCAPE = "\x1b]52;c;cHduZWQ=\x07[/x][link=http://evil]click[/link]"


def test_what_is_watched_reaches_the_terminal_as_text(here, write_run, capsys):
    folder = write_run(here / "run")
    (folder / "summary.json").unlink()
    (folder / ".lock.json").write_text(json.dumps({"process": 7, "host": ESCAPE}))
    (folder / "progress.json").write_text(json.dumps({f"baseline {ESCAPE}": {}}))
    entry = json.loads((folder / "episodes.jsonl").read_text().splitlines()[0])
    del entry["crc32"]
    (folder / "episodes.jsonl").write_text(line_of({**entry, "episode": ESCAPE}))
    assert main(["watch", str(folder), "--once"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[/x]" in printed


@pytest.mark.parametrize("content", ["[1, 2]", "5", '"x"', "{"])
def test_progress_that_is_none_is_left_out(here, write_run, content, capsys):
    folder = write_run(here / "run")
    (folder / "progress.json").write_text(content)
    assert main(["watch", str(folder), "--once"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [{"name": "a", "units": 0, "flops": 1, "params": 1}]},
        {"classes": {"names": ["a"], "images": [-5], "dense": [1], "finetuned": [1]}},
        {"curve": [{"epoch": 1, "accuracy": 1e308, "loss": -1e308}]},
    ],
)
def test_summaries_that_cannot_be_are_one_line(here, write_run, changes, capsys):
    assert main(["report", str(write_run(here / "run", **changes))]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_cells_of_csv_files_are_no_formulas(episodes):
    from amc.report.figures.of_layers import what_is_kept

    name = '=HYPERLINK("http://evil","x")'
    assert f"\"'{name[:10]}" in what_is_kept({name: 4}, {"me": {name: 2}}).as_csv()
