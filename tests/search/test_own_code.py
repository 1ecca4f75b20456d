"""Networks and data that were written for other tools: what runs by itself is searched, cut and fine-tuned too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import amc
from amc.errors import ConfigurationError, DataError, RunFolderError
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder
from amc.pipeline.summary import metric_title
from amc.runtime.call import on_device
from amc.training import train_model

QUICK = {
    "agent": "random",
    "episodes": 3,
    "finetune": amc.FineTuneConfig(epochs=1, batch_size=20),
    "device": "cpu",
    "search": amc.SearchConfig(untrained=True),
}


def asking_for(dtype):
    return {**QUICK, "search": amc.SearchConfig(untrained=True, dtype=dtype)}


def images(count=120, side=16, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 4, (count,), generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return noise + classes.view(-1, 1, 1, 1) / 4, classes


class ConvNet(nn.Module):
    """Two convolutions and a head; the ways from one to the next differ."""

    def __init__(self, side=16):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12 * (side // 2) ** 2, 4)

    def forward(self, x):
        x = torch.relu(self.second(self.between(torch.relu(self.first(self.prepare(x))))))
        return self.head(x.view(x.size(0), -1))

    def between(self, x):
        return x

    def prepare(self, x):
        return x


class Shifting(ConvNet):
    """Makes a tensor of its own, in float32 whatever the network computes in."""

    def prepare(self, x):
        return x - torch.tensor([0.3])


class Widening(ConvNet):
    """Wants float32 and says so."""

    def prepare(self, x):
        return x.float()


class Remembering(ConvNet):
    """Makes a tensor when it runs first, and keeps it."""

    scale = None

    def prepare(self, x):
        if self.scale is None:
            self.scale = torch.linspace(0.5, 1, x.shape[-1])
        return x * self.scale


class SelfScaling(ConvNet):
    """Scales the bytes that it is given."""

    def prepare(self, x):
        assert x.dtype == torch.uint8
        return x.float() / 255


class Tokens(nn.Module):
    """Classifies sequences of numbers."""

    def __init__(self):
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(9, 16), nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, tokens):
        return self.head(torch.relu(self.hidden(self.words(tokens).mean(1))))


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("network", [ConvNet, Shifting, Widening])
def test_code_that_takes_no_other_layout_or_number_format(network, dtype):
    result = amc.compress(network(), (images(), images(40, seed=1)), **asking_for(dtype))
    assert result.summary["costs"]["flops"]["pruned"] <= result.summary["costs"]["flops"]["dense"] / 2


class Scattering(ConvNet):
    """Writes what it has computed into a tensor of float32, in training only if `always` is not set."""

    always = True

    def forward(self, x):
        found = super().forward(x)
        if not (self.training or self.always):
            return found
        out, even = torch.zeros(len(x), 4), torch.arange(len(x)) % 2 == 0
        out[even] = found[even]
        return out


@pytest.mark.heavy
@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("family", ["filter", "weight"])
def test_what_fails_in_bfloat16_is_trained_in_float32(monkeypatch, always, family):
    monkeypatch.setattr("amc.runtime.device.bfloat16_pays", lambda device: True)
    network = Scattering()
    network.always = always
    budget = amc.Budget(flops=0.5) if family == "filter" else amc.Budget(params=0.5)
    data, pruning = (images(), images(40, seed=1)), amc.PruningConfig(family=family)
    assert amc.compress(network, data, budget, pruning=pruning, **QUICK).summary["accuracy"]["finetuned"] >= 0
    asked = {**QUICK, "finetune": amc.FineTuneConfig(epochs=1, batch_size=20, dtype="bfloat16")}
    with pytest.raises(ConfigurationError, match=r"must run in torch\.bfloat16 to be trained so, .* finetune\.dtype"):
        amc.compress(network, data, budget, pruning=pruning, **asked)


def test_a_number_format_that_was_asked_for_is_not_silently_replaced():
    with pytest.raises(ConfigurationError, match=r"must run in torch\.bfloat16 .* choose the dtype 'float32'"):
        amc.compress(Widening(), (images(), images(40, seed=1)), **asking_for("bfloat16"))


def test_tensors_made_on_first_use_do_for_training():
    roles = amc.roles_from_loaders(images(), images(40, seed=1))
    network = Remembering()
    network.first.weight.requires_grad_(True)
    train_model(network, roles, amc.TrainConfig(epochs=1, batch_size=20), device="cpu")
    assert network.scale is not None


@pytest.mark.parametrize("as_loader", [False, True])
def test_bytes_reach_the_network_as_they_are(as_loader):
    train, test = (torch.utils.data.TensorDataset((255 * x / 2).byte(), y) for x, y in (images(), images(40, seed=1)))
    if as_loader:
        train, test = (torch.utils.data.DataLoader(part, batch_size=20) for part in (train, test))
    result = amc.compress(SelfScaling(), (train, test), **QUICK)
    assert 0 <= result.summary["accuracy"]["finetuned"] <= 100


@pytest.mark.parametrize("side", [16, 4])
def test_networks_of_double_precision_train_in_it(side):
    train, test = ((x.double(), y) for x, y in (images(side=side), images(40, side=side, seed=1)))
    result = amc.compress(ConvNet(side).double(), [train, test], **QUICK)
    assert next(result.model.parameters()).dtype == torch.float64


def test_data_in_another_number_format_than_the_network_is_refused_with_both_remedies():
    words = r"is torch.float32 where the network is torch.float16; .* x.to\(torch.float16\).*model.float\(\)"
    with pytest.raises(DataError, match=words):
        amc.compress(ConvNet(8).half(), [images(side=8), images(40, side=8, seed=1)], **QUICK)


def test_networks_of_half_precision_train_and_load_in_it(tmp_path):
    train, test = ((x.half(), y) for x, y in (images(side=8), images(40, side=8, seed=1)))
    torch.manual_seed(0)
    tuned = {**QUICK, "finetune": amc.FineTuneConfig(epochs=30, batch_size=20, learning_rate=0.1)}
    result = amc.compress(ConvNet(8).half(), (train, test), **tuned)
    assert result.summary["accuracy"]["finetuned"] > 50  # of four classes
    result.save(tmp_path / "saved")
    loaded = amc.load(tmp_path / "saved", model=ConvNet(8).half())
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float16}
    assert torch.equal(loaded(train[0][:4]), result.model.eval()(train[0][:4]))


def test_tokens_are_data_too():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 4, (160,), generator=generator)
    tokens = (torch.randint(0, 5, (160, 6), generator=generator) + classes[:, None]) % 9
    result = amc.compress(Tokens(), ((tokens[:120], classes[:120]), (tokens[120:], classes[120:])), **QUICK)
    assert result.summary["costs"]["flops"]["pruned"] <= result.summary["costs"]["flops"]["dense"] / 2


def test_gradients_are_switched_on_where_they_are_needed():
    with torch.no_grad():
        amc.compress(ConvNet(), (images(), images(40, seed=1)), **QUICK)


class Buffered(ConvNet):
    """Scales channels by a buffer that the state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.5, 2, 8).view(8, 1, 1), persistent=False)

    def between(self, x):
        return x * self.scale


class Forgetful(ConvNet):
    """Norms whose statistics the state dict leaves out, by a buffer that is not persistent."""

    def __init__(self):
        super().__init__()
        self.mid = nn.BatchNorm2d(8)
        for name in ("running_mean", "running_var"):
            value = getattr(self.mid, name)
            delattr(self.mid, name)
            self.mid.register_buffer(name, value, persistent=False)

    def between(self, x):
        return self.mid(x)


def test_statistics_outside_the_state_dict_are_saved_with_the_network(tmp_path):
    torch.manual_seed(0)
    network = Forgetful()
    network.mid.running_mean += torch.randn(8)  # as a training leaves them
    network.mid.running_var *= 3
    result = amc.compress(network, (images(), images(40, seed=1)), **QUICK)
    result.save(tmp_path / "saved")
    loaded = amc.load(tmp_path / "saved", model=Forgetful())
    assert not torch.equal(loaded.mid.running_var, torch.ones_like(loaded.mid.running_var))
    inputs = images(4)[0]
    torch.testing.assert_close(loaded(inputs), result.model.eval()(inputs))


class Video(nn.Module):
    """Convolutions in three dimensions."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8)
        self.second, self.head = nn.ConvTranspose3d(8, 12, 2, stride=2), nn.Linear(12, 4)

    def forward(self, x):
        x = x.unflatten(1, (3, -1)) if x.dim() == 4 else x  # frames among the channels
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3, 4)))


class Mixed(ConvNet):
    """A convolution in three dimensions inside a network on images."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1))

    def between(self, x):
        return self.mix(x.unsqueeze(2)).squeeze(2)


@pytest.mark.parametrize(
    ("network", "channels"), [(Buffered, 3), (Mixed, 3), (Video, 6)], ids=["buffer", "volume inside", "volumes"]
)
def test_buffers_outside_the_state_dict_and_weights_of_five_axes_are_cut(network, channels):
    torch.manual_seed(0)
    data = (images(channels=channels), images(40, channels=channels, seed=1))
    result = amc.compress(network(), data, **QUICK)
    assert result.summary["costs"]["flops"]["pruned"] <= result.summary["costs"]["flops"]["dense"] / 2


def test_volumes_of_five_axes_are_cut():
    (train, classes), (test, test_classes) = images(channels=6), images(40, channels=6, seed=1)
    data = ((train.unflatten(1, (3, -1)), classes), (test.unflatten(1, (3, -1)), test_classes))
    result = amc.compress(Video(), data, **QUICK)
    assert result.summary["costs"]["flops"]["pruned"] <= result.summary["costs"]["flops"]["dense"] / 2


@pytest.mark.parametrize("training", [True, False])
def test_the_dense_network_is_left_in_its_mode(training):
    model = ConvNet().train(training)
    amc.compress(model, (images(), images(40, seed=1)), **QUICK)
    assert all(module.training == training for module in model.modules())


def test_results_are_not_saved_over_a_run(tmp_path):
    result = amc.compress(ConvNet(), (images(), images(40, seed=1)), **QUICK)
    result.save(tmp_path / "mine")
    result.save(tmp_path / "mine")  # its own folder may be written again
    assert "Conv2d(" not in repr(result)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds a run of the command line"):
        result.save(tmp_path)


@pytest.mark.parametrize("own", ["evaluate", "tune"])
def test_own_functions_get_networks_on_the_device_that_the_network_is_on(own):
    functions = {"evaluate": lambda network: 1.0, own: lambda network: 1.0}
    task = prepare(
        ConvNet(),
        None,
        amc.Budget(flops=0.5),
        pruning=amc.PruningConfig(),
        finetune=amc.FineTuneConfig(),
        example_input=images(1)[0],
        **functions,
    )
    assert task.device == "cpu"  # "auto" would be CUDA where there is one


def test_example_inputs_of_any_form_follow_the_network():
    example = {"tokens": torch.zeros(1), "parts": [torch.zeros(2), 3]}
    moved = on_device(example, torch.device("meta"))
    assert [tensor.device.type for tensor in (moved["tokens"], moved["parts"][0])] == ["meta", "meta"]
    assert moved["parts"][1] == 3


class Listening(Recorder):
    """Keeps the lines that are said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_figures_come_with_how_sure_they_are():
    torch.manual_seed(0)
    listening = Listening()
    result = amc.compress(ConvNet(), (images(), images(40, seed=1)), out=listening, **QUICK)
    share = result.summary["accuracy"]["dense"] / 100
    error = 100 * (share * (1 - share) / 40) ** 0.5
    assert result.summary["metric"].endswith(f"standard error {error:.2f} (40 images)")
    assert "the search split has 24 images: a reward moves in steps of 0.042" in listening.lines


def test_masks_of_pytorch_become_zeros_of_the_weights():
    model = ConvNet()
    prune.l1_unstructured(model.second, "weight", 0.5)
    x = images(4)[0]
    before = model(x).detach()
    result = amc.compress(model, (images(), images(40, seed=1)), **QUICK)
    assert torch.equal(model(x).detach(), before)
    assert int((model.second.weight == 0).sum()) == model.second.weight.numel() // 2
    assert "second" in result.allocation.widths  # it may be cut, which a weight computed at run time may not


@pytest.mark.parametrize(("dense", "found"), [(100.0, "right"), (0.0, "wrong")])
def test_where_all_images_are_right_a_bound_stands_in_place_of_a_standard_error_of_zero(dense, found):
    data = amc.roles_from_loaders(images(), images(40, seed=1))
    title = metric_title(SimpleNamespace(measure=None, data=data), dense)
    assert title.endswith(f"dense: all 40 images {found}, 7.2 off at most (95% sure)")
    assert pytest.approx(0.05, abs=1e-3) == (1 - 0.072) ** 40  # so rarely are 40 right where 7.2% are wrong


class Sequences(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.layers, self.head = nn.Linear(4, 12), kind(12, 24, batch_first=True), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.layers(self.embed(x))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_what_reads_a_recurrent_layer_is_refit(kind):
    torch.manual_seed(0)
    net, x = Sequences(kind), torch.randn(300, 5, 4)
    with torch.no_grad():
        data = (x, net(x).argmax(1))

    def error(recovery):
        options = {"agent": "uniform", "finetune": amc.FineTuneConfig(epochs=0), "device": "cpu"}
        pruned = amc.compress(net, (data, data), pruning=amc.PruningConfig(recovery=recovery), **options).model
        assert pruned.layers.hidden_size < 24  # by default: its state is no residual stream
        with torch.no_grad():
            return float((pruned(x) - net(x)).square().mean())

    assert error("sequential") < error("none") / 4
