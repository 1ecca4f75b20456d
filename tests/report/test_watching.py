"""A run seen from another terminal."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from amc.cli.main import main
from amc.errors import RunFolderError
from amc.report.watching import read_standing, shown, sparkline, watch
from amc.utils.folder_lock import FolderLock


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
    assert "best reward 0.9000 (episode 1; the first is 0)" in text
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


def test_what_a_process_does_is_shown_while_it_does(folder):
    (folder / "summary.json").unlink()
    stages = ["study: 3 of 9 searches, 2 min 05 s left", "search (ddpg): 4 of 10 episodes\x1b[2J"]
    (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7, "stages": stages}))
    text = text_of(shown(read_standing(folder)))
    assert "now: study: 3 of 9 searches, 2 min 05 s left\nnow: search (ddpg): 4 of 10 episodes" in text
    assert "\x1b" not in text
    for damaged in ("none", 7, None, {"a": 1}):
        (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7, "stages": damaged}))
        assert "now:" not in text_of(shown(read_standing(folder)))


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process cannot be asked after")
def test_a_killed_process_of_this_machine_does_not_work(folder):
    (folder / "summary.json").unlink()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    holder = {"host": socket.gethostname(), "process": child.pid, "stages": ["search"]}
    (folder / ".lock.json").write_text(json.dumps(holder))
    text = text_of(shown(read_standing(folder)))
    assert "is not running" in text
    assert "now:" not in text
    for process in (os.getpid(), "x", 2**40, -1, True):
        (folder / ".lock.json").write_text(json.dumps({**holder, "process": process}))
        assert "works: process" in text_of(shown(read_standing(folder)))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="elsewhere the state of a process is not known")
def test_a_suspended_process_does_not_work_nor_does_a_later_one_of_its_number(folder, tmp_path):
    (folder / "summary.json").unlink()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        holder = {"host": socket.gethostname(), "process": child.pid, "stages": ["search"]}
        (folder / ".lock.json").write_text(json.dumps(holder))
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert f"is suspended, as by Ctrl-Z: process {child.pid}" in text_of(shown(read_standing(folder)))
        child.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED)
        assert f"works: process {child.pid}" in text_of(shown(read_standing(folder)))
        (folder / ".lock.json").write_text(json.dumps({**holder, "start": 1}))
        assert "is not running" in text_of(shown(read_standing(folder)))
    finally:
        child.kill()
        child.wait()
    lock = FolderLock(folder)
    lock.acquire()
    assert f"works: process {os.getpid()}" in text_of(shown(read_standing(folder)))
    lock.release()


def test_a_folder_that_is_deleted_while_it_is_watched_is_said(folder):
    (folder / "summary.json").unlink()
    (folder / ".lock.json").write_text(json.dumps({"host": "desk", "process": 7}))
    out = Console(file=io.StringIO(), width=400, force_terminal=True)
    with pytest.raises(RunFolderError, match=r"run was deleted, moved or emptied while it was watched$"):
        watch(folder, console=out, sleep=lambda seconds: shutil.rmtree(folder))


def test_a_folder_of_another_program_is_none_of_ours(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(RunFolderError, match="must hold a run, a study or a training"):
        read_standing(tmp_path)


def test_there_are_never_more_candidates_than_are_wanted(folder):
    (folder / "config.yaml").write_text("episodes: 3\n")  # a search that starts from an agent tries one more
    assert "4 of 4 candidates" in text_of(shown(read_standing(folder)))


def training(folder, count):
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / "config.yaml").write_text("episodes: 4\nheld_out_budgets: []\n")
    tasks = ("net flops 0.7 accuracy", "net flops 0.3 accuracy")
    lines = ({"task": tasks[n % 2], "episode": n, "reward": 0.5 + n / 10, "accuracy": 50.0} for n in range(count))
    if count:
        (folder / "training.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_the_training_of_a_policy_shows_its_tasks(tmp_path):
    text = text_of(shown(read_standing(training(tmp_path / "half", 3))))
    assert "amc train in" in text
    assert "is not running; 3 of 4 episodes" in text
    assert ["net", "flops", "0.7", "accuracy", "2", "0.7000"] in [line.split() for line in text.splitlines()]
    assert "has ended; 4 of 4 episodes" in text_of(shown(read_standing(training(tmp_path / "whole", 4))))


def test_a_training_and_a_comparison_of_rewards_are_no_study_of_agents(tmp_path):
    begun = training(tmp_path / "begun", 0)
    assert "amc train in" in text_of(shown(read_standing(begun)))
    (begun / "config.yaml").write_text("reward: accuracy\n")
    (begun / "rewards.jsonl").write_text('{"allocation": {}, "finetuned": 90.0}\n')
    assert "is not running; 1 allocation\n" in text_of(shown(read_standing(begun)))


def test_a_narrow_terminal_has_every_bar_in_one_line(folder):
    lines = [{"episode": n, "reward": n / 200} for n in range(200)]
    (folder / "episodes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    out = Console(file=io.StringIO(), width=30, force_terminal=False)
    watch(folder, console=out, once=True)
    (bars,) = [line for line in out.file.getvalue().splitlines() if "█" in line]
    assert 20 < len(bars) <= 30
    assert bars[-1] == "█"


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
    [
        ([], "needs the folder"),
        (["nowhere"], "must hold a run, a study or a training"),
        (["x", "--seconds", "0"], "from 0.1"),
    ],
)
def test_what_cannot_be_watched_is_one_line(words, message, capsys):
    assert main(["watch", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_best_search_of_a_study_is_named_as_the_table_names_it(tmp_path):
    lines = [
        {"agent": "uniform", "budget": 0.5, "seed": seed, "reward": 0.5 + seed / 4, "seconds": 1.0} for seed in (0, 1)
    ]
    (tmp_path / "study.jsonl").write_text(f"{json.dumps(lines[0])}\n")
    assert "is not running; 1 search\n" in text_of(shown(read_standing(tmp_path)))
    (tmp_path / "study.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    text = text_of(shown(read_standing(tmp_path)))
    assert "is not running; 2 searches\n" in text
    assert "best reward 0.7500 (agent uniform, budget 0.5, seed 1); all:" in text


def test_digits_stand_below_one_another(folder):
    lines = [{"episode": n, "accuracy": accuracy, "reward": accuracy / 100} for n, accuracy in enumerate((67.6, 78.75))]
    (folder / "episodes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    rows = [line.split() for line in text_of(shown(read_standing(folder))).splitlines()]
    assert ["0", "67.60", "0.6760", "None"] in rows
