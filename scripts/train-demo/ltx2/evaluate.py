"""Generate prompts with diffusers from an exported checkpoint and measure what the clips show and how they sound.

    python -m ltx2.evaluate --checkpoint ../../checkpoints/demo-ltx2            # 24 prompts that cover all words
    python -m ltx2.evaluate --all --quiet                                       # all 216
    python -m ltx2.evaluate --steps 12 --guidance 3 --sheet samples.png --sounds build/sounds
"""

from __future__ import annotations

import argparse
import json
import time
import wave
from pathlib import Path

import numpy as np
import torch
from diffusers import LTX2Pipeline

import clips
import prompts
from hear import hear
from measure import measure, wanted
from training import contact_sheet

SEEN = ("color", "direction", "shape", "background")
HEARD = ("pitch", "side", "timbre")


def generate(pipeline: LTX2Pipeline, texts: list[str], seeds: list[int], args, defaults: dict) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [N, T, H, W, 3] and samples [N, 2, S]."""
    frames, sound = pipeline(
        texts,
        height=defaults["height"],
        width=defaults["width"],
        num_frames=defaults["frames"],
        frame_rate=float(defaults["fps"]),
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        audio_guidance_scale=args.audio_guidance,
        guidance_rescale=defaults["guidance_rescale"],
        audio_guidance_rescale=defaults["guidance_rescale"],
        stg_scale=defaults["stg_scale"],
        audio_stg_scale=defaults["stg_scale"],
        modality_scale=defaults["modality_scale"],
        audio_modality_scale=defaults["modality_scale"],
        max_sequence_length=defaults["max_sequence_length"],
        generator=[torch.Generator().manual_seed(s) for s in seeds],
        output_type="np",
        return_dict=False,
    )
    return (np.asarray(frames) * 255).round().clip(0, 255).astype(np.uint8), sound.float().numpy()


def verdicts(prompt: str, frames: np.ndarray, sound: np.ndarray, rate: int) -> tuple[dict[str, tuple], str]:
    """For each aspect what was found and what was wanted, and a line of details."""
    seen, heard, want = measure(frames), hear(sound, rate), wanted(prompt)
    found = {aspect: (getattr(seen, aspect), want[aspect]) for aspect in SEEN}
    if want["direction"] in ("up", "down"):
        found["pitch"] = (heard.pitch, want["direction"])
    else:
        found["side"] = (heard.side, want["direction"])
    found["timbre"] = (heard.shape, want["shape"])
    dx, dy = seen.displacement
    details = (
        f"moved {dx:+6.1f} {dy:+6.1f} overlap {' '.join(f'{o:.2f}' for o in seen.overlap)} | rise {heard.rise:+5.0f} "
        f"balance {heard.balance:+5.1f} harmonics {heard.harmonics[0]:.2f} {heard.harmonics[1]:.2f} level {heard.level:.2f}"
    )
    return {a: pair for a, pair in found.items() if pair[1] is not None}, details


def save_sound(path: Path, sound: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2), file.setsampwidth(2), file.setframerate(rate)
        file.writeframes((sound.clip(-1, 1).T * 32767).astype("<i2").tobytes())


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=here.parents[2] / "checkpoints" / "demo-ltx2")
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--all", action="store_true", help="all 216 prompts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    for name, kind in (("steps", int), ("guidance", float), ("audio-guidance", float)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet")
    parser.add_argument("--sounds", type=Path, help="write the sounds into this folder")
    parser.add_argument("--quiet", action="store_true", help="only wrong clips and the sums")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    defaults = json.loads((args.checkpoint / "demo.json").read_text())["defaults"]
    for name in ("steps", "guidance", "audio_guidance"):
        if getattr(args, name) is None:
            setattr(args, name, defaults[name])
    texts = args.prompt or (clips.PROMPTS if args.all else prompts.spread(args.count))
    # Without a type Gemma would stay in the stored bf16 and the rest become f32.
    pipeline = LTX2Pipeline.from_pretrained(args.checkpoint, torch_dtype=getattr(torch, args.dtype))
    pipeline.set_progress_bar_config(disable=True)
    rate = pipeline.vocoder.config.output_sampling_rate

    right, asked = dict.fromkeys(SEEN + HEARD, 0), dict.fromkeys(SEEN + HEARD, 0)
    sheet, spent = [], 0.0
    for start in range(0, len(texts), args.batch):
        part = texts[start : start + args.batch]
        began = time.monotonic()
        videos, sounds = generate(pipeline, part, [args.seed + start + i for i in range(len(part))], args, defaults)
        spent += time.monotonic() - began
        for i, (prompt, frames, sound) in enumerate(zip(part, videos, sounds, strict=True)):
            found, details = verdicts(prompt, frames, sound, rate)
            wrong = [f"{aspect}: {got}" for aspect, (got, want) in found.items() if got != want]
            for aspect, (got, want) in found.items():
                asked[aspect] += 1
                right[aspect] += got == want
            if wrong or not args.quiet:
                print(f"{prompt:58s} {details}  {'WRONG ' + '; '.join(wrong) if wrong else 'ok'}", flush=True)
            if args.sounds:
                save_sound(args.sounds / f"{start + i:03d}.wav", sound, rate)
            if len(sheet) < 24:
                sheet.append(torch.from_numpy(frames).permute(3, 0, 1, 2) / 127.5 - 1)
    print(
        f"{len(texts)} prompts, {args.steps} steps, guidance {args.guidance} / {args.audio_guidance}, {args.dtype}: "
        + ", ".join(f"{a} {right[a]}/{asked[a]} ({right[a] / max(1, asked[a]):.0%})" for a in SEEN + HEARD)
        + f"; {spent / len(texts):.2f} s a clip in batches of {args.batch}"
    )
    if args.sheet:
        contact_sheet(args.sheet, sheet)


if __name__ == "__main__":
    main()
