"""No command writes into the folder of another kind: options and agents there would be replaced."""

import pytest

from amc.cli.main import main
from amc.errors import RunFolderError
from amc.storage.folder_kinds import A_RUN, A_STUDY, A_STUDY_OF_PROBLEMS, A_TRAINING, check_kind
from amc.study.study_folder import working_in

HELD = [
    (A_RUN, ("config.yaml", "run.json", "agent.safetensors")),
    (A_RUN, ("policy.json", "model.safetensors")),  # as CompressionResult.save leaves it
    (A_STUDY, ("config.yaml", "study.jsonl")),
    (A_STUDY, ("config.yaml", "rewards.jsonl")),
    (A_STUDY_OF_PROBLEMS, ("problems.yaml", "study.md")),
    (A_TRAINING, ("config.yaml", "training.jsonl", "agent.safetensors")),
]
COMMANDS = {
    A_STUDY: ["study", "--agents", "uniform"],
    A_STUDY_OF_PROBLEMS: ["study", "--problems", "problems.yaml"],
    A_TRAINING: ["train", "--episodes", "2"],
    A_RUN: ["search", "--episodes", "1"],
}


OTHERS = [(held, names, kind) for held, names in HELD for kind in COMMANDS if held != kind]


@pytest.mark.parametrize(("held", "names", "kind"), OTHERS)
def test_a_folder_of_another_kind_is_refused_and_stays(held, names, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.yaml").write_text("digits: {}\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("kept\n")
    assert main([*COMMANDS[kind], "--out", "folder"]) == 2
    error = capsys.readouterr().err
    assert f"holds {held}; " in error, error
    assert "another folder" in error
    assert {entry.name: entry.read_text() for entry in folder.iterdir()} == dict.fromkeys(names, "kept\n")


@pytest.mark.parametrize("kind", [A_STUDY, A_STUDY_OF_PROBLEMS, A_TRAINING])
def test_a_folder_with_files_of_the_user_is_refused_and_stays(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.yaml").write_text("digits: {}\n")
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    assert main([*COMMANDS[kind], "--out", "photos"]) == 2
    error = capsys.readouterr().err
    assert "must be new or empty, or that of the same command, and photos holds 'cats'; choose another --out" in error
    assert [entry.name for entry in (tmp_path / "photos").iterdir()] == ["cats"]


@pytest.mark.parametrize("names", [(), (".lock", "config.yaml", "dense.safetensors"), ("study.jsonl",)])
def test_the_folder_of_an_earlier_start_may_be_used_again(names, tmp_path):
    for name in names:
        (tmp_path / name).write_text("")
    with working_in(tmp_path):
        (tmp_path / "study.jsonl").touch()


@pytest.mark.parametrize("name", ["notes.txt", "config.yaml", ".lock"])
def test_a_folder_without_results_is_free_for_any_kind(name, tmp_path):
    (tmp_path / name).write_text("")
    for kind in COMMANDS:
        check_kind(tmp_path, kind)
        check_kind(tmp_path / "new", kind)


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != A_STUDY_OF_PROBLEMS])
def test_options_of_the_users_own_are_not_replaced(kind, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    words = [*COMMANDS[kind], "--out", str(tmp_path), "--config", str(tmp_path / "config.yaml")]
    assert main(words) == 2
    assert "--out" in capsys.readouterr().err
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"config.yaml": "seed: 3\n"}


def test_the_kind_that_a_folder_holds_is_named(tmp_path):
    (tmp_path / "training.jsonl").write_text("")
    with pytest.raises(
        RunFolderError, match=r"must be new, or hold a run, but holds the training of a policy; give an"
    ):
        check_kind(tmp_path, A_RUN)
