"""Train the video VAE, then once more its decoder alone.

    python -m ltx2.train_video_vae --out build --steps 4000
    python -m ltx2.train_video_vae --out build --steps 1500 --lr 1e-3 --decoder
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from diffusers.models.autoencoders import autoencoder_kl_ltx2 as ltx
from torch import nn

import clips
from ltx2 import models
from training import Run, autocast, contact_sheet

KL_WEIGHT = 1e-3
SHAPE_WEIGHT = 3.0
LATENT_NOISE = 0.2  # at most, in standard deviations


@torch.no_grad()
def initialise(vae) -> None:
    """Variance-preserving convolutions with the signal in one tap (the last of causal kernels, the middle of the
    others), silent residual branches."""
    for part, tap in ((vae.encoder, -1), (vae.decoder, 1)):
        for module in part.modules():
            if isinstance(module, ltx.LTX2VideoCausalConv3d):
                conv = module.conv
                fan_in = conv.in_channels * conv.kernel_size[1] * conv.kernel_size[2]
                conv.weight.zero_()
                nn.init.normal_(conv.weight[:, :, tap], std=1 / math.sqrt(fan_in))
                nn.init.zeros_(conv.bias)
        for module in part.modules():
            if isinstance(module, ltx.LTX2VideoResnetBlock3d):
                module.conv1.conv.weight.mul_(1.7)  # what SiLU takes away
                module.conv2.conv.weight.zero_()
            elif isinstance(module, ltx.LTX2VideoDownsampler3d):
                module.conv.conv.weight.mul_(0.7)  # added to the pooled input
            elif isinstance(module, ltx.LTX2VideoUpsampler3d):
                nearest(module)
        part.conv_out.conv.weight.mul_(1.7)
        # PerChannelRMSNorm keeps directions only: without biases black and gray would look the same.
        nn.init.normal_(part.conv_in.conv.bias, std=1.0)
    # All pixels of a patch start equal.
    vae.decoder.conv_out.conv.weight.copy_(vae.decoder.conv_out.conv.weight[::16].repeat_interleave(16, 0))
    quiet_variance(vae)


@torch.no_grad()
def nearest(up) -> None:
    """Start as nearest-neighbour upsampling. The residual path deals channels out to sub-pixels, which is a checkerboard
    to begin with: the convolution takes it away again and puts every channel on all of its sub-pixels."""
    weight, n = up.conv.conv.weight, math.prod(up.stride)
    channels = weight.shape[1]
    weight.zero_()
    for out in range(channels):
        for sub in range(n):
            weight[out * n + sub, out, 1, 1, 1] += 1
            weight[out * n + sub, out % (channels // n) * n + sub, 1, 1, 1] -= 1


@torch.no_grad()
def quiet_variance(vae) -> None:
    """The log-variance is one channel for all latents: start it low."""
    vae.encoder.conv_out.conv.weight[-1:].mul_(0.1)
    vae.encoder.conv_out.conv.bias[-1:].fill_(-5.0)


def _norm(self, x, channel_dim=None):
    """PerChannelRMSNorm without the excursion to float32 that autocast makes of `x**2`."""
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + self.eps)


def _conv(self, x, causal=True):
    """A single frame sees itself through all taps in time: one convolution in the plane, a third of the work."""
    if x.shape[2] > 1:
        return ltx.LTX2VideoCausalConv3d.forward(self, x, causal)
    plane, weight, mode = x.squeeze(2), self.conv.weight.sum(2), self.conv.padding_mode
    if mode != "zeros":
        plane = nn.functional.pad(plane, (1, 1, 1, 1), mode=mode)
    return nn.functional.conv2d(plane, weight, self.conv.bias, padding=1 if mode == "zeros" else 0).unsqueeze(2)


def fast(vae):
    """Only for training on a CPU; the numbers stay the same up to rounding."""
    for module in vae.modules():
        if isinstance(module, ltx.PerChannelRMSNorm):
            module.forward = _norm.__get__(module)
        elif isinstance(module, ltx.LTX2VideoCausalConv3d):
            module.forward = _conv.__get__(module)
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return vae


def encode(vae, video):
    out = vae.encoder(video).float()
    mean, logvar = out[:, : models.VIDEO_Z], out[:, models.VIDEO_Z : models.VIDEO_Z + 1]
    return mean, logvar.clamp(-20, 10)


def distance(decoded: torch.Tensor, video: torch.Tensor) -> tuple[torch.Tensor, float]:
    """L1 that weighs the shape more than the background, and the plain one."""
    weight = 1 + SHAPE_WEIGHT * ((video - video[:, :, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05)
    error = (decoded - video).abs()
    return (error * weight).mean(), float(error.detach().mean())


def loss_of(vae, video: torch.Tensor, kl_weight: float = KL_WEIGHT) -> tuple[torch.Tensor, float]:
    with autocast():
        mean, logvar = encode(vae, video)
        decoded = vae.decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp()).float()
    loss, error = distance(decoded, video)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + kl_weight * kl, error


def decoder_loss_of(vae, video: torch.Tensor) -> tuple[torch.Tensor, float]:
    """With noise on the latents, because the transformer's are not exact either."""
    with autocast():
        with torch.no_grad():
            mean = encode(vae, video)[0]
        amount = torch.rand(len(mean), 1, 1, 1, 1) * LATENT_NOISE * mean.std((0, 2, 3, 4), keepdim=True)
        decoded = vae.decoder(mean + torch.randn_like(mean) * amount).float()
    return distance(decoded, video)


@torch.no_grad()
def evaluate(vae, video):
    with autocast():
        decoded = torch.cat([vae.decoder(encode(vae, v)[0]).float() for v in video.split(6)])
    return float((decoded.clamp(-1, 1) - video).abs().mean()), decoded


def batch_for(progress: float, batch: int) -> torch.Tensor:
    """Single frames until shapes appear (they do after a plateau at which only the background is right). Then mostly short
    crops round the shape, because it covers only a sixth of a frame, and more and more whole clips."""
    draw = float(torch.rand(()))
    if progress < 0.3 or draw < 0.08:
        return clips.random_crops(batch * 5, clips.SIZE, 1)
    if draw < (0.7 if progress < 0.7 else 0.3):
        return clips.random_crops(batch * 3, clips.SIZE // 2, 9)
    return clips.random_crops(batch, clips.SIZE, 9 if progress < 0.5 else clips.FRAMES)


def muon(name: str) -> bool:
    return not name.startswith(("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decoder", action="store_true", help="train only the decoder of a finished VAE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    vae, name = models.video_vae(), "video_vae"
    if args.decoder:
        vae.load_state_dict(torch.load(args.out / "video_vae.pt", weights_only=True)["average"])
        vae.encoder.requires_grad_(False)
        name = "video_decoder"
    else:
        initialise(vae)
    fast(vae)
    run = Run(vae, args.out / f"{name}.pt", steps=args.steps, lr=args.lr, warmup=0.03, decay=0.998, muon=muon)
    fast(run.average)
    held_out = clips.clips(clips.ALL_SPECS[::9], torch.Generator().manual_seed(7))
    total = count = 0
    while run.running:
        if args.decoder:
            loss, error = decoder_loss_of(vae, batch_for(1.0, args.batch))
        else:
            kl_weight = KL_WEIGHT * min(1.0, max(0.0, (run.progress - 0.15) / 0.3))
            loss, error = loss_of(vae, batch_for(run.progress, args.batch), kl_weight)
        norm = run.step(loss)
        total, count = total + error, count + 1
        if run.step_count % 50 == 0:
            print(f"step {run.step_count} {run.progress:.3f} L1 {total / count:.4f} loss {loss.item():.4f} grad {norm:.2f} "
                  f"lr {run.rate():.1e} {run.used / run.step_count:.3f} s/step", flush=True)
            total = count = 0
        if run.step_count % 250 == 0:
            l1, decoded = evaluate(run.average, held_out)
            contact_sheet(args.out / f"{name}.png", [x for i in (0, 5, 10, 17) for x in (held_out[i], decoded[i])])
            print(f"whole clips, averaged weights: L1 {l1:.4f}", flush=True)
            run.rest()
    run.finish()
    print(f"finished at step {run.step_count}: L1 {evaluate(run.average, held_out)[0]:.4f}", flush=True)


if __name__ == "__main__":
    main()
