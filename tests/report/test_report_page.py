"""The page of a run: what it says, that it stands alone, and that nothing in a folder becomes code in it."""

import html.parser
import json
import os
import re
import shutil

import pytest

from amc.cli.main import main
from amc.errors import RunFolderError
from amc.report.curves import Curves
from amc.report.page import Page, Section, Table, joined
from amc.report.run_page import page_of_run
from amc.report.run_record import read_run

CLASSES = ("names", "images", "dense", "finetuned")


class Reader(html.parser.HTMLParser):
    """Collects elements, addresses and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text, self.identifiers = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(value)
            if name == "id":
                self.identifiers.append(value)

    def handle_data(self, data):
        self.text += data


def reading(page):
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture
def folder(tmp_path, write_run):
    return write_run(tmp_path / "run")


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_what_was_asked_and_what_came_out(folder):
    text = re.sub(r"\s+", " ", reading(page_of_run(read_run(folder)).as_html()).text)
    assert "has 48.0% of the FLOPs and 48.0% of the parameters" in text
    assert "reaches 94.00 where the dense network has 95.00; it takes 0.50 of the time" in text
    assert "agent ddpg, with 4 candidates" in text
    assert "accuracy is 1.54, and differences below 3.08" in text  # sqrt(0.95 * 0.05 / 200)
    assert "ddpg: the learning rate is small" in text
    assert "uniform: epoch 1 of 2 is kept" in text
    assert "seed 3" in text


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_which_data_were_used_for_what(tmp_path, write_run):
    data = {"name": "cifar10", "train": 45000, "calibration": 1000, "search": 5000, "test": 10000}
    text = reading(page_of_run(read_run(write_run(tmp_path / "run", data=data))).as_html()).text
    assert "Data (cifar10): 45,000 examples to train on, of which 1,000 give statistics; 5,000 held out" in text


def test_the_table_gives_speed_up_and_compression(folder):
    page = page_of_run(read_run(folder))
    table = next(table for section in page.sections for table in section.tables)
    own = next(row for row in table.rows if row[0] == "ddpg")
    assert own[1:] == ("480", "48.0%", "2.08", "48", "48.0%", "2.08", "90.00", "94.00", "+1.00")


def test_the_page_stands_alone(folder):
    reader = reading(page_of_run(read_run(folder)).as_html())
    assert "script" not in reader.tags
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert len(reader.identifiers) == len(set(reader.identifiers))


@pytest.mark.usefixtures("undrawn")
def test_text_of_a_folder_stays_text(folder):
    reader = reading(page_of_run(read_run(folder)).as_html())
    assert "b" not in reader.tags
    assert "a <b>bold</b> net" in reader.text


def test_runs_of_earlier_versions_have_a_page_too(tmp_path, write_run):
    folder = write_run(tmp_path / "old", layers=[], classes=None, curve=[], latency_ms=None, baselines={})
    (folder / "episodes.jsonl").unlink()
    names = [figure.name for figure in page_of_run(read_run(folder)).figures]
    assert names == ["kept"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("summary.json", "{", "is damaged"),
        ("summary.json", json.dumps({"command": "compress"}), "is damaged"),
        ("policy.json", json.dumps({"widths": "none"}), "is damaged"),
    ],
)
def test_damaged_folders_are_refused(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(RunFolderError, match=message):
        read_run(folder)


def test_a_run_that_has_not_ended_says_how_to_continue(folder):
    (folder / "summary.json").unlink()
    with pytest.raises(RunFolderError, match="it has not ended: continue it with --resume"):
        read_run(folder)


def of_command(folder, command):
    """Makes a finished run one of a command that leaves no figures."""
    (folder / "summary.json").unlink()
    (folder / "run.json").write_text(json.dumps({"command": command}))
    return folder


def test_a_search_that_has_ended_points_to_its_own_page_and_to_what_makes_the_network(folder):
    of_command(folder, "search")
    words = f"holds a search, which delivers no network; its page is written by: amc search --out {folder} --resume"
    with pytest.raises(RunFolderError, match=re.escape(words)):
        read_run(folder)
    (folder / "report.html").touch()
    words = f"its page is {folder / 'report.html'}, and amc prune {folder} makes the network"
    with pytest.raises(RunFolderError, match=re.escape(words)):
        read_run(folder)
    (folder / "policy.json").unlink()
    with pytest.raises(RunFolderError, match="it has not ended: continue it with --resume"):
        read_run(folder)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("training.jsonl", "holds the training of a policy, which has no page; show the policy with: amc policy show"),
        ("rewards.jsonl", "holds a comparison of rewards, which has no page; its table is"),
        ("checkpoints", "it has not ended: make the same call to continue it"),
    ],
)
def test_other_work_that_leaves_no_figures_is_not_called_unfinished(folder, file, words):
    of_command(folder, "compress in Python")
    (folder / file).touch()
    with pytest.raises(RunFolderError, match=re.escape(words)):
        read_run(folder)


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_page_and_figures(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--figures", str(tmp_path / "figures"), "--formats", "csv"]) == 0
    assert "needs no network" in capsys.readouterr().out
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    names = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert names == {
        "search", "candidates-flops", "candidates-params", "ratios", "kept", "sensitivity", "fine-tuning", "classes",
    }  # fmt: skip


@pytest.mark.heavy
def test_several_runs_share_a_page(tmp_path, write_run, capsys):
    folder, other = (write_run(tmp_path / name, layers=[], classes=None) for name in ("run", "other"))  # fewer figures
    out = tmp_path / "both.html"
    words = ["report", str(folder), str(other), "--out", str(out), "--figures", str(tmp_path / "f")]
    assert main([*words, "--formats", "svg"]) == 0
    reader = reading(out.read_text())
    assert out.read_text().count("What was asked</h2>") == 2
    assert len(reader.identifiers) == len(set(reader.identifiers))
    assert (tmp_path / "f" / "other" / "search.svg").is_file()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs the folder of a run or a study"),
        (["nowhere"], "must hold a finished run"),
        (["nowhere", "--formats", "jpg"], "unknown format 'jpg'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(words, message, capsys):
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_runs_whose_folders_have_one_name_keep_figures_of_their_own(folder, tmp_path, capsys):
    same = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, same)
    out = tmp_path / "figures"
    words = ["report", str(folder), str(same), "--out", str(tmp_path / "page.html"), "--figures", str(out)]
    assert main([*words, "--formats", "csv"]) == 0
    assert {place.name for place in out.iterdir()} == {folder.name, f"{folder.name}-2"}
    first, second = ({file.name for file in place.iterdir()} for place in sorted(out.iterdir()))
    assert first == second
    assert f"{2 * len(first)} files" in capsys.readouterr().out


def test_a_page_is_no_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in (".", str(tmp_path)):
        assert main(["report", str(folder), "--out", place]) == 2
        assert "--out must be a file, and" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_page_replaces_nothing_but_a_page(folder, tmp_path, capsys):
    notes, page = tmp_path / "notes.txt", tmp_path / "page.html"
    notes.write_text("my notes\n")
    assert main(["report", str(folder), "--out", str(notes)]) == 2
    assert f"only an HTML page is replaced by a report, and {notes} is none" in capsys.readouterr().err
    assert notes.read_text() == "my notes\n"
    for start in ("", "<!doctype html>\n<p>an earlier one"):
        page.write_text(start)
        assert main(["report", str(folder), "--out", str(page)]) == 0
        assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", ["episodes.jsonl", "policy.json", "config.yaml", "summary.json"])
def test_pipes_and_devices_are_refused_and_not_left_out(folder, name, capsys):
    for make in (os.mkfifo, lambda file: file.symlink_to("/dev/zero")):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        assert main(["report", str(folder)]) == 2
        assert "is not an ordinary file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve": [{"epoch": 1, "accuracy": 1.0}] * 100_001}, "length <= 100000"),
        (
            {"classes": {name: ["a"] * 50_001 if name == "names" else [1] * 50_001 for name in CLASSES}},
            "length <= 50000",
        ),
        ({"layers": [{"name": "x" * 1001, "units": 1, "flops": 1, "params": 1}]}, "length <= 1000"),
        ({"layers": [{"name": "x", "units": 1, "flops": 1, "params": 1}] * 10_001}, "length <= 10000"),
        ({"model": "x" * 10_001}, "length <= 10000"),
        ({"baselines": {"x" * 10_001: {}}}, "length <= 10000"),
        ({"notes": ["x"] * 1001}, "length <= 1000"),
    ],
)
def test_what_no_page_could_show_is_one_line(folder, changes, message, capsys):
    file = folder / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert main(["report", str(folder)]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line


def test_a_million_episodes_are_one_line(folder, capsys):
    line = (folder / "episodes.jsonl").read_text().splitlines(keepends=True)[0]
    (folder / "episodes.jsonl").write_text(line * 20_001)
    assert main(["report", str(folder)]) == 2
    assert "must have at most 20,000 lines" in capsys.readouterr().err


def test_tables_can_be_saved():
    table = Table(("network", "FLOPs"), (("dense", "1,000"),), name="networks")
    assert table.as_csv() == 'network,FLOPs\ndense,"1,000"\n'
    page = joined([Page("one", "lead", [Section("s", tables=[table])])], ["a"])
    assert page.title == "one"


def learning(number, ratio):
    ratios = {"stem <one>": ratio, "layer & two": 0.25}
    losses = {"actor_loss": 0.5 - ratio, "critic_loss": ratio}
    return {"episode": number, **losses, "seconds": 2.0, "scoring_seconds": 1.5, "ratios": ratios}


def figures_of(folder):
    return {figure.name: figure for figure in page_of_run(read_run(folder)).figures}


@pytest.mark.usefixtures("undrawn")
def test_the_actor_s_ratios_and_losses_are_drawn_as_the_run_has_kept_them(folder):
    (folder / "tensorboard").mkdir()
    curves = Curves(folder / "tensorboard" / "learning.jsonl")
    for number, ratio in ((2, 0.125), (3, 0.5)):
        curves.append(learning(number, ratio))
    found = figures_of(folder)
    assert found["actor-ratios"].as_csv() == "layer,2,3\nstem <one>,0.125,0.5\nlayer & two,0.25,0.25\n"
    assert found["losses"].rows == ((2, 0.375, 0.125), (3, 0.0, 0.5))
    assert "75% went into scoring networks, and 25% into the agent" in page_of_run(read_run(folder)).as_html()


def test_a_curve_that_was_cut_off_costs_that_line_alone(folder):
    (folder / "tensorboard").mkdir()
    file = folder / "tensorboard" / "learning.jsonl"
    Curves(file).append(learning(2, 0.125))
    file.write_text(file.read_text() + '{"episode": 3, "act')
    for number in (4, 5):
        Curves(file).append(learning(number, 0.5))
    assert [record.episode for record in read_run(folder).learning] == [2, 4, 5]


def test_predicted_times_are_drawn_against_measured_ones(tmp_path, write_run):
    time_budget = {"budget": 0.5, "predicted": 0.48, "measured": 0.49, "model_points": [[0.5, 0.6], [0.75, 0.7]]}
    figure = figures_of(write_run(tmp_path / "run", time_budget=time_budget))["latency-model"]
    assert figure.rows == (("unseen 0", 0.5, 0.6), ("unseen 1", 0.75, 0.7), ("delivered", 0.48, 0.49))
    absolute = {**time_budget, "budget": 3.5, "predicted": 3.4}
    figure = figures_of(write_run(tmp_path / "other", time_budget=absolute))["latency-model"]
    assert len(figure.rows) == 2  # milliseconds are no shares
    damaged = {**time_budget, "model_points": [["<b>", 1]]}
    assert "latency-model" not in figures_of(write_run(tmp_path / "third", time_budget=damaged))


@pytest.mark.parametrize(("count", "listed"), [(8, []), (9, [f"#part-{number}" for number in range(1, 10)])])
def test_a_long_page_begins_with_its_contents(count, listed):
    sections = [Section(f"Section {number}", paragraphs=["Text."]) for number in range(count)]
    reader = reading(Page("Title", "Lead.", sections).as_html())
    links = [address for address in reader.addresses if address.startswith("#part-")]
    assert links == listed
    assert {f"part-{number}" for number in range(1, count + 1)} <= set(reader.identifiers)


def test_the_folder_of_a_page_is_made(folder, tmp_path):
    page = tmp_path / "pages" / "mine.html"
    assert main(["report", str(folder), "--out", str(page)]) == 0
    assert page.is_file()
