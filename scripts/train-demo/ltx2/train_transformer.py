"""Train text encoder, connectors and transformer together, by flow matching on normalised latents of both VAEs.

    python -m ltx2.train_transformer --out build --steps 8000

Needs video_vae.pt and audio_vae.pt in --out. Encodes the clips once (latents.pt), then trains.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import torch

import clips
import prompts
from flow import batches, noise_levels
from ltx2 import joint, models, sounds
from ltx2 import train_audio_vae as audio
from ltx2 import train_video_vae as video
from training import Run, autocast

SHIFT = 1.85  # the scheduler's dynamic shift at this number of tokens
LOOKS = 6  # clips of a pool that share a motion (and so a sound) but not colours


def load(build, fast, path: Path):
    vae = build()
    vae.load_state_dict(torch.load(path, weights_only=True)["average"])
    # The numbers that inference will use, not the ones before rounding.
    return fast(vae.to(torch.bfloat16).float().eval().requires_grad_(False))


@torch.no_grad()
def encode(video_vae, audio_vae, specs: list[clips.Spec]) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed latents [N, 80, 32] and [N, 53, 32] of clips that show (and sound like) the specs. Each LOOKS specs after
    each other have the same shape and direction and share the motion."""
    color, shape, direction, background = clips.spec_indices(specs)
    radius, start, velocity = clips.sample_motion(shape[::LOOKS], direction[::LOOKS])
    with autocast():
        heard = audio.encode(audio_vae, sounds.sound(shape[::LOOKS], start, velocity))[0].float()
        radius, start, velocity = (x.repeat_interleave(LOOKS, 0) for x in (radius, start, velocity))
        tints = clips.palette(clips.COLORS)[color], clips.palette(clips.BACKGROUNDS)[background]
        seen = video.encode(video_vae, clips.render(shape, radius, start, velocity, *tints))[0].float()
    return seen.flatten(2).transpose(1, 2), heard.transpose(1, 2).flatten(2).repeat_interleave(LOOKS, 0)


def pool_specs(copies: int) -> list[clips.Spec]:
    """Every prompt `copies` times, in groups for `encode`."""
    ordered = sorted(clips.ALL_SPECS, key=lambda s: (s.shape, s.direction))  # 18 looks of each shape and direction
    return ordered * copies


def make_pool(out: Path, copies: int) -> dict:
    path = out / "latents.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    video_vae = load(models.video_vae, video.fast, out / "video_vae.pt")
    audio_vae = load(models.audio_vae, audio.fast, out / "audio_vae.pt")
    specs, parts, started = pool_specs(copies), [], time.monotonic()
    for i in range(0, len(specs), 4 * LOOKS):
        parts.append(encode(video_vae, audio_vae, specs[i : i + 4 * LOOKS]))
        if i % (200 * LOOKS) == 0:
            print(f"encoded {i} of {len(specs)} clips in {time.monotonic() - started:.0f} s", flush=True)
    pool = {}
    for name, data in zip(("video", "audio"), (torch.cat(p) for p in zip(*parts, strict=True)), strict=True):
        mean, std = data.mean((0, 1)), data.std((0, 1))
        pool |= {name: (data - mean) / std, name + "_mean": mean, name + "_std": std}
    torch.save(pool, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
    return pool


def loss_of(model, seen: torch.Tensor, heard: torch.Tensor, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow matching of picture and sound at one noise level: predict noise minus data."""
    sigma = noise_levels(len(seen), SHIFT)
    level = sigma.view(-1, 1, 1)
    noise, hiss = torch.randn_like(seen), torch.randn_like(heard)
    with autocast():
        a, b = model(seen * (1 - level) + noise * level, heard * (1 - level) + hiss * level, sigma, texts)
    return (a.float() - (noise - seen)).square().mean(), (b.float() - (hiss - heard)).square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--copies", type=int, default=24, help="clips of every prompt in the pool")
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(4)
    random.seed(4)
    pool = make_pool(args.out, args.copies)
    specs = pool_specs(len(pool["video"]) // len(clips.ALL_SPECS))
    model = joint.Joint()
    model.initialise()
    run = Run(model, args.out / "transformer.pt", steps=args.steps, lr=args.lr, warmup=0.03, decay=0.999, muon=joint.muon)
    drawn, mean = batches(len(specs), args.batch), None
    while run.running:
        chosen = next(drawn)
        texts = [" ".join(prompts.phrase(specs[i], still=False)) for i in chosen]
        losses = loss_of(model, pool["video"][chosen], pool["audio"][chosen], texts)
        norm = run.step(sum(losses))
        now = torch.stack(losses).detach()
        mean = now if mean is None else mean.lerp(now, 0.03)
        if run.step_count % 25 == 0:
            print(
                f"step {run.step_count} {run.progress:.3f} video {mean[0]:.4f} audio {mean[1]:.4f} grad {norm:.2f} "
                f"lr {run.rate():.1e} {run.used / run.step_count:.3f} s/step",
                flush=True,
            )
    run.finish()
    print(f"finished at step {run.step_count}", flush=True)


if __name__ == "__main__":
    main()
