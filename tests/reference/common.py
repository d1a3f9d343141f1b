"""Functions that the generators of golden fixtures share."""

import json
import math
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def fill(model: torch.nn.Module, seed: int) -> None:
    """Random weights that keep activations at a size of about one, without values (0 and 1) that would hide that a weight is not used."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, scale):
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                table = any(word in name for word in ("embed_tokens", "shared", "position_embedding", "scale_shift"))
                bias_table = "relative_attention_bias" in name
                scale = 1.0 if bias_table else 0.5 if table else fan_in**-0.5
                if name.endswith("SelfAttention.q.weight"):
                    # T5 does not scale its attention scores; its queries are small instead.
                    scale *= 0.4
                parameter.copy_(normal(parameter.shape, scale))
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1.0 + normal(parameter.shape, 0.2))
            else:
                parameter.copy_(normal(parameter.shape, 0.1))


def fill_exactly(model: torch.nn.Module, seed: int) -> None:
    """As `fill`, with values that bf16 represents exactly: the checkpoint can be saved in bf16 and the golden outputs computed in f32."""
    fill(model, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def hashed(name: str, shape) -> torch.Tensor:
    """Numbers from -1 to 1 that a test makes anew from the name (FNV-1a, then MurmurHash3's mixing of each index), so that no fixture has to hold them."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    mask = 0xFFFFFFFF
    # 64-bit integers hold each product of two 32-bit numbers modulo 2^64, and so modulo 2^32.
    value = torch.arange(math.prod(shape), dtype=torch.int64) * 0x9E3779B1 + seed & mask
    value = (value ^ value >> 15) * 0x85EBCA6B & mask
    value = (value ^ value >> 13) * 0xC2B2AE35 & mask
    value = value ^ value >> 16
    return (value.double() / 2**31 - 1).float().reshape(tuple(shape))


def fill_hashed(model: torch.nn.Module) -> None:
    """Gives every tensor of a model's state numbers made from its name, which bf16 represents exactly; `tests/fixtures/hashed.rs` makes the same."""
    state = {}
    for name, tensor in model.state_dict().items():
        value = hashed(name, tensor.shape)
        if tensor.ndim >= 2:
            # Keeps activations at about the same size.
            value = value * (3.0 / tensor[0].numel()) ** 0.5
            if name.endswith(("conv2.weight", "conv2.conv.weight")):
                # Blocks add less than they are given; otherwise normalising few channels amplifies the rounding of bf16.
                value = 0.5 * value
        elif name.endswith(("std", "norm.weight", "norm1.weight", "norm2.weight")):
            value = 1.0 + 0.3 * value
        else:
            value = 0.1 * value
        state[name] = value.bfloat16().float()
    model.load_state_dict(state)


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Saves inputs and outputs of a fixture in one file beside the checkpoint folders."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "golden.safetensors")


def collapsed(shapes):
    """{pattern: {shape, layers, experts}}; numbers of layers and experts are collapsed to ranges."""
    patterns = {}
    for name, shape in shapes.items():
        layer = re.search(r"(?:^|\.)(?:layers|blocks|transformer_blocks)\.(\d+)\.", name)
        expert = re.search(r"\.experts\.(\d+)\.", name)
        pattern = re.sub(r"(^|\.)(layers|blocks|transformer_blocks)\.\d+\.", r"\1\2.{layer}.", name)
        pattern = re.sub(r"\.experts\.\d+\.", ".experts.{expert}.", pattern)
        entry = patterns.setdefault((pattern, tuple(shape)), {"layers": set(), "experts": set(), "count": 0})
        entry["count"] += 1
        if layer:
            entry["layers"].add(int(layer[1]))
        if expert:
            entry["experts"].add(int(expert[1]))
    rows = []
    for (pattern, shape), entry in patterns.items():
        row = {"pattern": pattern, "shape": list(shape)}
        for kind in ("layers", "experts"):
            if numbers := entry[kind]:
                row[kind] = [min(numbers), max(numbers) + 1]
                assert len(numbers) == max(numbers) + 1 - min(numbers), pattern
        spans = [row[kind][1] - row[kind][0] for kind in ("layers", "experts") if kind in row]
        assert entry["count"] == (spans[0] if spans else 1) * (spans[1] if len(spans) > 1 else 1), pattern
        rows.append(row)
    return rows


def write_tensor_lists(path: Path, models: dict[str, dict]) -> None:
    """Writes {name: {"config", "tensors"}}, the tensors one row for each pattern; `tests/fixtures/official.rs` reads it."""
    lines = []
    for name, model in models.items():
        rows = ",\n   ".join(json.dumps(row) for row in model["tensors"])
        lines.append(f' "{name}": {{"config": {json.dumps(model["config"])},\n  "tensors": [\n   {rows}]}}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
