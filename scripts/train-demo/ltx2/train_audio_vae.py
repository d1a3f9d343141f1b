"""Train the audio VAE on log-mel spectrograms: crops in time first, then whole sounds.

    python -m ltx2.train_audio_vae.py --out build --steps 1100
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from diffusers.models.autoencoders import autoencoder_kl_ltx2_audio as ltx
from torch import nn

from ltx2 import models
from ltx2 import sounds
from training import Run, autocast

KL_WEIGHT = 1e-3
MEL_MEAN = -4.7  # of what is decoded


@torch.no_grad()
def initialise(vae) -> None:
    """Variance-preserving convolutions with the signal in the last tap in time, silent residual branches, and an
    output that starts at the spectrograms' mean."""
    for module in vae.modules():
        if isinstance(module, ltx.LTX2AudioCausalConv2d):
            conv = module.conv
            conv.weight.zero_()
            nn.init.normal_(conv.weight[:, :, -1], std=1 / math.sqrt(conv.in_channels * conv.kernel_size[1]))
            nn.init.zeros_(conv.bias)
        elif isinstance(module, ltx.LTX2AudioDownsample):
            nn.init.normal_(module.conv.weight, std=1 / math.sqrt(module.conv.in_channels * 9))
            nn.init.zeros_(module.conv.bias)
    for module in vae.modules():
        if isinstance(module, ltx.LTX2AudioResnetBlock):
            module.conv1.conv.weight.mul_(1.7)
            module.conv2.conv.weight.zero_()
    # Pixel normalisation keeps directions only: without biases loud and silent would look the same.
    vae.encoder.conv_in.conv.bias.normal_(std=8.0)  # spectrograms are about -9.5
    vae.decoder.conv_in.conv.bias.normal_(std=1.0)
    vae.encoder.conv_out.conv.weight[models.AUDIO_Z :].mul_(0.1)
    vae.encoder.conv_out.conv.bias[models.AUDIO_Z :].fill_(-3.0)
    vae.decoder.conv_out.conv.bias.fill_(MEL_MEAN)


def _norm(self, x):
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + self.eps)


def fast(vae):
    for module in vae.modules():
        if isinstance(module, ltx.LTX2AudioPixelNorm):
            module.forward = _norm.__get__(module)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return vae


def encode(vae, mel):
    mean, logvar = vae.encoder(mel).float().chunk(2, 1)
    return mean, logvar.clamp(-20, 10)


def loss_of(vae, mel):
    with autocast():
        mean, logvar = encode(vae, mel.contiguous(memory_format=torch.channels_last))
        decoded = vae.decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp()).float()
    target = mel.clamp(min=sounds.QUIET)
    error = (decoded - target).abs()
    weight = 1 + 3 * (mel > sounds.QUIET)  # most of a spectrogram is silence
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return (error * weight).mean() + KL_WEIGHT * kl, float(error.detach().mean())


@torch.no_grad()
def evaluate(vae, mel):
    with autocast():
        decoded = torch.cat([vae.decoder(encode(vae, m)[0]).float() for m in mel.split(8)])
    return float((decoded - mel.clamp(min=sounds.QUIET)).abs().mean()), decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(2)
    held_out = sounds.random_sounds(24)
    vae = models.audio_vae()
    initialise(vae)
    fast(vae)
    run = Run(vae, args.out / "audio_vae.pt", steps=args.steps, lr=args.lr, warmup=0.05, decay=0.998)
    fast(run.average)
    total = count = 0
    while run.running:
        mel = sounds.random_sounds(args.batch, 41) if run.progress < 0.8 else sounds.random_sounds(max(2, args.batch // 3))
        loss, error = loss_of(vae, mel)
        norm = run.step(loss)
        total, count = total + error, count + 1
        if run.step_count % 50 == 0:
            print(f"step {run.step_count} {run.progress:.3f} L1 {total / count:.4f} loss {loss.item():.4f} grad {norm:.2f} "
                  f"lr {run.rate():.1e} {run.used / run.step_count:.3f} s/step", flush=True)
            total = count = 0
        if run.step_count % 250 == 0:
            print(f"whole sounds, averaged weights: L1 {evaluate(run.average, held_out)[0]:.4f}", flush=True)
            run.rest()
    run.finish()
    print(f"finished at step {run.step_count}: L1 {evaluate(run.average, held_out)[0]:.4f}", flush=True)


if __name__ == "__main__":
    main()
