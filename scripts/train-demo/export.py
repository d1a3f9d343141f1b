"""Write the checkpoint in the published diffusers layout from the latest saved state of both trainings.

    python export.py --from build --to ../../checkpoints/demo-shapes

Parts without a training checkpoint get random weights, so the layout can be had before any training.
The folder is written beside the target and renamed into place.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import UMT5EncoderModel

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


def describe(trained: dict) -> dict:
    """`demo.json`: facts about this checkpoint for programs that serve it."""
    return {
        "name": "demo-shapes",
        "architecture": "wan2.1",
        "title": "Coloured shapes that move over a plain background",
        "defaults": DEFAULTS,
        "vocabulary": {
            "words": models.WORDS,
            "spellings": models.SPELLINGS,
            "colors": list(clips.COLORS),
            "shapes": list(clips.SHAPES),
            "directions": list(clips.DIRECTIONS),
            "backgrounds": list(clips.BACKGROUNDS),
            "template": "a {color} {shape} moving {direction} on a {background} background",
        },
        "palette": {"colors": clips.COLORS, "backgrounds": clips.BACKGROUNDS},
        "license": "Apache-2.0",
        "training": {
            "script": "scripts/train-demo",
            "data": "synthetic clips drawn by scripts/train-demo/clips.py; no third-party data or weights",
            **trained,
        },
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
    target = args.target.resolve()
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(fresh, safe_serialization=True)
    for file in (fresh / "model_index.json", fresh / "tokenizer" / "tokenizer_config.json"):
        # The same class under the name that transformers 4 knows as well.
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    (fresh / "demo.json").write_text(json.dumps(describe(trained), indent=2) + "\n")
    for file in fresh.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    if target.exists():
        os.rename(target, old)
    os.rename(fresh, target)
    shutil.rmtree(old, ignore_errors=True)

    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
    print(f"{args.target}: {size / 1e6:.2f} MB, trained: {trained or 'nothing, random weights'}")


if __name__ == "__main__":
    main()
