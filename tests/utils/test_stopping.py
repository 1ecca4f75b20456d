"""Signals end the work where nothing is lost, and at once when they come again."""

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from amc.utils import stopping
from amc.utils.stopping import StopRequested, deferring_stops, exit_status, stop_here, stop_requested, stopping_safely


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0)  # a signal is handled between two steps of the interpreter


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_what_has_no_safe_point_at_once(number, status):
    before = signal.getsignal(number)
    with stopping_safely():
        with pytest.raises(StopRequested):
            send(number)
        assert exit_status() == status
    assert signal.getsignal(number) is before
    stop_here()  # of a context that is over


def work(reached, *, signals, safe_points):
    """Works under `deferring_stops` and notes how far it came."""
    with deferring_stops():
        for _ in range(signals):
            send()
        assert stop_requested()
        reached.append("after the signal")
        for _ in range(safe_points):
            stop_here()
        reached.append("end")


@pytest.mark.parametrize(
    ("signals", "safe_points", "expected"),
    [(1, 1, ["after the signal"]), (1, 0, ["after the signal", "end"]), (2, 1, [])],
)
def test_a_signal_waits_for_the_safe_point_or_the_end_and_a_second_does_not(signals, safe_points, expected, capfd):
    reached = []
    with stopping_safely(), pytest.raises(StopRequested):
        work(reached, signals=signals, safe_points=safe_points)
    assert reached == expected
    assert capfd.readouterr().err == "amc: stopping at the next safe point; once more stops at once\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait_s", [0.03, 0.1, 0.3, 0.6])
def test_an_interruption_while_the_command_starts_is_one_line(wait_s, number, tmp_path):
    words = [sys.executable, "-c", START, "compress", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout.readline() == "begun\n"
    time.sleep(wait_s)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error.splitlines()[-1].startswith("amc: interrupted")
    assert "Traceback" not in error


START = """
import sys
import amc.__main__
print("begun", flush=True)
sys.exit(amc.__main__.main())
"""


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Imports a module of some lines, and waits a while; returns what the module has put into a list."""
    reached = []
    monkeypatch.setattr(signal, "reached_by_test", reached, raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def run(*lines, wait_s):
        (tmp_path / "module_of_test.py").write_text("\n".join(["import os, signal, time", *lines]))
        try:
            importlib.import_module("module_of_test")
            time.sleep(wait_s)
        finally:
            sys.modules.pop("module_of_test", None)

    run.reached = reached
    return run


INTERRUPT = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1)"
REACH = "signal.reached_by_test.append('end')"


@pytest.mark.parametrize(("signals", "expected"), [(1, ["end"]), (2, [])])
def test_a_first_signal_waits_for_an_import_that_runs_and_a_second_does_not(signals, expected, imported):
    with stopping_safely(), pytest.raises(StopRequested):
        imported(*[INTERRUPT] * signals, REACH, wait_s=30)
    assert imported.reached == expected


def test_an_import_that_does_not_end_is_left_after_a_line(imported, monkeypatch, capfd):
    monkeypatch.setattr(stopping, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(stopping, "_SILENCE_S", 0.1)
    with stopping_safely(), pytest.raises(StopRequested):
        imported(INTERRUPT, "time.sleep(30)", REACH, wait_s=30)
    assert imported.reached == []
    assert capfd.readouterr().err == "amc: stopping when a library is loaded; once more stops at once\n"


def test_a_signal_that_came_in_an_import_does_not_outlive_the_context(imported):
    with suppress(StopRequested), stopping_safely():
        imported("os.kill(os.getpid(), signal.SIGINT)", REACH, wait_s=0)
    time.sleep(0.2)  # an interruption of the tests otherwise
    assert imported.reached == ["end"]


FAILING = """
import os, signal, sys
from amc.cli import main

def after_signals(call):
    def run(*arguments):
        for _ in range({signals}):
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*arguments)
    return run

main.{moment} = after_signals(main.{moment})
sys.exit(main.main(["nonsense"]))
"""


@pytest.mark.parametrize(
    ("moment", "signals", "status", "line"),
    [
        ("one_line", 1, 2, "amc: error: unknown command 'nonsense'"),
        ("stop_no_more", 1, 143, "amc: interrupted"),
        ("one_line", 2, 143, ""),
    ],
)
def test_a_signal_while_an_error_is_told_leaves_one_line(moment, signals, status, line):
    words = [sys.executable, "-c", FAILING.format(moment=moment, signals=signals)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == status
    assert ended.stderr.startswith(line)
    assert len(ended.stderr.splitlines()) == bool(line)
