"""Start weights for LTX2Vocoder that already sound right: a chain of fits instead of noise.

A vocoder of this kind is a convolution (mel frame to hidden), then transposed convolutions that unfold each 10 ms hop into
6 * 5 * 8 = 240 samples. Each side starts as its own vocoder:

1. `conv_in`: a few units for each frequency of `sounds.py`, which read the log-mel bin there above different thresholds.
   After the leaky ReLU they are a basis for the tone's linear amplitude.
2. A least-squares fit gives the hop's 240 samples as a linear function of these units.
3. That matrix is factored by singular vectors into the three transposed convolutions. The leaky ReLUs between them are
   passed in pairs of channels of opposite sign: relu(x) - relu(-x) = (1 + slope) x.

Everything else (residual blocks' last convolutions, the overlaps of the transposed convolutions, the other side) starts at
zero, and training goes on from there.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ltx2 import models, sounds

THRESHOLDS = (-3.5, -1.2, -0.4, 0.2)


def frequencies() -> list[int]:
    low, high = sounds.PITCHES
    used = {k * f for f in range(low, high + 1) for k in sounds.HARMONICS}
    return sorted(100 * f for f in used)


def hidden_units(mel: torch.Tensor, bins: list[int], slope: float) -> torch.Tensor:
    """Log-mel of one side [..., bins] to the units [..., n + 1] of step 1; the last one is constant."""
    units = [mel[..., b] - t for b in bins for t in THRESHOLDS]
    return nn.functional.leaky_relu(torch.stack([*units, torch.ones_like(units[0])], -1), slope)


def fit(bins: list[int], slope: float) -> torch.Tensor:
    """[units + 1, 240]: a hop's samples (before tanh) from the units, by least squares with a little ridge."""
    mel, wave = sounds.random_sounds(96, waveform=True)
    units = hidden_units(mel.clamp(min=sounds.QUIET), bins, slope).flatten(0, 2).double()
    hops = torch.atanh(wave.unflatten(2, (-1, models.VOCODER_HOP))).flatten(0, 2).double()
    gram = units.T @ units
    gram += 1e-5 * len(units) * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram, units.T @ hops).float()


def split(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """matrix [n, m] as [n, rank] @ [rank, m], evenly scaled."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    left, right = left[:, :rank] * root, root[:, None] * right[:rank]
    missing = rank - left.shape[1]
    return nn.functional.pad(left, (0, missing)), nn.functional.pad(right, (0, 0, 0, missing))


def mirrored(channels: torch.Tensor) -> torch.Tensor:
    """[n, rank] to [n, 2 rank] of opposite signs."""
    return torch.cat([channels, -channels], -1)


@torch.no_grad()
def place(upsampler: nn.ConvTranspose1d, side: int, weight: torch.Tensor) -> None:
    """Put [inputs, positions, outputs] into one side's block of a transposed convolution, without overlap."""
    inputs, outputs = upsampler.weight.shape[0] // 2, upsampler.weight.shape[1] // 2
    first = upsampler.padding[0]
    n, positions, m = weight.shape
    upsampler.weight[side * inputs : side * inputs + n, side * outputs : side * outputs + m, first : first + positions] = (
        weight.transpose(1, 2)
    )


@torch.no_grad()
def initialise(vocoder) -> None:
    slope = vocoder.negative_slope
    for module in vocoder.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            module.weight.zero_()
            module.bias.zero_()
    for block in vocoder.resnets:
        for conv in block.convs1:
            nn.init.normal_(conv.weight, std=1 / math.sqrt(conv.in_channels * conv.kernel_size[0]))
    bins = [int(sounds._BANK[round(f * sounds.N_FFT / models.SAMPLE_RATE)].argmax()) for f in frequencies()]
    matrix = fit(bins, slope)  # [units, 240]
    a, b, c = models.VOCODER["upsample_factors"]
    units = len(matrix)
    half = models.VOCODER["hidden_channels"] // 2
    rank1, rank2 = half // 4, half // 8
    first, rest = split(matrix.reshape(units * a, b * c), rank1)
    second, third = split(rest.reshape(rank1 * b, c), rank2)
    first = mirrored(first).reshape(units, a, 2 * rank1)
    pairs = torch.tensor([1.0, -1.0]) / (1 + slope)
    second = torch.einsum("s,rbk->srbk", pairs, mirrored(second).reshape(rank1, b, 2 * rank2)).flatten(0, 1)
    third = torch.einsum("s,rc,p->srcp", pairs, third, torch.tensor([1.0, -1.0])).flatten(0, 1)
    outer = 1 + nn.LeakyReLU().negative_slope
    for side in range(2):
        for i, bin_ in enumerate(bins):
            for j, threshold in enumerate(THRESHOLDS):
                row = side * half + i * len(THRESHOLDS) + j
                vocoder.conv_in.weight[row, side * models.MELS + bin_, 3] = 1
                vocoder.conv_in.bias[row] = -threshold
        vocoder.conv_in.bias[side * half + units - 1] = 1
        for upsampler, weight in zip(vocoder.upsamplers, (first, second, third), strict=True):
            place(upsampler, side, weight)
        out = side * (vocoder.conv_out.in_channels // 2)
        vocoder.conv_out.weight[side, out, 3], vocoder.conv_out.weight[side, out + 1, 3] = 1 / outer, -1 / outer
    # Free channels get small noise, so that training can use them.
    for module in (vocoder.conv_in, *vocoder.upsamplers, vocoder.conv_out):
        free = module.weight == 0
        module.weight += free * torch.randn_like(module.weight) * 1e-3
