"""Flow matching, as both transformers are trained by it, and attention that is quick to train on a CPU."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch


def noise_levels(n: int, shift: float) -> torch.Tensor:
    """Noise levels [n] in 0..1, spread evenly and then shifted as the sampler does it."""
    uniform = (torch.arange(n) + torch.rand(n)) / n
    return shift * uniform / (1 + (shift - 1) * uniform)


def batches(count: int, size: int) -> Iterator[list[int]]:
    """Indices below `count` in random order without end, each once before any comes again."""
    order: list[int] = []
    while True:
        if len(order) < size:
            order = random.sample(range(count), count)
        chosen, order = order[:size], order[size:]
        yield chosen


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """[batch, heads, tokens, dim]: two matrix products, because the fused kernel's backward is slow on a CPU."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
