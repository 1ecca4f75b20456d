"""What a run's folder keeps, and what it refuses."""

import io
import json
import math
import stat
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import nn

from agents.protocol import EpisodeResult, Learning
from amc.errors import ConfigurationError, RunFolderError, UnknownNameError
from amc.pipeline.config import BudgetConfig, RunConfig
from amc.pipeline.episodes import episode_from_record, episode_line
from amc.pipeline.episodes_file import EpisodesFile
from amc.pipeline.folder_recorder import FolderRecorder
from amc.pipeline.run_files import read_progress
from amc.problem.score import Score
from amc.report.origin import Origin
from amc.report.run_folder import RunFolder, check_free, default_path
from amc.report.run_recorder import RunRecorder
from amc.structure import Allocation
from amc.utils.progress_display import ProgressDisplay


def episode(number=0, reward=0.5):
    allocation = Allocation("filter", {"conv1": 3, "layer1.0.conv1": 7})
    return EpisodeResult(
        number, allocation, reward, Score(90.0, 0.1 + 0.2, images=10), {"flops": 1000, "params": 200}, 0.25
    )


def read_log(folder):
    log = EpisodesFile(folder / "episodes.jsonl")
    log.read()
    return log


def test_an_episode_survives_the_file_exactly():
    result = episode(reward=0.1 + 0.2)
    read = episode_from_record(json.loads(episode_line(result)))
    assert read.reward == result.reward
    assert read.allocation == result.allocation
    assert read.score.cross_entropy == result.score.cross_entropy
    assert math.isnan(read.score.agreement)
    assert "NaN" not in episode_line(result)


def test_configuration_survives_the_folder(tmp_path):
    config = RunConfig(episodes=7, budget=BudgetConfig(params=0.3), agent={"name": "ddpg", "sigma": 0.4})
    RunFolder.create(tmp_path / "run", config, Origin("compress"))
    assert RunFolder.open(tmp_path / "run", "compress").config == config


@pytest.mark.parametrize("line", [episode_line(episode(1)).replace("0.5", "0.9"), "null\n", "[]\n", '{"reward": 1}\n'])
def test_a_damaged_line_is_left_out_and_those_after_it_stay(tmp_path, line):
    whole = "".join(episode_line(episode(number)) for number in (0, 1))
    (tmp_path / "episodes.jsonl").write_text(whole.replace("\n", f"\n{line}", 1))
    with pytest.warns(RuntimeWarning, match=r"2 of 3 lines are kept \(line 2 is damaged\); the other"):
        assert list(read_log(tmp_path).episodes) == [0, 1]
    assert (tmp_path / "episodes.jsonl").read_text() == whole
    assert line in (tmp_path / "episodes.jsonl.damaged").read_text()


def test_an_episode_that_stands_twice_counts_once(tmp_path):
    lines = [episode_line(episode(number, reward)) for number, reward in ((0, 0.5), (1, 0.25), (0, 0.75))]
    (tmp_path / "episodes.jsonl").write_text("".join(lines))
    with pytest.warns(RuntimeWarning, match=r"2 of 3 lines are kept \(1 stands twice\)"):
        assert {number: read.reward for number, read in read_log(tmp_path).episodes.items()} == {0: 0.5, 1: 0.25}


def test_a_line_that_a_kill_has_cut_off_goes_without_a_word(tmp_path):
    (tmp_path / "episodes.jsonl").write_text(episode_line(episode(0)) + episode_line(episode(1))[:-1])
    log = read_log(tmp_path)
    assert list(log.episodes) == [0]
    log.add(episode(1))
    assert list(read_log(tmp_path).episodes) == [0, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["episodes.jsonl"]


def test_a_missing_episode_is_put_in_its_place(tmp_path):
    recorder = FolderRecorder(tmp_path)
    recorder.open()
    for number in (0, 2, 1):
        recorder.on_episode(episode(number))
    recorder.close()
    assert [json.loads(line)["episode"] for line in (tmp_path / "episodes.jsonl").read_text().splitlines()] == [0, 1, 2]


def test_a_taken_folder_is_refused(tmp_path):
    RunFolder.create(tmp_path / "my run", RunConfig(), Origin("search"))
    check_free(tmp_path / "my run")  # nothing is lost
    read_log(tmp_path / "my run").add(episode())
    with pytest.raises(RunFolderError, match=r"holds a run already.*amc search --out '.*my run' --resume.*--out"):
        check_free(tmp_path / "my run")


@pytest.mark.parametrize("name", ["tensorboard/events", "environment.json", "config.yaml"])
def test_what_is_not_of_a_run_is_not_discarded(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("the user's own")
    with pytest.raises(RunFolderError, match="--out"):
        RunFolder.create(tmp_path, RunConfig(), Origin("search"))
    assert (tmp_path / name).read_text() == "the user's own"


def test_another_command_is_refused_and_told_the_right_one(tmp_path):
    RunFolder.create(tmp_path / "run", RunConfig(), Origin("finetune"))
    with pytest.raises(RunFolderError, match=r"made by amc finetune.*continue with: amc finetune --out .*run --resume"):
        RunFolder.open(tmp_path / "run", "compress")


def test_a_folder_of_an_earlier_version_goes_on_only_where_a_search_has_begun(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    (folder.path / "run.json").unlink()
    with pytest.raises(RunFolderError, match=r"must say which command made it.*another --out"):
        RunFolder.open(folder.path, "compress")
    read_log(folder.path).add(episode())
    assert RunFolder.open(folder.path, "compress").origin is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"command": "compress", "files": 3, "digests": {}}'])
def test_a_damaged_record_of_the_beginning_is_told(tmp_path, text):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    (folder.path / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json must say how the run began.*another --out"):
        RunFolder.open(folder.path, "compress")


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunFolderError, match="must hold a run"):
        RunFolder.open(tmp_path, "compress")


def test_an_edited_configuration_is_checked(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    torn = (folder.path / "config.yaml").read_text()[:100]
    (folder.path / "config.yaml").write_text(torn[: torn.rindex("\n") + 1])  # which is valid, and says less
    with pytest.raises(RunFolderError, match=r"must be as the run was started with.*start it again, without --resume"):
        RunFolder.open(folder.path, "compress")
    read_log(folder.path).add(episode())
    with pytest.raises(RunFolderError, match=r"must be as the run was started with.*start afresh with another --out"):
        RunFolder.open(folder.path, "compress")
    Origin("compress").write(folder.path)  # as an earlier version did
    (folder.path / "config.yaml").write_text("episodse: 3\n")
    with pytest.raises(UnknownNameError, match="did you mean 'episodes'"):
        RunFolder.open(folder.path, "compress")
    (folder.path / "config.yaml").write_text("data: digits\n")
    with pytest.raises(ConfigurationError, match="data must be a section"):
        RunFolder.open(folder.path, "compress")


@pytest.mark.parametrize("text", ["", "[1]", "3"])
def test_damaged_progress_names_the_remedy(tmp_path, text):
    assert read_progress(tmp_path) == {}
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"progress\.json must list the finished stages.*delete it"):
        read_progress(tmp_path)


def resumed(path):
    folder = RunFolder.open(path, "compress")
    shown = ProgressDisplay(io.StringIO(), live=False)
    return RunRecorder(path, RunConfig(), shown, command="compress", resumed=folder)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    (folder.path / ".lock").mkdir()  # as good as a folder that may only be read, for any user
    with pytest.raises(RunFolderError, match="the run's folder must be writable"), resumed(folder.path):
        pass


def test_the_trained_network_may_be_read_by_whoever_reads_the_rest(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    with resumed(folder.path) as recorder:
        recorder.on_dense(nn.Linear(2, 2))
    modes = {stat.S_IMODE((folder.path / name).stat().st_mode) for name in ("config.yaml", "dense.safetensors")}
    assert len(modes) == 1
    assert not list(folder.path.glob("*.part"))


def test_tensorboard_shows_rewards_costs_ratios_losses_and_where_the_time_goes(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig(), Origin("compress"))
    learning = Learning(actor_loss=-0.5, critic_loss=0.25, ratios=(0.75, 0.5))
    with resumed(folder.path) as recorder:
        recorder.begin()
        for number, reward in enumerate((0.5, 0.75, 0.25)):
            result = replace(episode(number, reward), learning=learning, scoring_seconds=0.125)
            recorder.on_new_episode(result)
        recorder.on_epoch("ddpg", 1, {"epoch": 1, "loss": 0.5})
    drawn = {}
    for file in (folder.path / "tensorboard").glob("events.*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                drawn.setdefault(value.tag, []).append(round(float(value.tensor.float_val[0]), 6))
    assert drawn == {
        "search/reward": [0.5, 0.75, 0.25],
        "search/best_reward": [0.5, 0.75, 0.75],
        "search/accuracy": [90.0] * 3,
        "search/flops": [1000.0] * 3,
        "search/params": [200.0] * 3,
        "search/seconds": [0.25] * 3,
        "kept/conv1": [3.0] * 3,
        "kept/layer1.0.conv1": [7.0] * 3,
        "time/scoring_seconds": [0.125] * 3,
        "time/agent_seconds": [0.125] * 3,
        "learning/actor_loss": [-0.5] * 3,
        "learning/critic_loss": [0.25] * 3,
        "actor_ratio/conv1": [0.75] * 3,
        "actor_ratio/layer1.0.conv1": [0.5] * 3,
        "training/ddpg/loss": [0.5],
    }


def test_default_folders_are_named_after_the_run_and_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_path(RunConfig(seed=3))
    assert str(first) == "runs/digits_resnet-digits-ddpg-flops0.5-seed3"
    first.mkdir(parents=True)
    assert default_path(RunConfig(seed=3)).name == first.name + "-2"


@pytest.mark.parametrize("written", [b"2", b"1"])
def test_a_file_that_is_written_while_a_run_starts_from_it_is_refused(tmp_path, written):
    weights, folder = tmp_path / "net.pth", tmp_path / "run"
    weights.write_bytes(b"1")
    config = RunConfig(weights=str(weights))
    recorder = RunRecorder(folder, config, ProgressDisplay(shows=False), command="search")
    (tmp_path / "other").write_bytes(written)
    (tmp_path / "other").replace(weights)
    with (
        pytest.raises(RunFolderError, match=r"the file of the weights must stay as it is .* start the run again"),
        recorder,
    ):
        recorder.begin()
    assert not folder.exists()
    with RunRecorder(folder, config, ProgressDisplay(shows=False), command="search") as again:
        again.begin()
    assert (folder / "run.json").is_file()
