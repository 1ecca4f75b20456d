"""A run seen from another terminal."""

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from amc.cli.main import main
from amc.report.watching import read_standing, shown, sparkline, watch


def text_of(renderable):
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def folder(tmp_path, write_run):
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text("episodes: 10\n")
    (folder / "progress.json").write_text(json.dumps({"search of uniform": {}, "baseline uniform": {}}))
    return folder


def test_a_run_that_works_says_who_works_on_it(folder):
    (folder / "summary.json").unlink()
    (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7}))
    text = text_of(shown(read_standing(folder)))
    assert "works: process 7 on desk; 4 of 10 candidates" in text
    assert "best reward 0.9000 (number 1)" in text
    assert "also ready: uniform" in text


def test_a_run_that_has_ended_says_so(folder):
    assert "has ended" in text_of(shown(read_standing(folder)))


def test_a_search_that_has_a_policy_has_ended_unless_it_is_being_extended(folder):
    (folder / "summary.json").unlink()
    (folder / "run.json").write_text(json.dumps({"command": "search"}))
    assert "amc search" in text_of(shown(read_standing(folder)))
    assert "has ended" in text_of(shown(read_standing(folder)))
    (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7}))
    assert "works: process 7 on desk" in text_of(shown(read_standing(folder)))


def test_a_run_that_was_killed_is_not_running(folder):
    (folder / "summary.json").unlink()
    assert "is not running" in text_of(shown(read_standing(folder)))


def test_watching_ends_with_the_run(folder):
    summary = (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()
    (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7}))
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            (folder / "summary.json").write_text(summary)

    out = Console(file=io.StringIO(), width=400, force_terminal=True)
    watch(folder, console=out, seconds=0.5, sleep=sleep)
    assert looks == [0.5] * 3
    assert "has ended" in out.file.getvalue()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=300))
@example([0.0, 2.225073858507e-311])
def test_a_sparkline_fits_and_shows_the_best_highest(values):
    line = sparkline(values)
    assert 1 <= len(line) <= 60
    if max(values) > min(values) and len(values) <= 60:
        assert line[values.index(max(values))] == "█"


def test_the_command_looks_once(folder, capsys):
    assert main(["watch", str(folder), "--once"]) == 0
    assert "4 of 10 candidates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "needs the folder"), (["nowhere"], "must hold a run or a study"), (["x", "--seconds", "0"], "from 0.1")],
)
def test_what_cannot_be_watched_is_one_line(words, message, capsys):
    assert main(["watch", *words]) == 2
    assert message in capsys.readouterr().err
