"""Terminals that cannot write every character get plain ones."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import amc
from amc.cli.main import main
from amc.cli.terminal import warn_in_one_line, write_plainly


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", "|"), ("ascii", "|"), ("cp437", "│"), ("utf-8", "│")])
def test_tables_are_drawn_with_what_the_terminal_has(encoding, shown, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["evaluate", "--data.test_images", "50", "--model", "digits_resnet"]) == 0
    stdout.flush()
    text = stdout.buffer.getvalue().decode(encoding)
    (row,) = (line for line in text.splitlines() if "digits_resnet" in line)
    assert row.count(shown) == 6
    assert "?" not in text


def test_own_warnings_are_one_line_and_others_as_ever(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    warn_in_one_line()
    own = warnings.formatwarning("look out", RuntimeWarning, str(Path(amc.__file__).parent / "search.py"), 3)
    assert own == "amc: warning: look out\n"
    sent = warnings.formatwarning("a\x1b]0;b\nc" + "x" * 9999, RuntimeWarning, str(Path(amc.__file__)), 3)
    assert sent.startswith("amc: warning: a ]0;b cxx")
    assert len(sent) < 3000
    assert "other.py:3: RuntimeWarning: look out" in warnings.formatwarning("look out", RuntimeWarning, "other.py", 3)


def test_other_characters_are_marked_and_widths_stay(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stdout)
    write_plainly()
    print("┡━ runs/\N{GREEK SMALL LETTER MU} …┩")
    stdout.flush()
    assert stdout.buffer.getvalue() == b"+- runs/? .+\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&- <&-"])
def test_closed_streams_are_replaced_before_a_file_takes_their_number(closed, tmp_path):
    code = (
        "import sys; from amc.cli.terminal import open_closed_streams as go; go(); "
        "f = open('out', 'w'); print('seen', file=sys.stderr); sys.stdout.isatty(); f.write(str(f.fileno())); f.close()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(amc.__file__).parents[1])}
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    subprocess.run(words, check=True, cwd=tmp_path, env=environment, capture_output=True)
    assert int((tmp_path / "out").read_text()) > 2
