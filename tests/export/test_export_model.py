"""Exported files: the same outputs, the smaller size, and nothing left behind by failures."""

from __future__ import annotations

from contextlib import suppress

import numpy
import pytest
import torch
from torch import nn

from amc.errors import CheckpointError, ExportError, UnknownNameError
from amc.export import FORMATS, export_model, exporting
from amc.export.formats import Exportable
from amc.export.graph import arguments
from amc.export.torch_format import TorchExportFormat
from amc.models import create_model
from amc.runtime.call import call
from amc.runtime.inputs import fresh_input, tensors_in
from amc.storage.architecture import describe
from amc.storage.load import load, read_architecture
from amc.storage.source import ModelSource

GRAPH_BYTES = 60_000  # what a graph takes besides its weights; dense weights would take more


def read_onnx(path):
    """Runs an ONNX file by nothing but onnxruntime, with the inputs found by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs):
        names = [entry.name for entry in session.get_inputs()]
        feed = inputs if isinstance(inputs, dict) else {names[0]: inputs}
        return [torch.from_numpy(out) for out in session.run(None, {n: feed[n].numpy() for n in names})]

    return run


def read_program(path):
    module = torch.export.load(path).module()

    def run(inputs):
        positional, named = arguments(inputs)
        return tensors_in(module(*positional, **named))

    return run


READERS = {"onnx": read_onnx, "torch_export": read_program}


@pytest.mark.parametrize("network", ["residual", "depthwise", "text"])
@pytest.mark.parametrize("format_name", READERS)
def test_a_graph_computes_the_same_at_any_batch_size_and_is_as_small_as_its_weights(
    format_name, network, tmp_path, request
):
    model, example = request.getfixturevalue(network)
    path = tmp_path / "new" / "network.pt2"
    report = export_model(model, path, format_name, example)
    run = READERS[format_name](path)
    for size in (1, 5):
        inputs = fresh_input(example, size, torch.Generator().manual_seed(7))
        expected = tensors_in(call(model, inputs))
        assert all(len(tensor) == size for tensor in expected)
        for output, tensor in zip(run(inputs), expected, strict=True):
            torch.testing.assert_close(output, tensor.detach(), rtol=1e-4, atol=1e-4 * tensor.abs().max().item())
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    assert weights <= report.size_bytes <= weights + GRAPH_BYTES
    assert report.size_bytes == path.stat().st_size
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert 0 <= report.difference < 1e-4


class TwoClamps(nn.Module):
    """One tensor within two pairs of bounds, as quantisation-aware projections have it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)
        for name, bound in zip("abcd", (-1.0, 1.0, -0.5, 0.5), strict=True):
            self.register_buffer(name, torch.tensor(bound))

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.clamp(x, self.a, self.b) + torch.clamp(x, self.c, self.d))


def test_a_graph_that_the_exporters_own_simplifications_break_is_written_without_them(tmp_path):
    torch.manual_seed(0)
    model, inputs = TwoClamps().eval(), 3 * torch.randn(7, 6)
    export_model(model, tmp_path / "clamps.onnx", "onnx", torch.zeros(2, 6))
    (output,) = read_onnx(tmp_path / "clamps.onnx")(inputs)
    torch.testing.assert_close(output, model(inputs).detach())


class Attention(nn.Module):
    """Fused attention over the axes that networks have for it."""

    def __init__(self, axes, masked):
        super().__init__()
        self.axes, self.masked, self.project = axes, masked, nn.Linear(8, 24)

    def forward(self, x):
        parts = [self.on_axes(part) for part in self.project(x).chunk(3, -1)]
        mask = x[:, :, 0].mean(1).reshape(-1, *[1] * (self.axes - 1)) if self.masked else None
        mask = None if mask is None else mask.expand(*parts[0].shape[:-1], parts[0].shape[-2])
        return nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)

    def on_axes(self, part):
        if self.axes == 3:  # the heads are a part of the batch
            return part.unflatten(-1, (2, 4)).transpose(1, 2).flatten(0, 1)
        if self.axes == 4:
            return part.unflatten(-1, (2, 4)).transpose(1, 2)
        return part.unflatten(-1, (2, 4)).unflatten(1, (2, 3)).permute(0, 3, 1, 2, 4)  # windows of three tokens


@pytest.mark.heavy
@pytest.mark.parametrize(("axes", "masked"), [(3, False), (4, False), (5, False), (4, True), (5, True)])
def test_attention_over_any_number_of_axes_is_written(axes, masked, tmp_path):
    torch.manual_seed(0)
    model, inputs = Attention(axes, masked).eval(), torch.randn(5, 6, 8)
    if axes == 3:
        model = nn.Sequential(model, nn.Unflatten(0, (-1, 2)))
    export_model(model, tmp_path / "attention.onnx", "onnx", torch.randn(2, 6, 8))
    (output,) = read_onnx(tmp_path / "attention.onnx")(inputs)
    torch.testing.assert_close(output, model(inputs).detach())


class KeysOfAll(nn.Module):
    """Attention over five axes in which all windows of an image share their keys."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        key = self.key(x)[:, None, None]
        return nn.functional.scaled_dot_product_attention(self.query(x).unflatten(1, (3, 1, 2)), key, key)


@pytest.mark.heavy
def test_attention_over_five_axes_with_shared_keys_is_written(tmp_path):
    torch.manual_seed(0)
    model, inputs = KeysOfAll().eval(), torch.randn(5, 6, 8)
    export_model(model, tmp_path / "attention.onnx", "onnx", torch.randn(2, 6, 8))
    (output,) = read_onnx(tmp_path / "attention.onnx")(inputs)
    torch.testing.assert_close(output, model(inputs).detach())


class Passing(nn.Module):
    """A network that hands its arguments on, as wrappers do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 4)

    def forward(self, *args, **kwargs):
        return self.inner(*args) * kwargs.get("scale", torch.ones(()))


@pytest.mark.parametrize("example", [(torch.randn(1, 6),), torch.randn(1, 6)], ids=["tuple", "tensor"])
@pytest.mark.parametrize("format_name", READERS)
def test_a_network_that_takes_any_arguments_is_written(format_name, example, tmp_path):
    model, inputs = Passing().eval(), torch.randn(5, 6)
    export_model(model, tmp_path / "m.pt2", format_name, example)
    (output,) = READERS[format_name](tmp_path / "m.pt2")(inputs)
    torch.testing.assert_close(output, model(inputs).detach())


class Translator(nn.Module):
    """PyTorch's own transformer with the causal mask that its documentation recommends."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 1, 1, 12, batch_first=True)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.transformer(source, target, tgt_mask=mask)


@pytest.mark.heavy
@pytest.mark.parametrize("format_name", READERS)
def test_a_causal_mask_stops_no_export(format_name, tmp_path):
    torch.manual_seed(0)
    model, inputs = Translator().eval(), {"source": torch.randn(5, 4, 8), "target": torch.randn(5, 6, 8)}
    export_model(model, tmp_path / "t.pt2", format_name, {name: tensor[:1] for name, tensor in inputs.items()})
    (output,) = READERS[format_name](tmp_path / "t.pt2")(inputs)
    torch.testing.assert_close(output, model(**inputs).detach())


class Doubting(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else 2 * x


def test_a_failed_trace_prints_nothing(tmp_path, capfd):
    with pytest.raises(ExportError, match="must not depend on values"):
        export_model(Doubting(), tmp_path / "m.onnx", "onnx", torch.randn(1, 3))
    assert capfd.readouterr() == ("", "")


def test_an_export_leaves_the_network_as_it_is(residual, tmp_path):
    model, example = residual
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        export_model(model, tmp_path / "m.pt2", "torch_export", example)
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    finally:
        model.eval()


def test_safetensors_come_back_through_load(run_folder, tmp_path):
    model, record = load(run_folder, trust=True), read_architecture(run_folder)
    report = export_model(model, tmp_path / "out", "safetensors", torch.randn(1, 3, 8, 8), architecture=record)
    loaded = load(tmp_path / "out", trust=True)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert report.size_bytes == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())


def test_safetensors_without_an_architecture_are_refused(residual, tmp_path):
    with pytest.raises(ExportError, match=r"architecture=\s*result\.architecture"):
        export_model(residual[0], tmp_path / "out", "safetensors", residual[1])
    assert list(tmp_path.iterdir()) == []


def test_another_networks_architecture_is_found_out(tmp_path):
    dense = create_model("digits_resnet", seed=0)
    record = describe(dense, None, {}, ModelSource("name", "digits_resnet", {"num_classes": 7}))
    with pytest.raises(CheckpointError, match=r"size mismatch of linear"):
        export_model(dense, tmp_path / "out", "safetensors", torch.randn(1, 1, 8, 8), architecture=record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [1e-3, float("nan")])
def test_a_file_with_other_outputs_is_not_delivered(damage, residual, tmp_path, monkeypatch):
    write = TorchExportFormat.write

    def write_wrongly(self, network, path):
        twin = nn.Sequential(network.model, Shift(damage)).eval()
        write(self, Exportable(twin, network.example), path)

    monkeypatch.setattr(TorchExportFormat, "write", write_wrongly)
    with pytest.raises(
        ExportError, match=r"must equal PyTorch's to 0\.0001 of the largest output, but differ by (0\.001|inf)"
    ):
        export_model(residual[0], tmp_path / "m.pt2", "torch_export", residual[1])
    assert list(tmp_path.iterdir()) == []


class Shift(nn.Module):
    """Adds a share of the largest output."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        return x + self.share * x.abs().max()


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1) if x.shape[0] == 2 else x.flatten(1) * 2


@pytest.mark.parametrize("format_name", READERS)
def test_networks_that_depend_on_the_batch_size_are_refused_in_one_sentence(format_name, tmp_path):
    with pytest.raises(ExportError, match=rf"cannot be exported to {format_name}: .*batch size") as caught:
        export_model(FixedBatch(), tmp_path / "m.onnx", format_name, torch.randn(1, 3, 4, 4))
    assert len(str(caught.value)) < 600
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_does_not_fit_is_named(residual, tmp_path):
    with pytest.raises(ExportError, match=r"must run on the example input.*--input_shape"):
        export_model(residual[0], tmp_path / "m.pt2", "torch_export", torch.randn(1, 4, 8, 8))


def test_unknown_formats_get_the_nearest(residual, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_model(residual[0], tmp_path / "m", "onxx", residual[1])


def test_a_missing_example_is_asked_for(residual, tmp_path):
    with pytest.raises(ExportError, match="example_input="):
        export_model(residual[0], tmp_path / "m.onnx")


def test_missing_packages_are_named_before_any_work(residual, tmp_path, monkeypatch):
    monkeypatch.setattr("amc.export.onnx_format.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ExportError, match="needs onnxruntime; install with: pip install onnxruntime"):
        export_model(residual[0], tmp_path / "m.onnx", "onnx", residual[1])


def test_existing_files_are_kept_unless_told(residual, tmp_path):
    path = tmp_path / "m.pt2"
    path.write_text("precious")
    with pytest.raises(ExportError, match=r"m\.pt2 exists already; give another --out, or --overwrite"):
        export_model(residual[0], path, "torch_export", residual[1])
    assert path.read_text() == "precious"
    report = export_model(residual[0], path, "torch_export", residual[1], overwrite=True)
    assert path.stat().st_size == report.size_bytes > 10_000


def test_what_another_export_has_written_meanwhile_is_kept(residual, tmp_path, monkeypatch):
    file = tmp_path / "net.onnx"

    def measured(*arguments):
        file.write_text("of the other")
        return 0.0

    monkeypatch.setattr("amc.export.exporting.largest_difference", measured)
    with pytest.raises(ExportError, match=r"net\.onnx exists already"):
        export_model(residual[0], file, "onnx", residual[1])
    assert file.read_text() == "of the other"


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_kill_while_an_export_is_put_in_place_leaves_nothing_that_looks_whole(is_folder, tmp_path, monkeypatch):
    scratch, target = tmp_path / "scratch", tmp_path / "out" / "net"
    (scratch / "net").mkdir(parents=True) if is_folder else scratch.mkdir()
    for name in ("net/architecture.json", "net/model.safetensors") if is_folder else ("net", "net.data"):
        (scratch / name).write_text("whole")
    put, moved = exporting.put_in_place, []

    def killed(source, place):
        if source != place:
            moved.append(place)
            if len(moved) == 2:
                raise KeyboardInterrupt
        put(source, place)

    monkeypatch.setattr(exporting, "put_in_place", killed)
    with suppress(KeyboardInterrupt):
        exporting._put_in_place(scratch, target)
    assert not target.exists() or {path.name for path in target.iterdir()} == {"architecture.json", "model.safetensors"}


def test_a_folder_is_never_replaced_by_a_file(residual, tmp_path):
    with pytest.raises(ExportError, match="must name a file"):
        export_model(residual[0], tmp_path, "onnx", residual[1], overwrite=True)


def test_formats_have_a_summary_each():
    assert [(entry.name, bool(entry.summary)) for entry in FORMATS.entries()] == [
        ("onnx", True),
        ("torch_export", True),
        ("safetensors", True),
    ]


def test_tuples_are_positional_arguments(tmp_path):
    class Weighted(nn.Module):
        def forward(self, x, y):
            return x * 2 + y

    example = (torch.randn(1, 4), torch.randn(1, 4))
    export_model(Weighted(), tmp_path / "m.pt2", "torch_export", example)
    x, y = numpy.ones((3, 4), dtype="float32"), numpy.zeros((3, 4), dtype="float32")
    output = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(x), torch.from_numpy(y))
    assert torch.equal(output, torch.full((3, 4), 2.0))


def test_weights_too_large_for_one_file_go_into_a_second(residual, tmp_path, monkeypatch):
    monkeypatch.setattr("amc.export.onnx_format._ONE_FILE_BYTES", 0)
    report = export_model(residual[0], tmp_path / "m.onnx", "onnx", residual[1])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["m.onnx", "m.onnx.data"]
    assert report.size_bytes == sum(file.stat().st_size for file in files)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(read_onnx(tmp_path / "m.onnx")(x)[0], residual[0](x).detach(), rtol=1e-3, atol=1e-3)


class Cache:
    """Keys and values that a language model returns for its own next call."""

    def __init__(self, keys):
        self.keys = keys


class WithCache(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 5)

    def forward(self, tokens):
        hidden = self.words(tokens)
        return {"logits": self.head(hidden), "past_key_values": Cache(hidden)}


@pytest.mark.parametrize("format_name", READERS)
def test_caches_beside_the_output_are_left_out(format_name, tmp_path):
    model, example = WithCache().eval(), {"tokens": torch.randint(0, 9, (1, 6))}
    export_model(model, tmp_path / "network", format_name, example)
    inputs = fresh_input(example, 3, torch.Generator().manual_seed(5))
    (found,) = READERS[format_name](tmp_path / "network")(inputs)
    torch.testing.assert_close(found, model(**inputs)["logits"])
    assert "past_key_values" in model(**inputs)  # the network itself is as it was


class WithNumber(nn.Module):
    """Returns numbers and texts beside its outputs."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(6, 3), kind

    def forward(self, x):
        outputs = self.layer(x)
        return {"dict": {"logits": outputs, "steps": 3, "mode": "fast"}, "tuple": (outputs, 3, 0.5)}[self.kind]


@pytest.mark.parametrize("kind", ["dict", "tuple"])
@pytest.mark.parametrize("format_name", READERS)
def test_numbers_beside_the_outputs_stop_no_export(format_name, kind, tmp_path):
    model, inputs = WithNumber(kind).eval(), torch.randn(5, 6)
    export_model(model, tmp_path / "network", format_name, torch.randn(2, 6))
    (found,) = READERS[format_name](tmp_path / "network")(inputs)
    torch.testing.assert_close(found, model.layer(inputs).detach())
    assert len(model(inputs)) == 3  # the network itself is as it was
