"""Random changes of files: of their bytes, of what is in their JSON or YAML, of their tensors."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 10**7, 2**31, 2**63, -(2**63), 10**19, 0.5, -0.0, 1e308, 1e-320, "", "0",
    "0-999999999", "1-0", "-1", "x", "x" * 5000, "../..", "/dev/zero", "os:system", "\0", "\u202e", "*", "nan", [], {},
    [[]], [None], {"": 0}, [0] * 2000, {"a": {"b": {"c": [1]}}}, "resnet18", "vit_h_14", "forward", "training",
)  # fmt: skip
_TOKENS = (b"\0", b"\xff", b'"', b"{", b"}", b"[", b"]", b"-", b"9" * 400, b"\n", b"&a *a", b"!!", b"NaN", b"1e999")
_DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def change_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flips, cuts, repeats or overwrites a few places."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        place = draw.randrange(len(data) + 1)
        end = min(len(data), place + draw.choice((1, 1, 2, 8, 64, 4096)))
        kind = draw.randrange(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = data[place:end]
        elif kind == 3:
            data[place:place] = draw.choice(_TOKENS)
        elif kind == 4:
            data[place:end] = bytes(draw.randrange(256) for _ in range(end - place))
        else:
            del data[place : len(data) if draw.random() < 0.3 else end]
    return bytes(data)


def change_value(value: Any, draw: random.Random) -> Any:
    """Changes one or a few places in nested plain values."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return draw.choice(NASTY)
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw.choice(("", "x", "0", "99", str(key) + "x", "format", "kind"))] = holder.pop(key)
        elif kind == 2:
            other, place = draw.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == 3 and type(holder[key]) in (int, float):
            holder[key] = holder[key] * draw.choice((-1, 2, 1000)) + draw.choice((0, 1, -1))
        else:
            holder[key] = copy.deepcopy(draw.choice(NASTY))
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def mutate_json(file: Path, draw: random.Random) -> None:
    """Changes a JSON file."""
    content = file.read_bytes()
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(content, draw))
    else:
        file.write_text(json.dumps(change_value(json.loads(content), draw)), encoding="utf-8")


def mutate_lines(file: Path, draw: random.Random) -> None:
    """Changes a file of JSON lines; most keep no checksum, as those of earlier versions."""
    content = file.read_bytes()
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(content, draw))
        return
    records = [json.loads(line) for line in content.decode().splitlines()]
    for record in records:
        record.pop("crc32", None)
    changed = change_value(records, draw)
    lines = changed if isinstance(changed, list) else [changed]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def mutate_yaml(file: Path, draw: random.Random) -> None:
    """Changes a YAML file."""
    content = file.read_bytes()
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(content, draw))
    else:
        changed = change_value(yaml.load(content, yaml.CSafeLoader), draw)
        file.write_text(yaml.dump(changed, Dumper=yaml.CSafeDumper), encoding="utf-8")


def mutate_bytes(file: Path, draw: random.Random) -> None:
    """Changes a file that is no text."""
    file.write_bytes(change_bytes(file.read_bytes(), draw))


def mutate_safetensors(file: Path, draw: random.Random) -> None:
    """Changes the bytes, the header's length and text, the metadata or the tensors of a safetensors file."""
    kind = draw.random()
    if kind < 0.2:
        mutate_bytes(file, draw)
    elif kind < 0.4:
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(change_value(json.loads(content[8 : 8 + length]), draw)).encode()
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    else:
        with safe_open(str(file), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            metadata.pop("tensors_sha256", None)  # an attacker would renew it
            if metadata.get("agent"):
                record = json.loads(metadata["agent"])
                record.pop("tensors_sha256", None)
                metadata["agent"] = json.dumps(record)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        if metadata.get("agent") and draw.random() < 0.5:
            metadata["agent"] = json.dumps(change_value(json.loads(metadata["agent"]), draw))
        else:
            change_tensors(tensors, draw)
        try:
            save_file(tensors, str(file), metadata=metadata or None)
        except (SafetensorError, ValueError):
            mutate_bytes(file, draw)


def mutate_packed(file: Path, draw: random.Random) -> None:
    """Changes the bytes, the head or the tensors of a packed network; mostly with a checksum that is right."""
    content = file.read_bytes()
    if draw.random() < 0.2:
        mutate_bytes(file, draw)
        return
    length = int.from_bytes(content[40:44], "little")
    head, body = zlib.decompress(content[44 : 44 + length]), content[44 + length :]
    if draw.random() < 0.6:
        head = json.dumps(change_value(json.loads(head), draw)).encode()
    else:
        body = change_bytes(body, draw)
    text = zlib.compress(head)
    rest = len(text).to_bytes(4, "little") + text + body
    file.write_bytes(content[:8] + hashlib.sha256(rest).digest() + rest)


def mutate_pickle(file: Path, draw: random.Random) -> None:
    """Changes what `torch.save` wrote, or its bytes."""
    if draw.random() < 0.4:
        mutate_bytes(file, draw)
        return
    content = torch.load(file, weights_only=True)
    tensors = content
    while isinstance(tensors, dict) and draw.random() < 0.8:
        inner = [value for value in tensors.values() if isinstance(value, dict) and value]
        if not inner:
            break
        tensors = draw.choice(inner)
    if isinstance(tensors, dict) and tensors:
        if any(isinstance(value, torch.Tensor) for value in tensors.values()):
            change_tensors(tensors, draw)
        else:
            tensors[draw.choice(list(tensors))] = copy.deepcopy(draw.choice(NASTY))
    torch.save(content, file)


def change_tensors(tensors: dict[Any, Any], draw: random.Random) -> None:
    """Changes one tensor of several."""
    name = draw.choice([name for name, value in tensors.items() if isinstance(value, torch.Tensor)])
    tensor = tensors[name]
    changes: list[Callable[[], torch.Tensor]] = [
        lambda: torch.zeros(draw.choice(((), (0,), (1,), (3,), (7, 3), (1, 0, 9), (5000,)))),
        lambda: tensor.to(draw.choice(_DTYPES)),
        lambda: torch.full(tensor.shape, draw.choice((float("nan"), float("inf"), 1e38, -1e38, 1e-40, 0.0, -5.0))),
        lambda: tensor.flatten(),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.repeat_interleave(2, 0) if tensor.dim() else tensor.reshape(1),
        lambda: tensor[:0] if tensor.dim() else tensor,
        lambda: tensor.clone(),
    ]
    if draw.random() < 0.15:
        del tensors[name]
    elif draw.random() < 0.15:
        tensors[draw.choice(("x", "", "policy.x", "replay.x", f"{name}x"))] = tensor.clone()
    else:
        tensors[name] = draw.choice(changes)().contiguous()
