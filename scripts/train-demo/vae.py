"""The small AutoencoderKLWan: its configuration, an initialisation that learns, and a fast training forward."""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
)
from torch import nn

Z_DIM = 8
CONFIG = dict(
    base_dim=16,
    z_dim=Z_DIM,
    dim_mult=[1, 2, 2, 4],
    num_res_blocks=1,
    attn_scales=[],
    temperal_downsample=[False, True, True],
    dropout=0.0,
)


def build(mean: list[float] | None = None, std: list[float] | None = None) -> AutoencoderKLWan:
    return AutoencoderKLWan(**CONFIG, latents_mean=mean or [0.0] * Z_DIM, latents_std=std or [1.0] * Z_DIM)


@torch.no_grad()
def initialise(vae: AutoencoderKLWan) -> None:
    """Variance-preserving convolutions, all signal in the causal kernels' last tap, silent residual branches."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.weight.zero_()
            fan_in = module.in_channels * module.kernel_size[1] * module.kernel_size[2]
            nn.init.normal_(module.weight[:, :, -1], std=1.0 / math.sqrt(fan_in))
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, std=1.0 / math.sqrt(fan_in))
            nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            module.conv1.weight.mul_(1.7)  # what SiLU takes away
            module.conv2.weight.zero_()
        elif isinstance(module, WanAttentionBlock):
            module.proj.weight.zero_()
        elif isinstance(module, WanResample) and module.mode in ("upsample3d", "downsample3d"):
            # Both halves of the doubled frame rate start as the frame itself.
            eye = torch.eye(module.time_conv.in_channels)
            module.time_conv.weight.zero_()
            module.time_conv.weight[:, :, -1, 0, 0] = eye.repeat(module.time_conv.out_channels // len(eye), 1)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.in_channels).view_as(conv.weight))
    vae.encoder.conv_out.weight[Z_DIM:].mul_(0.1)
    vae.encoder.conv_out.bias[Z_DIM:].fill_(-3.0)


def _resample_whole(self: WanResample, x: torch.Tensor, feat_cache=None, feat_idx=None) -> torch.Tensor:
    """`WanResample` for a whole clip at once: the same numbers as chunk by chunk with a cache, in fewer calls."""
    b, c, t, h, w = x.shape
    if self.mode == "upsample3d" and t > 1:
        # The first frame stays single; the others double, with their own causal history.
        later = self.time_conv(x[:, :, 1:])
        later = later.reshape(b, 2, c, t - 1, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], later], 2)
        t = x.shape[2]
    x = x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w)
    x = self.resample(x)
    x = x.view(b, t, *x.shape[1:]).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
    return x


def whole_clip_mode(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Make `encode_whole`/`decode_whole` usable on this instance (and its convolutions fast on a CPU)."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            module.forward = _resample_whole.__get__(module)
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return vae


def encode_whole(vae: AutoencoderKLWan, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of the latents."""
    video = video.contiguous(memory_format=torch.channels_last_3d)
    mean, logvar = vae.quant_conv(vae.encoder(video)).float().chunk(2, 1)
    return mean, logvar.clamp(-20, 10)


def decode_whole(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode without the final clamp (which has no gradient outside -1..1)."""
    return vae.decoder(vae.post_quant_conv(latents)).float()
