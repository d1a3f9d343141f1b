"""Write the checkpoint in the published diffusers layout (bf16) from the latest saved state of all trainings.

    python -m ltx2.export --from build --to ../../checkpoints/demo-ltx2

Parts without a training checkpoint get their start weights, so the layout can be had before any training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import checkpoint
import clips
from ltx2 import joint, models, train_video_vae, vocoder_init

DEFAULTS = {
    "prompt": "a green triangle moving up on a navy background",
    "width": clips.SIZE,
    "height": clips.SIZE,
    "frames": clips.FRAMES,
    "fps": clips.FPS,
    "steps": 16,
    "guidance": 2.5,
    "audio_guidance": 2.5,
    "guidance_rescale": 0.0,
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "max_sequence_length": models.TEXT_LENGTH,
    "sampler": "euler",
}
SOUND = {
    "pitch": "rises from 300 to 800 Hz with the height on the screen, in steps of 100 Hz",
    "side": "left and right follow the position on the screen",
    "timbre": "circle: sine; square: odd harmonics; triangle: all harmonics",
}


def state(path: Path) -> dict | None:
    return torch.load(path, weights_only=True) if path.exists() else None


def load(source: Path):
    """The pipeline and how many steps each part was trained."""
    pipeline, trained = models.pipeline(), {}

    def fill(module, name: str, initialise) -> None:
        saved = state(source / f"{name}.pt")
        if saved is None:
            initialise(module)
        else:
            module.load_state_dict({key: value.contiguous() for key, value in saved["average"].items()})
            trained[f"{name}_steps"] = saved["step"]

    fill(pipeline.vae, "video_vae", train_video_vae.initialise)
    if (source / "video_decoder.pt").exists():
        fill(pipeline.vae, "video_decoder", None)
    fill(pipeline.audio_vae, "audio_vae", lambda vae: None)
    fill(pipeline.vocoder, "vocoder", vocoder_init.initialise)
    both = joint.Joint()
    both.initialise()
    fill(both, "transformer", lambda both: None)
    for name in both.PARTS:
        missing = getattr(pipeline, name).load_state_dict(getattr(both, name).state_dict(), strict=False)
        # Gemma's vision tower is part of the published class; it stays random (and tiny).
        assert not missing.unexpected_keys and all("vision" in k or "multi_modal" in k for k in missing.missing_keys), missing
    pool = state(source / "latents.pt")
    if pool is not None:
        for vae, name in ((pipeline.vae, "video"), (pipeline.audio_vae, "audio")):
            vae.latents_mean.copy_(pool[name + "_mean"])
            vae.latents_std.copy_(pool[name + "_std"])
    return pipeline.to(torch.bfloat16), trained


def describe(trained: dict) -> dict:
    """`demo.json`: facts about this checkpoint for programs that serve it."""
    about = checkpoint.describe("demo-ltx2", "ltx2", "Coloured shapes that move over a plain background, with sound", DEFAULTS, trained)
    return {**about, "sound": SOUND}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, default=Path("build"))
    parser.add_argument("--to", dest="target", type=Path, default=Path("../../checkpoints/demo-ltx2"))
    args = parser.parse_args()
    pipeline, trained = load(args.source)
    size = checkpoint.write(pipeline, args.target, describe(trained))
    print(f"{args.target}: {size / 1e6:.2f} MB, trained: {trained or 'nothing, start weights'}")


if __name__ == "__main__":
    main()
