"""Registries: names, the user's own code, and what installed packages add."""

from __future__ import annotations

import sys

import pytest

from agents import AGENTS, create_agent
from amc.errors import ConfigurationError, UnknownNameError
from amc.utils.registry import Registry

AGENT = '''
class Lazy:
    """An agent from elsewhere."""

    name = "lazy"

    def __init__(self, depth: int = 3) -> None:
        self.depth = depth

    def search(self, env, episodes, *, seed, on_episode=None):
        """Does nothing."""
'''


def install(folder, monkeypatch, points, module="elsewhere"):
    """Puts a distribution with entry points and one module on the path, as pip would."""
    (folder / f"{module}.py").write_text(AGENT)
    info = folder / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[amc.tests]", *points, ""]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.fixture
def registry():
    found = Registry("agent", "amc.tests")
    found.register("own", dict, "the project's")
    return found


def test_installed_packages_add_names(tmp_path, monkeypatch, registry):
    install(tmp_path, monkeypatch, ["lazy = elsewhere:Lazy"])
    assert "lazy" in registry
    assert registry.names() == ["own", "lazy"]
    assert [entry.summary for entry in registry.entries()] == ["the project's", "from elsewhere"]
    assert registry.get("lazy")(depth=5).depth == 5


def test_no_package_is_imported_before_it_is_asked_for(tmp_path, monkeypatch, registry):
    install(tmp_path, monkeypatch, ["lazy = elsewhere:Lazy"])
    assert registry.names() == ["own", "lazy"]
    assert "elsewhere" not in sys.modules


def test_a_package_that_takes_a_name_is_left_out_and_named(tmp_path, monkeypatch, registry):
    install(tmp_path, monkeypatch, ["own = elsewhere:Lazy"])
    with pytest.warns(RuntimeWarning, match="the agent 'own' of elsewhere is left out: the name is taken"):
        assert registry.names() == ["own"]
    assert registry.get("own") is dict


@pytest.mark.parametrize("target", ["elsewhere:Missing", "nowhere:Lazy"])
def test_a_damaged_package_is_named_when_it_is_asked_for(tmp_path, monkeypatch, registry, target):
    install(tmp_path, monkeypatch, [f"lazy = {target}"])
    with pytest.raises(ConfigurationError, match="the agent 'lazy' of elsewhere cannot be imported"):
        registry.get("lazy")


def test_agents_of_installed_packages_are_chosen_by_name(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, [])
    (tmp_path / "elsewhere-1.0.dist-info" / "entry_points.txt").write_text("[amc.agents]\nlazy = elsewhere:Lazy\n")
    monkeypatch.setattr(AGENTS, "_entries", dict(AGENTS._entries))
    monkeypatch.setattr(AGENTS, "_looked", False)
    assert create_agent("lazy:depth=4").depth == 4


def test_code_in_the_current_folder_is_chosen_by_reference(tmp_path, monkeypatch, registry):
    (tmp_path / "mine.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert registry.get("mine:Lazy")().depth == 3
    with pytest.raises(ConfigurationError, match="module 'mine' has no attribute 'Lasy'; did you mean 'Lazy'"):
        registry.get("mine:Lasy")
    assert str(tmp_path) not in sys.path


def test_registries_that_are_not_public_take_no_references():
    with pytest.raises(UnknownNameError, match="unknown command 'json:dumps'"):
        Registry("command").get("json:dumps")


@pytest.mark.parametrize("name", ["", "a:b", "a=b", "a,b", "a b", "a;b"])
def test_names_that_could_not_be_written_are_refused(name, registry):
    with pytest.raises(ConfigurationError, match="agent names must be plain words"):
        registry.register(name, dict)


def test_names_are_unique(registry):
    with pytest.raises(ConfigurationError, match="'own' is registered already"):
        registry.register("own", list)
