"""Generate prompts with diffusers from an exported checkpoint and measure what the clips show.

    python evaluate.py --checkpoint ../../checkpoints/demo-shapes            # 24 prompts that cover all words
    python evaluate.py --all                                                 # all 216
    python evaluate.py --prompt "a white square moving up on a navy background"
    python evaluate.py --fp8 --steps 12 --guidance 3 --sheet samples.png
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

import clips
import prompts
from measure import measure, wanted
from training import contact_sheet

ASPECTS = ("color", "direction", "shape", "background")


def quantise_fp8(transformer: torch.nn.Module) -> int:
    """Round the blocks' linear weights to e4m3 with one scale per output channel, as the server's fp8 does."""
    count = 0
    for name, module in transformer.blocks.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.data.float()
            scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 448.0
            rounded = (weight / scale).to(torch.float8_e4m3fn).float() * scale
            module.weight.data = rounded.to(module.weight.dtype)
            count += 1
    return count


def load(folder: Path, dtype: torch.dtype, sampler: str, shift: float, fp8: bool) -> WanPipeline:
    pipeline = WanPipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    if sampler == "euler":
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    elif shift != pipeline.scheduler.config.flow_shift:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=shift)
    if fp8:
        quantise_fp8(pipeline.transformer)
    return pipeline


def generate(pipeline: WanPipeline, texts: list[str], seeds: list[int], args) -> np.ndarray:
    """Frames uint8 [N, T, H, W, 3]."""
    video = pipeline(
        texts,
        height=args.height,
        width=args.width,
        num_frames=args.frames,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        generator=[torch.Generator().manual_seed(s) for s in seeds],
        output_type="np",
    ).frames
    return (np.asarray(video) * 255).round().clip(0, 255).astype(np.uint8)


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=here.parent.parent / "checkpoints" / "demo-shapes")
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--all", action="store_true", help="all 216 prompts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--fp8", action="store_true", help="transformer's linears rounded to fp8")
    for name, kind in (("steps", int), ("guidance", float), ("shift", float), ("frames", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--sampler", choices=("unipc", "euler"), default="unipc")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet")
    parser.add_argument("--quiet", action="store_true", help="only wrong clips and the sums")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    defaults = json.loads((args.checkpoint / "demo.json").read_text())["defaults"]
    for name in ("steps", "guidance", "frames", "width", "height"):
        if getattr(args, name) is None:
            setattr(args, name, defaults[name])
    shift = args.shift or defaults["flow_shift"]
    texts = args.prompt or (clips.PROMPTS if args.all else prompts.spread(args.count))
    pipeline = load(args.checkpoint, getattr(torch, args.dtype), args.sampler, shift, args.fp8)

    right = dict.fromkeys(ASPECTS, 0)
    asked = dict.fromkeys(ASPECTS, 0)
    sheet, spent = [], 0.0
    for start in range(0, len(texts), args.batch):
        part = texts[start : start + args.batch]
        began = time.monotonic()
        videos = generate(pipeline, part, [args.seed + start + i for i in range(len(part))], args)
        spent += time.monotonic() - began
        for prompt, frames in zip(part, videos, strict=True):
            found, want = measure(frames), wanted(prompt)
            marks = []
            for aspect in ASPECTS:
                if want[aspect] is None or (aspect == "direction" and len(frames) == 1):
                    continue
                ok = getattr(found, aspect) == want[aspect]
                asked[aspect] += 1
                right[aspect] += ok
                if not ok:
                    marks.append(f"{aspect}: {getattr(found, aspect)}")
            if marks or not args.quiet:
                dx, dy = found.displacement
                shape = " ".join(f"{o:.2f}" for o in found.overlap)
                rgb = ",".join(f"{c:.0f}" for c in found.rgb)
                verdict = "WRONG " + "; ".join(marks) if marks else "ok"
                print(f"{prompt:62s} rgb {rgb:12s} moved {dx:+6.1f} {dy:+6.1f} overlap {shape}  {verdict}", flush=True)
            if len(sheet) < 24:
                sheet.append(torch.from_numpy(frames).permute(3, 0, 1, 2) / 127.5 - 1)
    print(
        f"{len(texts)} prompts, {args.steps} steps, guidance {args.guidance}, {args.sampler} shift {shift}, "
        f"{args.dtype}{', fp8' if args.fp8 else ''}: "
        + ", ".join(f"{a} {right[a]}/{asked[a]} ({right[a] / max(1, asked[a]):.0%})" for a in ASPECTS)
        + f"; {spent / len(texts):.2f} s a clip in batches of {args.batch}"
    )
    if args.sheet:
        contact_sheet(args.sheet, sheet, every=max(1, args.frames // 8))


if __name__ == "__main__":
    main()
