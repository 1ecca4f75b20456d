"""What `--help` shows."""

import re
from pathlib import Path

import pytest

import amc
from agents.registry import AGENTS, create_agent
from amc.cli.choices_help import choices_help, names_of, plural, registries_of
from amc.cli.commands import COMMANDS
from amc.cli.main import main
from amc.cli.spelling import CHOICES, PLAIN_CHOICES
from amc.utils.options import options_of
from amc.utils.registry import import_object

COMMAND_OF = {"agents": "study", "reward_names": "train", "initialisation": "pack"}
"""The command that has an option, where it is not `compress`."""


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


def test_whatever_others_can_add_to_is_listed():
    """Every registry with a group of entry points is behind an option, so that its names appear in the help."""
    root = Path(amc.__file__).parent.parent
    registries = [
        import_object(f"{'.'.join(file.relative_to(root).with_suffix('').parts)}:{name}")
        for package in ("amc", "agents", "envs")
        for file in (root / package).rglob("*.py")
        for name in re.findall(r'^([A-Z_]+): .* = Registry\(\s*"[\w -]+", "amc\.', file.read_text(), re.MULTILINE)
    ]
    assert len(registries) > 10
    listed = [registry for dest in (*CHOICES, *PLAIN_CHOICES) for registry in registries_of(dest)]
    assert [registry.kind for registry in registries if not any(registry is other for other in listed)] == []


def test_help_lists_whatever_is_chosen_by_name(capsys):
    for dest in set(CHOICES) - {"agents"}:
        printed = help_of(capsys, COMMAND_OF.get(dest, "compress"))
        text = " ".join(printed.partition(f"  --{dest} ")[2].partition("  --")[0].split())
        for registry in registries_of(dest):
            section = printed.partition(f"\n{plural(registry.kind)}:\n")[2].partition("\n\n")[0]
            for entry in registry.entries():
                assert re.search(rf"^  {entry.name} +{re.escape(entry.summary)}$", section, re.MULTILINE), (dest, entry)
                assert re.search(rf"\b{entry.name}\b", text), (dest, entry)


@pytest.mark.parametrize("dest", sorted(PLAIN_CHOICES))
def test_help_lists_names_that_have_no_options(dest, capsys):
    printed = help_of(capsys, "compress")
    assert f"  --{dest} NAME" in printed
    for registry in registries_of(dest):
        section = printed.partition(f"\n{plural(registry.kind)}:\n")[2].partition("\n\n")[0]
        assert {line.split()[0] for line in section.splitlines()} == set(registry.names())


@pytest.mark.parametrize("dest", sorted(CHOICES))
def test_help_explains_the_options_of_every_name(dest, capsys):
    command, names = COMMAND_OF.get(dest, "compress"), names_of(dest)
    for name in names:
        words = [f"--{dest}", name]
        # The whole help once: it has the same text for every name, and building its hundred options is what takes long.
        printed = help_of(capsys, command, *words) if name == names[0] else choices_help(command, {dest: names}, words)
        registry = next(registry for registry in registries_of(dest) if name in registry)
        options = options_of(registry, name)
        assert (f"{name} has no options." in printed) == (not options)
        for option in options:
            assert option.summary, f"{registry.kind} {name} must explain {option.name} in its docstring"
            text = re.search(rf"^  {option.name}\n((?:      .*\n?)+)", printed, re.MULTILINE)
            assert re.search(r"\w\w.* \((default:|must be given)", " ".join(text[1].split()))


OWN = '''
class Mine:
    """An agent of the user's own."""

    name = "mine"

    def __init__(self, depth: int = 3) -> None:
        """Takes the option.

        Args:
            depth: How deep it looks.
        """
'''


def test_code_of_the_users_own_is_named_and_explained_like_the_projects(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    printed = help_of(capsys, "search", "--agent", "my_parts:Mine")
    assert "options of my_parts:Mine, as in --agent 'my_parts:Mine:KEY=VALUE" in printed
    assert "How deep it looks (default: 3)" in printed
    assert main(["search", "--agent", "my_parts:Mine:dept=5"]) == 2
    assert "agent 'my_parts:Mine' has no option 'dept'; did you mean 'depth'?" in capsys.readouterr().err


def test_overview_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in COMMANDS.names():
        assert f"  {name}" in printed


def test_the_defaults_of_an_agent_are_those_shown(capsys):
    shown = {option.name: option.default for option in options_of(AGENTS, "ddpg")}
    config = create_agent("ddpg").config
    assert {name: getattr(config, name) for name in shown if name != "preset"} == {
        name: default for name, default in shown.items() if name != "preset"
    }
    printed = " ".join(help_of(capsys, "search", "--agent=ddpg").split())
    assert "Unset: uniform, erk, shallow and deep for channels" in printed
    assert "(default: unset)" in printed


def test_agents_are_listed_where_they_can_be_chosen(capsys):
    for command in ("compress", "search", "study", "bench"):
        assert "\nagents:\n  ddpg " in help_of(capsys, command)
    assert "\nagents:\n" not in help_of(capsys, "evaluate")


def test_the_bench_shows_its_own_number_of_episodes_and_leaves_that_of_a_file(tmp_path, capsys):
    assert "--episodes N Candidates that the agent may try (default: 20)" in " ".join(help_of(capsys, "bench").split())
    file = tmp_path / "run.yaml"
    file.write_text("episodes: 7\n")
    for words, episodes in (([], 20), (["--config", str(file)], 7), (["--episodes", "3"], 3)):
        assert main(["bench", *words, "--print_config"]) == 0
        assert f"episodes: {episodes}\n" in capsys.readouterr().out
