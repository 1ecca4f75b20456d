"""Progress in a notebook: one output that is redrawn in place, readable without a kernel when it is saved."""

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rich.table import Table

from amc.utils.progress_display import ProgressDisplay


class Cell:
    """What a cell shows: its outputs by the last content of each, and all contents there were."""

    def __init__(self):
        self.outputs, self.drawings, self.second_drawing = [], [], threading.Event()

    def display(self, content, *, raw, display_id):
        assert raw
        assert display_id is True
        number = len(self.outputs)
        self.outputs.append(content)
        self.drawings.append(content)
        return SimpleNamespace(update=lambda new, raw: self._update(number, new))

    def _update(self, number, content):
        self.outputs[number] = content
        self.drawings.append(content)
        self.second_drawing.set()

    @property
    def lines(self):
        (output,) = self.outputs
        return [line.rstrip() for line in output["text/plain"].splitlines()]


def pretend(monkeypatch, shell, cell=None):
    """Lets this process look as if that shell of IPython ran it."""
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell
    display.display = cell.display if cell else None
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)


@pytest.fixture
def cell(monkeypatch):
    cell = Cell()
    pretend(monkeypatch, SimpleNamespace(kernel=object()), cell)
    return cell


def test_stages_and_lines_share_one_output(cell, clock, capsys):
    display = ProgressDisplay(clock=clock)
    display.say("run folder: runs/mine")
    for title in ("search", "fine-tune"):
        with display.stage(title, 4, "episodes") as advance:
            clock.now += 3.0
            advance(1.0, "best 0.9")
    display.say("[bold]not markup[/bold]")
    first, search, tune, last = cell.lines
    assert (first, last) == ("run folder: runs/mine", "[bold]not markup[/bold]")
    assert search.startswith("search ━")
    assert search.endswith(" 4/4 episodes 0:00:03 left: 0:00:00 best 0.9")
    assert tune.startswith("fine-tune ━")
    assert capsys.readouterr() == ("", "")


def test_the_stages_within_a_stage_are_drawn_below_it_while_they_run(cell, clock):
    display = ProgressDisplay(clock=clock)
    with display.stage("study", 2, "searches") as outer:
        with display.stage("search (cem)", 4, "episodes") as advance:
            clock.now += 10.0
            advance(0.5)
            display.say("a line")
            running = cell.lines
        outer(0.5)
    assert [line.split(" ━")[0] for line in running] == ["a line", "study", "search (cem)"]
    assert "2/4 episodes 0:00:10" in running[2]
    assert [line.split(" ━")[0] for line in cell.lines] == ["a line", "study"]


def test_the_table_of_a_study_is_drawn_above_its_stage_and_stays(cell):
    display = ProgressDisplay()
    table = Table("agent", "reward", box=None)
    table.add_row("ddpg", "0.97")
    with display.stage("study", 2, "searches") as advance:
        display.show_above(table)
        advance(0.5)
        assert "ddpg" in cell.drawings[-1]["text/plain"]
    display.show_above(None)
    heads, row, bar = cell.lines
    assert (heads.split(), row.split()) == (["agent", "reward"], ["ddpg", "0.97"])
    assert "1/2 searches" in bar


def test_the_output_is_redrawn_while_nothing_is_reported(cell, clock):
    with ProgressDisplay(clock=clock).stage("search", 4, "episodes"):
        clock.now += 7.0
        assert cell.second_drawing.wait(timeout=20)
        assert "0/4 episodes 0:00:07" in cell.lines[0]


def test_what_has_not_changed_is_not_drawn_again(cell, clock):
    with ProgressDisplay(clock=clock).stage("search", 4, "episodes") as advance:
        for _ in range(100):
            advance(0.5)
    assert len(cell.drawings) == 2


@pytest.mark.parametrize("seconds", [1.5, 2.5])
def test_where_only_slow_stages_are_shown_quick_ones_are_not(cell, clock, seconds):
    with ProgressDisplay(only_slow=True, clock=clock).stage("prune", 2, "layers") as advance:
        clock.now = seconds
        advance(1.0)
    assert len(cell.outputs) == (1 if seconds > 2 else 0)


def test_a_stage_that_an_earlier_start_has_done_does_not_stay(cell):
    display = ProgressDisplay()
    with display.stage("train", 48, "steps"):
        pass
    display.say("all is done")
    assert cell.lines == ["all is done"]


def test_a_failed_stage_shows_how_far_it_got(cell):
    def fail_after_one_step():
        with ProgressDisplay().stage("train", 4, "steps") as advance:
            advance(0.25)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail_after_one_step()
    assert "1/4 steps" in cell.lines[0]


def test_names_cannot_become_markup_of_the_page(cell):
    ProgressDisplay().say("<script>alert(1)</script>")
    assert "&lt;script&gt;" in cell.outputs[0]["text/html"]
    assert "<script" not in cell.outputs[0]["text/html"]


def test_long_lines_are_not_broken(cell):
    ProgressDisplay().say("word " * 50)
    assert len(cell.lines) == 1


def test_progress_that_is_switched_off_leaves_the_lines(cell):
    display = ProgressDisplay(sys.stderr, shows=False)
    with display.stage("search", 4, "episodes") as advance:
        advance(0.5)
    display.say("run folder: runs/mine")
    assert cell.lines == ["run folder: runs/mine"]


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["no shell", "IPython in a terminal"])
def test_outside_a_kernel_there_are_lines(monkeypatch, capsys, shell):
    pretend(monkeypatch, shell)
    ProgressDisplay().say("a line")
    assert capsys.readouterr().err == "a line\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that run the kernel
def test_a_real_kernel_saves_the_last_state_as_one_output(monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    code = """
import time
from amc.utils.progress_display import ProgressDisplay
display = ProgressDisplay()
display.say("run folder: runs/mine")
with display.stage("study", 2, "searches") as outer:
    display.show_above("the table so far")
    for search in range(2):
        with display.stage("search", 100, "episodes") as advance:
            for episode in range(100):
                time.sleep(0.01)
                advance((episode + 1) / 100, "best 0.9")
        outer((search + 1) / 2)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output["output_type"] == "display_data"
    first, table, bar = (line.rstrip() for line in output["data"]["text/plain"].splitlines())
    assert (first, table) == ("run folder: runs/mine", "the table so far")
    assert "2/2 searches 0:00:0" in bar
    assert "study" in output["data"]["text/html"]
