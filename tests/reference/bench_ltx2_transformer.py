"""Measures diffusers' LTX-2 transformer at its official sizes, cut to a few blocks, for comparison with
`services/ltx2/examples/bench_ltx2_transformer.rs`.

    python tests/reference/bench_ltx2_transformer.py write <checkpoint> <2.0|2.3|2.5> <blocks>
    python tests/reference/bench_ltx2_transformer.py run <checkpoint> <bf16|f32> <threads> <frames> <rows> <columns> <steps> <branches> [tokens]

`write` makes a checkpoint of random weights (bf16; 4 blocks of 2.3: 4 GB). In `run` a step has the forward passes of diffusers' pipeline: one for both prompts,
and with 4 branches one with block 2 perturbed and one with isolated streams.
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import LTX2VideoTransformer3DModel
from full_size_checkpoint import write_component
from ltx2_official import NETWORKS

FPS = 24.0


def write(folder: str, version: str, blocks: str) -> None:
    network, values = NETWORKS[f"transformer-{version}"]
    with torch.device("meta"):
        model = network(**(values | dict(num_layers=int(blocks))))
    write_component(Path(folder) / "transformer", "diffusion_pytorch_model", model, torch.bfloat16, "BF16")


def run(checkpoint: str, kind: str, *numbers: str) -> None:
    threads, frames, rows, columns, steps, branches, *rest = map(int, numbers)
    torch.set_num_threads(threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[kind]
    start = time.perf_counter()
    model = LTX2VideoTransformer3DModel.from_pretrained(f"{checkpoint}/transformer", torch_dtype=dtype).eval()
    load_seconds = time.perf_counter() - start
    config, tokens = model.config, rest[0] if rest else 1024
    sound = round(((frames - 1) * 8 + 1) / FPS * 25)
    video = torch.randn(1, frames * rows * columns, config.in_channels).to(dtype)
    audio = torch.randn(1, sound, config.audio_in_channels).to(dtype)
    widths = (config.caption_channels,) * 2 if config.use_prompt_embeddings else (config.cross_attention_dim, config.audio_cross_attention_dim)
    prompts = [torch.randn(2, tokens, width).to(dtype) for width in widths]
    coordinates = model.rope.prepare_video_coords(1, frames, rows, columns, "cpu", fps=FPS)
    sound_coordinates = model.audio_rope.prepare_audio_coords(1, sound, "cpu")

    def forward(batch: int, timestep: float, **options) -> None:
        times = torch.full((batch,), timestep)
        mask = torch.ones(batch, tokens, dtype=torch.int64)
        model(
            hidden_states=video.expand(batch, -1, -1), audio_hidden_states=audio.expand(batch, -1, -1),
            encoder_hidden_states=prompts[0][:batch], audio_encoder_hidden_states=prompts[1][:batch], timestep=times, sigma=times,
            encoder_attention_mask=mask, audio_encoder_attention_mask=mask, audio_num_frames=sound,
            video_coords=coordinates.expand(batch, -1, -1, -1), audio_coords=sound_coordinates.expand(batch, -1, -1, -1),
            use_cross_timestep=True, return_dict=False, **options,
        )

    seconds = []
    with torch.no_grad():
        for step in range(steps + 1):
            start = time.perf_counter()
            forward(min(branches, 2), 999.0 - step)
            if branches > 2:
                forward(1, 999.0 - step, spatio_temporal_guidance_blocks=[2])
            if branches > 3:
                forward(1, 999.0 - step, isolate_modalities=True)
            # The first run is for warming up.
            if step > 0:
                seconds.append(time.perf_counter() - start)
    result = {
        "load_seconds": round(load_seconds, 3),
        "step_seconds": round(statistics.median_high(seconds), 4),
        "fastest_seconds": round(min(seconds), 4),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](*sys.argv[2:])
