"""What `--help` shows."""

import re

import pytest

from agents.registry import AGENTS, create_agent
from amc.cli.main import COMMANDS, main
from amc.utils.options import options_of


def help_of(capsys, *words):
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS.names())
def test_help_explains_every_option(name, capsys):
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"usage: amc {name}" in printed
    assert "examples:" in printed
    assert "<class" not in printed


@pytest.mark.parametrize(("name", "place"), [("evaluate", "RUN"), ("finetune", "RUN"), ("export", "RUN")])
def test_help_names_the_positional_argument(name, place, capsys):
    assert main([name, "--help"]) == 0
    assert f"positional arguments:\n  {place} " in capsys.readouterr().out


def test_help_shows_how_options_of_the_agent_are_given(capsys):
    assert main(["compress", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "  --agent_options.KEY VALUE" in printed
    assert "KEY=VALUE" not in printed


def test_overview_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in COMMANDS.names():
        assert f"  {name}" in printed


@pytest.mark.parametrize("name", AGENTS.names())
def test_help_explains_every_option_of_an_agent(name, capsys):
    printed = help_of(capsys, "search", "--agent", name).partition("\nagents:\n")[2]
    assert f"  {name} " in printed
    explained = re.findall(r"^  (\w+)\n((?:      .*\n?)+)", printed, re.MULTILINE)
    assert [option for option, _ in explained] == [option.name for option in options_of(AGENTS, name)]
    for _, text in explained:
        assert re.search(r"\w\w.* \(default:", " ".join(text.split()))
    assert ("has no options" in printed) == (not explained)


def test_the_defaults_of_an_agent_are_those_shown(capsys):
    shown = {option.name: option.default for option in options_of(AGENTS, "ddpg")}
    config = create_agent("ddpg").config
    assert {name: getattr(config, name) for name in shown if name != "preset"} == {
        name: default for name, default in shown.items() if name != "preset"
    }
    printed = " ".join(help_of(capsys, "search", "--agent=ddpg").split())
    assert "count as episodes (default: [uniform, erk, shallow, deep])" in printed
    assert "(default: unset)" in printed


def test_agents_are_listed_where_they_can_be_chosen(capsys):
    for command in ("compress", "search", "study", "bench"):
        assert "'amc search --agent NAME --help' explains the options of an agent." in help_of(capsys, command)
    assert "\nagents:\n" not in help_of(capsys, "evaluate")


def test_the_bench_shows_its_own_number_of_episodes_and_leaves_that_of_a_file(tmp_path, capsys):
    assert "--episodes N Candidates that the agent may try (default: 20)" in " ".join(help_of(capsys, "bench").split())
    file = tmp_path / "run.yaml"
    file.write_text("episodes: 7\n")
    for words, episodes in (([], 20), (["--config", str(file)], 7), (["--episodes", "3"], 3)):
        assert main(["bench", *words, "--print_config"]) == 0
        assert f"episodes: {episodes}\n" in capsys.readouterr().out
