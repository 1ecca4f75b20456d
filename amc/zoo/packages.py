"""Small networks of other packages, with random weights: what `amc zoo` examines beside torchvision's and timm's.

They come from `transformers`, `ultralytics`, `segmentation_models_pytorch` and `monai`, none of which `amc` needs. The
configurations are tiny, so that examining one takes seconds; the architectures are those of the full-sized networks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.runtime.call import ExampleInput

_INSTALL = {"smp": "segmentation_models_pytorch"}
"""Packages that are installed under another name."""


@dataclass(frozen=True)
class PackagedNetwork:
    """A network of another package.

    Attributes:
        build: Makes it, with random weights; imports the package.
        example: Makes one input.
    """

    build: Callable[[], nn.Module]
    example: Callable[[], ExampleInput]


PACKAGED: dict[str, PackagedNetwork] = {}
"""By `"package:name"`."""


def package_of(name: str) -> Any:
    """Imports the package that a name starts with.

    Raises:
        ConfigurationError: If it is not installed.
    """
    prefix = name.partition(":")[0]
    package = _INSTALL.get(prefix, prefix)
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        install = package.replace("_", "-")
        raise ConfigurationError(
            f"{name!r} needs the package {package}; install it with: pip install {install}"
        ) from error


def _image(size: int, channels: int = 3, axes: int = 2) -> Tensor:
    return torch.randn(1, channels, *[size] * axes, generator=torch.Generator().manual_seed(0))


def _tokens(length: int) -> Tensor:
    return torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(0))


_TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any], Callable[[], ExampleInput]]] = {
    "bert": ("Bert", "ForSequenceClassification", _TEXT, lambda: {"input_ids": _tokens(12)}),
    "gpt2": (
        "GPT2",
        "LMHeadModel",
        {
            "vocab_size": 64,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 32,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        lambda: {"input_ids": _tokens(12)},
    ),
    "llama": ("Llama", "ForCausalLM", {**_TEXT, "num_key_value_heads": 2}, lambda: {"input_ids": _tokens(12)}),
    "vit": (
        "ViT",
        "ForImageClassification",
        {**_TEXT, "image_size": 32, "patch_size": 8},
        lambda: {"pixel_values": _image(32)},
    ),
    "t5": (
        "T5",
        "ForConditionalGeneration",
        {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        lambda: {"input_ids": _tokens(12), "decoder_input_ids": _tokens(7)},
    ),
    "swin": (
        "Swin",
        "ForImageClassification",
        {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        lambda: {"pixel_values": _image(64)},
    ),
    "segformer": (
        "Segformer",
        "ForSemanticSegmentation",
        {
            "num_encoder_blocks": 4,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 32, 40, 48],
            "num_attention_heads": [1, 2, 5, 4],
            "decoder_hidden_size": 32,
        },
        lambda: {"pixel_values": _image(64)},
    ),
}
"""Class, its ending, the configuration's values, and an input."""


def _transformer(name: str) -> nn.Module:
    package = package_of(f"transformers:{name}")
    stem, ending, values, _ = _TRANSFORMERS[name]
    model: nn.Module = getattr(package, stem + ending)(getattr(package, f"{stem}Config")(**values))
    return model


def _detr() -> nn.Module:
    package = package_of("transformers:detr")
    backbone = package.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 6}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layers": 2, "decoder_layers": 2}
    config = package.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        **sizes,
        **heads,
    )
    model: nn.Module = package.DetrForObjectDetection(config)
    return model


def _yolo(file: str) -> nn.Module:
    package_of("ultralytics:yolo")
    tasks = importlib.import_module("ultralytics.nn.tasks")
    model: Any = tasks.DetectionModel(file, nc=4, verbose=False)
    model.model[-1].dynamic = True  # as Ultralytics' own export sets it: any batch size
    return cast(nn.Module, model)


def _smp(name: str) -> nn.Module:
    model: nn.Module = getattr(package_of(f"smp:{name}"), name)("resnet18", encoder_weights=None, classes=3)
    return model


def _monai(name: str, **options: Any) -> nn.Module:
    package_of(f"monai:{name}")
    nets = importlib.import_module("monai.networks.nets")
    model: nn.Module = getattr(nets, name)(in_channels=1, out_channels=2, **options)
    return model


def _all() -> Iterator[tuple[str, PackagedNetwork]]:
    for name, (_, _, _, example) in _TRANSFORMERS.items():
        yield f"transformers:{name}", PackagedNetwork(partial(_transformer, name), example)
    yield "transformers:detr", PackagedNetwork(_detr, lambda: {"pixel_values": _image(64)})
    for name in ("yolov5n", "yolov8n", "yolo11n", "yolo12n"):
        file = "yolov5nu.yaml" if name == "yolov5n" else f"{name}.yaml"
        yield f"ultralytics:{name}", PackagedNetwork(partial(_yolo, file), partial(_image, 64))
    for name in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "MAnet", "Linknet", "PSPNet", "PAN", "UPerNet"):
        size = 128 if name == "PAN" else 64
        yield f"smp:{name}", PackagedNetwork(partial(_smp, name), partial(_image, size))
    levels: dict[str, Any] = {"channels": (16, 32, 64), "strides": (2, 2)}
    for name, axes, options in (
        ("UNet", 2, {**levels, "channels": (32, 64, 128), "num_res_units": 1}),
        ("UNet", 3, {**levels, "num_res_units": 1}),
        ("BasicUNet", 2, {"features": (8, 8, 16, 32, 32, 8)}),
        ("SegResNet", 2, {"init_filters": 16}),
        ("AttentionUnet", 2, levels),
    ):
        build = partial(_monai, name, spatial_dims=axes, **options)
        yield f"monai:{name}{axes}d", PackagedNetwork(build, partial(_image, 32, 1, axes))


PACKAGED.update(_all())
