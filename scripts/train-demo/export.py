"""Write the checkpoint in the published diffusers layout from the latest saved state of both trainings.

    python export.py --from build --to ../../checkpoints/demo-shapes

Parts without a training checkpoint get random weights, so the layout can be had before any training.
The folder is written beside the target and renamed into place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import UMT5EncoderModel

import checkpoint
import clips
import models
import vae as small

DEFAULTS = {
    "prompt": "a red circle moving right on a black background",
    "width": clips.SIZE,
    "height": clips.SIZE,
    "frames": clips.FRAMES,
    "fps": clips.FPS,
    "steps": 20,
    "guidance": 2.5,
    "flow_shift": models.FLOW_SHIFT,
    "sampler": "unipc",
}


def load(args) -> tuple[WanPipeline, dict]:
    trained: dict = {}
    latents = args.source / "latents.pt"
    mean = std = None
    if latents.exists():
        state = torch.load(latents, weights_only=True, mmap=True)
        mean, std = state["mean"].tolist(), state["std"].tolist()
    vae = small.build(mean, std)
    small.initialise(vae)
    if (args.source / "vae.pt").exists():
        state = torch.load(args.source / "vae.pt", weights_only=True)
        vae.load_state_dict({k: v.contiguous() for k, v in state["average"].items()})
        trained["vae_steps"] = state["step"]
    both = models.TextToLatents()
    both.initialise()
    if (args.source / "transformer.pt").exists():
        state = torch.load(args.source / "transformer.pt", weights_only=True)
        both.load_state_dict(state["average"])
        trained["transformer_steps"] = state["step"]
    # Fresh instances carry no training-only attention processors.
    transformer: WanTransformer3DModel = models.build_transformer()
    transformer.load_state_dict(both.transformer.state_dict())
    text_encoder: UMT5EncoderModel = both.text_encoder
    pipeline = WanPipeline(
        tokenizer=models.build_tokenizer(),
        text_encoder=text_encoder.to(torch.bfloat16),
        transformer=transformer.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=models.build_scheduler(),
    )
    return pipeline, trained


def contiguous(vae: AutoencoderKLWan) -> None:
    for parameter in vae.parameters():
        parameter.data = parameter.data.contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, default=Path("build"))
    parser.add_argument("--to", dest="target", type=Path, default=Path("../../checkpoints/demo-shapes"))
    args = parser.parse_args()

    pipeline, trained = load(args)
    contiguous(pipeline.vae)
    about = checkpoint.describe(
        "demo-shapes", "wan2.1", "Coloured shapes that move over a plain background", DEFAULTS, trained
    )
    size = checkpoint.write(pipeline, args.target, about)
    print(f"{args.target}: {size / 1e6:.2f} MB, trained: {trained or 'nothing, random weights'}")


if __name__ == "__main__":
    main()
