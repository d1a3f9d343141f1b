"""Train the demonstration VAE: single frames first, then short crops, at last whole clips.

    python train_vae.py --out build --minutes 45
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import clips
import vae as small
from training import Run, contact_sheet

KL_WEIGHT = 1e-3
# The shape covers a sixth of the picture but is all that matters.
SHAPE_WEIGHT = 3.0


def batch_for(progress: float) -> torch.Tensor:
    """The curriculum, by the share of the budget used so far."""
    if progress < 0.06:
        return clips.random_crops(32, 32, 1)
    if progress < 0.78:
        return clips.random_crops(8, 32, 9)
    if torch.rand(()) < 0.1:
        return clips.random_crops(12, clips.SIZE, 1)
    return clips.random_crops(2, clips.SIZE, clips.FRAMES)


def loss_of(model, video: torch.Tensor) -> tuple[torch.Tensor, float]:
    with torch.autocast("cpu", torch.bfloat16):
        mean, logvar = small.encode_whole(model, video)
        latents = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        decoded = small.decode_whole(model, latents)
    corner = video[:, :, :, :1, :1]
    weight = 1 + SHAPE_WEIGHT * ((video - corner).abs().amax(1, keepdim=True) > 0.05)
    error = (decoded - video).abs()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return (error * weight).mean() + KL_WEIGHT * kl, float(error.detach().mean())


@torch.no_grad()
def evaluate(model, video: torch.Tensor) -> tuple[float, torch.Tensor]:
    """L1 in -1..1 on whole clips, from the latents' means."""
    with torch.autocast("cpu", torch.bfloat16):
        decoded = torch.cat([small.decode_whole(model, small.encode_whole(model, v)[0]) for v in video.split(4)])
    return float((decoded.clamp(-1, 1) - video).abs().mean()), decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(time.time_ns() % 2**31)
    model = small.build()
    small.initialise(model)
    small.whole_clip_mode(model)
    run = Run(model, args.out / "vae.pt", minutes=args.minutes, lr=args.lr, warmup=0.05, decay=0.998)
    small.whole_clip_mode(run.average)
    held_out = clips.clips(clips.ALL_SPECS[::9], torch.Generator().manual_seed(7))

    total, count = 0.0, 0
    while run.running:
        loss, error = loss_of(model, batch_for(run.progress))
        norm = run.step(loss)
        total, count = total + error, count + 1
        if run.step_count % 50 == 0:
            print(
                f"step {run.step_count} {run.progress:.3f} L1 {total / count:.4f} loss {loss.item():.4f} "
                f"grad {norm:.2f} lr {run.rate():.1e} {run.used / run.step_count:.2f} s/step",
                flush=True,
            )
            total, count = 0.0, 0
        if run.step_count % 500 == 0:
            l1, decoded = evaluate(run.average, held_out)
            contact_sheet(args.out / "vae.png", [x for i in (0, 5, 10, 17) for x in (held_out[i], decoded[i])])
            print(f"whole clips, averaged weights: L1 {l1:.4f}", flush=True)
            run.rest()
    run.save()
    l1, _ = evaluate(run.average, held_out)
    print(f"finished at step {run.step_count}: L1 {l1:.4f}", flush=True)


if __name__ == "__main__":
    main()
