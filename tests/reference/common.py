"""Functions that the generators of golden fixtures share."""

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


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Saves inputs and outputs of a fixture in one file beside the checkpoint folders."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "golden.safetensors")
