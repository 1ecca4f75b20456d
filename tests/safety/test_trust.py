"""Files are data: code that a file names runs only where the caller asks for it."""

import json
import sys
import time

import pytest
import torch
import yaml
from torch import nn

import amc
from amc.cli.consent import _references
from amc.cli.main import main
from amc.data.sources.datasets import LOADERS
from amc.errors import CheckpointError, ConfigurationError, ConsentError, ModelError
from amc.models import create_model
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource

QUICK = [
    "--data.train_images", "120", "--data.test_images", "30", "--data.calibration_images", "32",
    "--pruning.criterion", "l2", "--pruning.recovery", "none",  # quicker than the defaults
]  # fmt: skip
ATTACKS = {
    "os:system": {"command": "touch stolen"},
    "subprocess:Popen": {"args": ["touch", "stolen"]},
    "shutil:rmtree": {"path": "precious"},
    "torch:load": {"f": "evil.pt", "weights_only": False},
    "builtins:exec": {"source": "open('stolen', 'w')"},
    "evil_module:Net": {},
}

OWN_CLASS = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a saved network, something precious, and a module that leaves a trace when it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "evil_module.py").write_text("open('stolen', 'w')\nNet = None\n")
    model = create_model("digits_resnet", seed=0)
    (tmp_path / "run").mkdir()
    save_network(tmp_path / "run", model, describe(model, None, {}, ModelSource("name", "digits_resnet")))
    yield tmp_path
    sys.modules.pop("evil_module", None)


def name_source(folder, kind, reference, options):
    file = folder / "run" / "architecture.json"
    record = json.loads(file.read_text())
    record["source"] = {"kind": kind, "reference": reference, "options": options}
    file.write_text(json.dumps(record))


def check_untouched(folder):
    assert not (folder / "stolen").exists()
    assert (folder / "precious").exists()


@pytest.mark.parametrize("kind", ["name", "class"])
@pytest.mark.parametrize("reference", ATTACKS)
def test_nothing_that_a_file_names_is_carried_out(here, reference, kind):
    name_source(here, kind, reference, ATTACKS[reference])
    path = list(sys.path)
    with pytest.raises(ConsentError, match=r"not run unless you ask for it.*trust=True.*--trust.*model="):
        amc.load("run")
    assert sys.path == path
    check_untouched(here)


@pytest.mark.parametrize("command", ["evaluate", "export", "finetune"])
def test_no_command_carries_it_out(here, command, capsys):
    name_source(here, "class", "os:system", {"command": "touch stolen"})
    assert main([command, "run"]) == 2
    assert "--trust" in capsys.readouterr().err
    check_untouched(here)


@pytest.mark.parametrize("reference", [name for name in ATTACKS if name != "evil_module:Net"])
def test_even_with_trust_only_what_may_make_a_network_is_called(here, reference):
    name_source(here, "class", reference, ATTACKS[reference])
    with pytest.raises(ModelError, match=r"must name an nn\.Module class or a function that makes one"):
        amc.load("run", trust=True)
    check_untouched(here)


def test_trust_changes_no_import_path_for_a_file(here):
    name_source(here, "class", "evil_module:Net", {})
    path = list(sys.path)
    with pytest.raises(ModelError, match=r"must be importable: cannot import 'evil_module'.*PYTHONPATH"):
        amc.load("run", trust=True)
    assert sys.path == path
    check_untouched(here)


def test_trust_builds_the_users_class(here, monkeypatch):
    (here / "own_trusted.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n  def __init__(s): super().__init__(3, 2)\n"
    )
    monkeypatch.syspath_prepend(here)
    model = create_model("own_trusted:Net")
    save_network(here / "run", model, describe(model, None, {}, ModelSource.of(model)))
    with pytest.raises(ConsentError, match="own_trusted:Net"):
        amc.load("run")
    assert torch.equal(amc.load("run", trust=True).weight, model.weight)
    assert torch.equal(amc.load("run", nn.Linear(3, 2)).weight, model.weight)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weights": "DEFAULT"}, "must not fetch trained weights, and has weights"),
        ({"pretrained": True}, "must not fetch trained weights, and has pretrained"),
        ({"num_classes": "10"}, "num_classes in architecture.json has a value of another type"),
        ({"num_classes": True}, "num_classes in architecture.json has a value of another type"),
        ({"block": "x"}, "may be num_classes, .* not 'block'"),
    ],
)
def test_options_of_a_file_are_plain(here, options, expected):
    name_source(here, "name", "resnet18", options)
    with pytest.raises(CheckpointError, match=expected):
        amc.load("run")


def test_weights_that_are_not_wanted_may_be_named(here):
    name_source(here, "name", "digits_resnet", {"pretrained": False})
    with pytest.raises(ModelError, match="pretrained"):
        amc.load("run")  # the network itself has no such option


def test_names_of_hubs_are_none_of_timms(here):
    pytest.importorskip("timm")
    name_source(here, "name", "timm:hf-hub:somebody/something", {})
    with pytest.raises(ConfigurationError, match="unknown timm model"):
        amc.load("run")


@pytest.fixture
def own_run(here, capsys):
    """A run of the user's own network, as the command line makes it."""
    (here / "net_of_the_user.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),"
        " nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))\n"
    )
    words = [
        "search",
        "--model",
        "net_of_the_user:build",
        "--untrained",
        "true",
        *QUICK,
        "--agent",
        "uniform",
        "--episodes",
        "1",
        "--out",
        "searched",
    ]
    assert main(words) == 0
    assert "(continue with: amc prune searched --trust)" in capsys.readouterr().out
    yield here
    sys.modules.pop("net_of_the_user", None)


def test_later_commands_on_the_users_own_run_say_trust(own_run, capsys):
    assert main(["prune", "searched"]) == 2
    assert "'net_of_the_user:build', which is not run unless you ask for it" in capsys.readouterr().err
    assert main(["prune", "searched", "--trust", "--out", "pruned"]) == 0
    assert main(["evaluate", "pruned", "--trust"]) == 0
    assert main(["finetune", "pruned", "--trust", "--finetune.epochs", "1", "--out", "tuned"]) == 0
    assert main(["export", "pruned", "--trust", "--format", "torch_export", "--seconds", "0"]) == 0
    assert main(["export", "pruned", "--trust", "--format", "safetensors", "--seconds", "0"]) == 0
    capsys.readouterr()
    for words in (["evaluate", "pruned"], ["finetune", "pruned"], ["export", "pruned"]):
        assert main(words) == 2
        assert "--trust" in capsys.readouterr().err


def test_a_run_of_the_users_own_network_resumes_with_trust_or_its_name(own_run, capsys):
    for words, status in (([], 2), (["--trust"], 0), (["--model", "net_of_the_user:build"], 0)):
        assert main(["search", "--out", "searched", "--resume", *words]) == status
    assert "give --trust, or name net_of_the_user:build on the command line yourself" in capsys.readouterr().err
    assert main(["search", "--model", "net_of_the_user:build", "--out", "searched"]) == 2
    assert "--out searched --resume --trust" in capsys.readouterr().err


REFERENCES = {
    "model": {"model": "evil_module:Net"},
    "agent": {"agent": "evil_module:Net"},
    "an option of the agent": {"agent": {"name": "ddpg", "warm_start": ["uniform", "evil_module:Net"]}},
    "agents to compare with": {"compare": "uniform,evil_module:Net"},
    "reward": {"reward": "evil_module:Net"},
    "criterion": {"pruning": {"criterion": "evil_module:Net:order=2"}},
}


@pytest.mark.parametrize("option", REFERENCES)
def test_what_a_configuration_file_names_needs_trust_too(here, option, capsys):
    (here / "evil.yaml").write_text(yaml.safe_dump(REFERENCES[option]))
    assert main(["search", "--config", "evil.yaml"]) == 2
    assert "names code, 'evil_module:Net', which is not run unless you ask for it" in capsys.readouterr().err
    check_untouched(here)


@pytest.mark.parametrize(
    "words",
    [
        ["compress", "--config", "evil.yaml"],
        ["compress", "--model", "digits_resnet", "--config", "evil.yaml"],
        ["inspect", "--config", "evil.yaml"],
        ["bench", "--config", "evil.yaml"],
        ["study", "--out", "study", "--config=evil.yaml"],
        ["prune", "run"],
        ["evaluate", "run"],
        ["finetune", "run"],
        ["compress", "--out", "run", "--resume"],
    ],
)
def test_no_command_runs_what_a_file_of_options_names(here, words, capsys):
    for file in ("evil.yaml", "run/config.yaml"):
        (here / file).write_text(yaml.safe_dump({"model": "evil_module:Net"}))
    (here / "run" / "run.json").write_text(json.dumps({"command": "compress", "files": {}, "digests": {}}))
    (here / "run" / "policy.json").write_text(json.dumps({"kind": "filter", "widths": {}}))
    assert main(words) == 2, words
    assert "'evil_module:Net', which is not run unless you ask for it" in capsys.readouterr().err
    check_untouched(here)


@pytest.mark.parametrize("extra", [{"agents": ["evil_module:Net"]}, {"trust": True, "model": "evil_module:Net"}])
def test_a_file_cannot_consent(here, extra, capsys):
    (here / "evil.yaml").write_text(yaml.safe_dump(extra))
    assert main(["study", "--out", "study", "--config", "evil.yaml"]) == 2
    assert "'evil_module:Net', which is not run unless you ask for it" in capsys.readouterr().err
    check_untouched(here)


@pytest.mark.parametrize("option", ["config", "trust", "resume", "print_config"])
def test_a_configuration_file_names_no_other_and_does_not_consent(here, option, capsys):
    (here / "other.yaml").write_text(yaml.safe_dump({"model": "evil_module:Net"}))
    (here / "evil.yaml").write_text(yaml.safe_dump({option: "other.yaml" if option == "config" else True}))
    assert main(["search", "--config", "evil.yaml"]) == 2
    assert f"unknown option '{option}'" in capsys.readouterr().err
    check_untouched(here)


@pytest.mark.parametrize("extra", [{"trust": True}, {"out": "elsewhere"}, {"transfer": "elsewhere"}])
def test_options_in_a_runs_folder_are_those_of_a_run(here, extra, capsys):
    (here / "run" / "config.yaml").write_text(yaml.safe_dump(extra))
    assert main(["prune", "run"]) == 2
    assert "unknown option" in capsys.readouterr().err


def test_options_of_agents_are_no_references(here):
    found = [*_references({"agent": "ddpg:preset=paper", "model": "timm:resnet18", "pruning": {"bounds": "a.*=0:0.5"}})]
    assert found == []


@pytest.mark.parametrize("text", ["a:" + "b" * 20_000 + "=", "a:b" + ".c" * 20_000 + "=", "a." * 20_000 + ":"])
def test_no_text_takes_long_to_be_searched_for_references(text):
    start = time.process_time()
    assert [*_references({"agent": text})] == []
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "reference", ["evil_module:é", "evil-module:Net", "evil!:Net", "évil:Net", "evil_module:", ":x"]
)
def test_references_are_names_and_nothing_else(here, reference):
    with pytest.raises(ConfigurationError, match=r"a reference must read 'package\.module:attribute'"):
        create_model(reference)
    check_untouched(here)


@pytest.fixture
def downloads(monkeypatch):
    """What the loader of a data set that could be fetched is told of downloads."""
    seen = []

    def load(options):
        seen.append(options.download)
        return LOADERS["digits"](options)

    monkeypatch.setitem(LOADERS, "mnist", load)
    return seen


DOWNLOADING = {"data": {"name": "mnist", "download": True}}


@pytest.mark.parametrize("command", ["compress", "search", "inspect"])
def test_a_file_of_options_starts_no_download(here, downloads, command, capsys):
    (here / "options.yaml").write_text(yaml.safe_dump(DOWNLOADING))
    assert main([command, "--config", "options.yaml"]) == 2
    assert "asks for a download, which is not started unless you ask for it: give --data.download true" in (
        capsys.readouterr().err
    )
    assert not downloads


@pytest.mark.parametrize(
    "words",
    [
        ["search", "--model", "run", "--agent", "uniform", *QUICK],  # an untrained network ends both after its data
        ["compress", "--model", "run", "--agent", "uniform", *QUICK],
        ["evaluate", "run", *QUICK[:4]],
        ["pack", "run", "--pack_epochs", "0", *QUICK[:4]],
        ["finetune", "run", "--finetune.epochs", "1", *QUICK[:4]],
    ],
    ids=lambda words: words[0],
)
def test_a_run_from_elsewhere_starts_no_download(here, downloads, words):
    (here / "run" / "config.yaml").write_text(yaml.safe_dump(DOWNLOADING))
    main(words)
    assert downloads == [False]


def test_a_file_of_variations_starts_no_download(here, downloads, capsys):
    (here / "variations.yaml").write_text(yaml.safe_dump({"usual": {}, "other": DOWNLOADING}))
    assert main(["study", "--variations", "variations.yaml", "--out", "study"]) == 2
    assert "variations.yaml asks for a download" in capsys.readouterr().err
    assert not downloads


@pytest.mark.parametrize("words", [["--data.download", "true"], ["--data.download=true"], ["--trust"]])
def test_a_download_that_the_command_line_asks_for_is_begun(here, downloads, words):
    (here / "options.yaml").write_text(yaml.safe_dump(DOWNLOADING))
    quick = [*QUICK, "--agent", "uniform", "--train_first", "false", "--untrained", "true"]
    assert main(["search", "--config", "options.yaml", *words, *quick, "--out", "searched"]) == 0
    assert main(["search", "--resume", "--out", "searched"]) == 0
    assert main(["search", "--resume", "--out", "searched", "--data.download", "true"]) == 0
    assert downloads == [True, False, True]
