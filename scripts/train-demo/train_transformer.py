"""Train text encoder and transformer together, by flow matching on the VAE's normalised latents.

    python train_transformer.py --out build --minutes 80

Needs `vae.pt` from train_vae.py. Encodes the clips once (`latents.pt`), then trains. `--fresh N` replaces N
clips of the pool by new ones at each step, so that the transformer keeps seeing new motions.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import torch

import clips
import models
import prompts
import vae as small
from flow import batches, noise_levels
from training import Run

LATENT_FRAMES = 1 + (clips.FRAMES - 1) // 4


def load_encoder(path: Path):
    model = small.build()
    model.load_state_dict(torch.load(path, weights_only=True)["average"])
    # The numbers that inference will use, not the ones before rounding.
    return small.whole_clip_mode(model.to(torch.bfloat16).float().eval().requires_grad_(False))


@torch.no_grad()
def encode(encoder, specs: list[clips.Spec]) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return small.encode_whole(encoder, clips.clips(specs))[0]


def make_pool(out: Path, encoder, copies: int) -> dict:
    """`copies` clips of every prompt as normalised latents, with the statistics that normalise them."""
    path = out / "latents.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    specs = clips.ALL_SPECS * copies
    started = time.monotonic()
    parts = []
    for i in range(0, len(specs), 24):
        parts.append(encode(encoder, specs[i : i + 24]))
        if i % 1200 == 0:
            print(f"encoded {i + 24} of {len(specs)}, {time.monotonic() - started:.0f} s", flush=True)
    latents = torch.cat(parts)
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    pool = {"latents": (latents - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1), "mean": mean, "std": std}
    temporary = path.with_suffix(".tmp")
    torch.save(pool, temporary)
    os.replace(temporary, path)
    return pool


def token_ids(phrases: list[list[str]]) -> torch.Tensor:
    known = {word: len(models.SPECIAL) + i for i, word in enumerate(prompts.WORDS)}
    ids = torch.zeros(len(phrases), models.TextToLatents.MAX_TOKENS, dtype=torch.long)
    for row, words in zip(ids, phrases, strict=True):
        row[: len(words) + 1] = torch.tensor([known.get(w, 2) for w in words] + [1])
    return ids


def frames_for_step() -> int:
    """Mostly whole clips, some stills and some shorter clips (the latents are causal: a prefix is a clip)."""
    draw = random.random()
    return 1 if draw < 0.1 else random.randint(2, LATENT_FRAMES - 1) if draw < 0.2 else LATENT_FRAMES


def loss_of(model: models.TextToLatents, latents: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Flow matching: predict noise minus data at a noise level drawn as the sampler's shift distributes them."""
    sigma = noise_levels(len(latents), models.FLOW_SHIFT)
    noise = torch.randn_like(latents)
    level = sigma.view(-1, 1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        velocity = model(latents * (1 - level) + noise * level, (sigma * 1000).floor(), ids)
    return (velocity.float() - (noise - latents)).square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--copies", type=int, default=24, help="clips of every prompt in the pool")
    parser.add_argument("--fresh", type=int, default=0, help="clips to replace at each step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(time.time_ns() % 2**31)
    encoder = load_encoder(args.out / "vae.pt")
    pool = make_pool(args.out, encoder, args.copies)
    latents, mean, std = pool["latents"], pool["mean"].view(1, -1, 1, 1, 1), pool["std"].view(1, -1, 1, 1, 1)
    specs = clips.ALL_SPECS * (len(latents) // len(clips.ALL_SPECS))
    model = models.TextToLatents()
    model.initialise()
    run = Run(model, args.out / "transformer.pt", minutes=args.minutes, lr=args.lr, warmup=0.05, decay=0.999)

    average, replaced, drawn = None, 0, batches(len(specs), args.batch)
    while run.running:
        chosen = next(drawn)
        if args.fresh:
            slots = chosen[: args.fresh]
            latents[slots] = (encode(encoder, [specs[i] for i in slots]) - mean) / std
            replaced += len(slots)
        frames = frames_for_step()
        ids = token_ids([prompts.phrase(specs[i], frames == 1) for i in chosen])
        loss = loss_of(model, latents[chosen, :, :frames], ids)
        norm = run.step(loss)
        if frames == LATENT_FRAMES:
            average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if run.step_count % 50 == 0:
            print(
                f"step {run.step_count} {run.progress:.3f} loss {average or 0:.4f} grad {norm:.2f} "
                f"lr {run.rate():.1e} {run.used / run.step_count:.2f} s/step fresh {replaced}",
                flush=True,
            )
    run.save()
    print(f"finished at step {run.step_count}", flush=True)


if __name__ == "__main__":
    main()
