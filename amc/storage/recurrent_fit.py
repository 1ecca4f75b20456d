"""Whether the numbers of recurrent layers are those of their weights: the kernels that run them do not ask."""

from __future__ import annotations

from torch import nn

from amc.errors import CheckpointError

_GATES = {"LSTM": 4, "GRU": 3}


def check_recurrent(network: nn.Module) -> None:
    """Checks the recurrent layers of a network that was cut as a file says.

    oneDNN's LSTM reads beyond a state that is narrower than the weights, and divides by a width of zero.

    Raises:
        CheckpointError: If a layer says that it is wider or narrower than its weights, or has another number of them.
    """
    for name, module in network.named_modules():
        if not isinstance(module, nn.RNNBase):
            continue
        own = {key: tuple(tensor.shape) for key, tensor in module.named_parameters(recurse=False)}
        expected = _shapes(module)
        for key, shape in own.items():
            if key.startswith(("weight_", "bias_")) and _is_plain(key) and expected.get(key) != shape:
                raise CheckpointError(
                    f"architecture.json must leave recurrent layers as wide as their weights, and {name[:80]!r}, of "
                    f"input_size {module.input_size}, hidden_size {module.hidden_size}, proj_size {module.proj_size} "
                    f"and num_layers {module.num_layers}, has {key!r} of the shape {shape}; give the network that was "
                    "compressed: amc.load(folder, model=...)"
                )


def _is_plain(key: str) -> bool:
    """Returns whether a parameter is a weight as it is, and not a part of one, as weight normalisation leaves it."""
    return not key.endswith(("_g", "_v"))


def _shapes(module: nn.RNNBase) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that the numbers of a layer ask for, by the name of the parameter."""
    rows = _GATES.get(module.mode, 1) * module.hidden_size
    width = module.proj_size or module.hidden_size
    directions = ("", "_reverse") if module.bidirectional else ("",)
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(min(module.num_layers, len(module._flat_weights_names))):
        read = module.input_size if layer == 0 else width * len(directions)
        for ending in (f"_l{layer}{direction}" for direction in directions):
            found |= {f"weight_ih{ending}": (rows, read), f"weight_hh{ending}": (rows, width)}
            found |= {f"bias_ih{ending}": (rows,), f"bias_hh{ending}": (rows,)}
            found[f"weight_hr{ending}"] = (module.proj_size, module.hidden_size)
    return found
