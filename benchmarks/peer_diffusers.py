"""Makes one video with diffusers and prints how long each stage took and how much memory it needed, as JSON.

    peer_diffusers.py CHECKPOINT DTYPE WIDTH HEIGHT FRAMES STEPS [REPEATS]

`benchmarks/src/bin/measure-video.rs` does the same with this project: same arguments, same keys, same thread count (OMP_NUM_THREADS).
"""

import json
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def main():
    checkpoint, dtype = sys.argv[1], {"bf16": torch.bfloat16, "f32": torch.float32}[sys.argv[2]]
    width, height, frames, steps = (int(text) for text in sys.argv[3:7])
    repeats = int(sys.argv[7]) if len(sys.argv) > 7 else 1
    report = {"peak_mb": {}}

    def stage(name, action):
        reset_peak()
        start = time.perf_counter()
        result = action()
        report[f"{name}_seconds"] = time.perf_counter() - start
        report["peak_mb"][name] = peak_mb()
        return result

    # The VAE in the type of the pipeline, as in this project.
    def load():
        vae = AutoencoderKLWan.from_pretrained(checkpoint, subfolder="vae", torch_dtype=dtype)
        return WanPipeline.from_pretrained(checkpoint, vae=vae, torch_dtype=dtype)

    pipeline = stage("load", load)
    pipeline.set_progress_bar_config(disable=True)
    prompt = "a red circle moving right on a black background"
    best = {}
    for _ in range(repeats):
        with torch.inference_mode():
            positive, negative = stage("encode", lambda: pipeline.encode_prompt(prompt, "", max_sequence_length=512))
            marks = []

            def note(_pipeline, _step, _timestep, tensors):
                marks.append(time.perf_counter())
                return tensors

            def denoise():
                marks.append(time.perf_counter())
                return pipeline(
                    prompt_embeds=positive, negative_prompt_embeds=negative, width=width, height=height, num_frames=frames,
                    num_inference_steps=steps, guidance_scale=4.0, output_type="latent", callback_on_step_end=note,
                    generator=torch.Generator().manual_seed(0),
                ).frames

            latents = stage("denoise", denoise)
            times = sorted(later - earlier for earlier, later in zip(marks, marks[1:]))
            report["step_seconds"] = times[len(times) // 2]
            vae = pipeline.vae
            mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
            std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
            stage("decode", lambda: vae.decode((latents.float() * std + mean).to(dtype)).sample)
        for key, value in report.items():
            if key.endswith("_seconds"):
                best[key] = min(best.get(key, value), value)
    print(json.dumps(report | best))


if __name__ == "__main__":
    main()
