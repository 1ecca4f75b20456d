"""Progress: lines where nobody watches live, a bar in a terminal."""

import io

import pytest
from rich.console import Console
from rich.progress_bar import ProgressBar

from amc.utils.progress_bar import StageLine
from amc.utils.progress_display import ProgressDisplay
from amc.utils.stages import duration


def lines_of(stream):
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_few_seconds_with_the_time_left(clock):
    stream = io.StringIO()
    with ProgressDisplay(stream, live=False, clock=clock).stage("search", 100, "episodes") as advance:
        for done in range(1, 21):
            clock.now += 1.0
            advance(done / 100, f"reward {done}")
    assert lines_of(stream) == [
        "search: 2 of 100 episodes, 1 min 38 s left, reward 2",
        "search: 7 of 100 episodes, 1 min 33 s left, reward 7",
        "search: 12 of 100 episodes, 1 min 28 s left, reward 12",
        "search: 17 of 100 episodes, 1 min 23 s left, reward 17",
        "search: 20 of 100 episodes in 20.0 s, reward 20",
    ]


def test_a_quick_stage_is_one_line(clock):
    stream = io.StringIO()
    with ProgressDisplay(stream, live=False, clock=clock).stage("prune", 2, "layers") as advance:
        clock.now = 1.5
        advance(1.0)
    assert lines_of(stream) == ["prune: 2 of 2 layers in 1.5 s"]


def test_a_stage_of_one_step_is_announced(clock):
    stream = io.StringIO()
    with ProgressDisplay(stream, live=False, clock=clock).stage("trace the network", 1) as advance:
        assert lines_of(stream) == ["trace the network ..."]
        clock.now = 3.0
        advance(1.0)
    assert lines_of(stream)[1:] == ["trace the network: done in 3.0 s"]


@pytest.mark.parametrize("seconds", [1.5, 2.5])
def test_where_only_slow_stages_are_shown_quick_ones_are_not(clock, seconds):
    stream = io.StringIO()
    with ProgressDisplay(stream, live=False, only_slow=True, clock=clock).stage("prune", 2, "layers") as advance:
        clock.now = seconds
        advance(1.0)
    assert lines_of(stream) == (["prune: 2 of 2 layers in 2.5 s"] if seconds > 2 else [])


def test_of_stages_within_a_stage_the_quick_ones_are_not_shown(clock):
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=False, clock=clock)
    with display.stage("study", 2, "searches") as outer:
        for seconds, name in ((1.0, "quick"), (4.0, "slow")):
            with display.stage(name, 4, "episodes") as advance:
                clock.now += seconds
                advance(1.0)
        outer(1.0)
    assert lines_of(stream) == ["slow: 4 of 4 episodes in 4.0 s", "study: 2 of 2 searches in 5.0 s"]


def test_a_terminal_shows_a_stage_within_a_stage():
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=True)
    with display.stage("study", 2, "searches") as outer:
        with display.stage("search (cem)", 4, "episodes") as advance:
            advance(0.5)
        outer(0.5)
    assert "search (cem)" in stream.getvalue()
    assert "0/4 episodes" in stream.getvalue()
    assert "1/2 searches" in stream.getvalue()


@pytest.mark.parametrize("live", [True, False])
def test_progress_that_is_switched_off_leaves_the_lines(live):
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=live, shows=False)
    with display.stage("search", 4, "episodes") as advance:
        advance(0.5)
    display.say("run folder: runs/mine")
    assert stream.getvalue() == "run folder: runs/mine\n"


def test_a_stage_that_an_earlier_start_has_done_is_not_shown(clock):
    stream = io.StringIO()
    with ProgressDisplay(stream, live=False, clock=clock).stage("train", 48, "steps"):
        pass
    assert lines_of(stream) == []


def test_a_failed_stage_claims_no_end(clock):
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=False, clock=clock)
    with pytest.raises(ValueError, match="broken"), display.stage("train", 2, "steps"):
        raise ValueError("broken")
    assert lines_of(stream) == []


def test_a_terminal_gets_a_bar():
    stream = io.StringIO()
    with ProgressDisplay(stream, live=True).stage("search", 4, "episodes") as advance:
        advance(3 / 4, "best 0.9")
    assert "3/4" in stream.getvalue()
    assert "best 0.9" in stream.getvalue()


def shown(width, note="epoch 2, loss 0.312, 1,234 images/s", *, color=None):
    """Returns the last state of a long stage's bar in a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=color)
    bar = ProgressBar(total=3130, completed=1400)
    console.print(StageLine("fine-tune (ddpg)", bar, "1400/3130 steps 0:01:23 left: 0:02:34", note))
    return console.file.getvalue().rstrip("\n")


@pytest.mark.parametrize("width", range(38, 140))
def test_counts_and_time_are_never_cut(width):
    line = shown(width)
    assert "1400/3130 steps 0:01:23 left: 0:02:34" in line
    assert len(line) <= width


def test_the_bar_shrinks_before_the_note_and_the_title_is_cut_last():
    assert len(shown(120).partition(" 1400/")[0]) == len("fine-tune (ddpg) ") + 24
    assert shown(100).endswith("left: 0:02:34 epoch 2, loss 0.312, 1,234 images/s")
    assert shown(80).startswith("fine-tune (ddpg) ━")
    assert shown(80).endswith("left: 0:02:34 epoch 2, loss 0.3…")
    assert shown(45) == "fine-t… 1400/3130 steps 0:01:23 left: 0:02:34"


def test_a_stage_in_80_columns_shows_counts_and_time(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    with ProgressDisplay(stream, live=True).stage("fine-tune (ddpg)", 3130, "steps") as advance:
        advance(1400 / 3130, "epoch 2, loss 0.312, 1,234 images/s")
    assert "1400/3130 steps 0:00:0" in stream.getvalue()
    assert "left: " in stream.getvalue()
    assert "…:" not in stream.getvalue()


def test_a_stream_that_is_no_terminal_gets_lines():
    stream = io.StringIO()
    ProgressDisplay(stream).say("[bold]not markup[/bold]")
    assert stream.getvalue() == "[bold]not markup[/bold]\n"


@pytest.mark.parametrize(("seconds", "text"), [(7.31, "7.3 s"), (125, "2 min 05 s"), (4320, "1 h 12 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_shows_a_table_above_the_bars():
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=True)
    with display.stage("study", 2, "searches") as advance:
        display.show_above("what is known so far")
        advance(0.5)
    assert "what is known so far" in stream.getvalue()


def test_a_table_is_left_out_of_lines():
    stream = io.StringIO()
    display = ProgressDisplay(stream, live=False)
    with display.stage("study", 2, "searches"):
        display.show_above("what is known so far")
    assert "what is known" not in stream.getvalue()
