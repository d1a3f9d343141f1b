"""Measures diffusers' transformer on a checkpoint, for comparison with `services/wan21/examples/bench_wan21_transformer.rs`.

    python tests/reference/bench_transformer.py <checkpoint> <bf16|f32> none <threads> <frames> <rows> <columns> <steps> [tokens]

A step uses guidance: two predictions, one after the other, as in diffusers' pipeline.
"""

import json
import resource
import statistics
import sys
import time

import torch
from diffusers import WanTransformer3DModel


def main() -> None:
    checkpoint, kind, _, *numbers = sys.argv[1:]
    threads, frames, rows, columns, steps, *rest = map(int, numbers)
    torch.set_num_threads(threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[kind]
    start = time.perf_counter()
    model = WanTransformer3DModel.from_pretrained(f"{checkpoint}/transformer", torch_dtype=dtype).eval()
    load_seconds = time.perf_counter() - start
    config = model.config
    latents = torch.randn(1, config.in_channels, frames, rows, columns).to(dtype)
    prompts = []
    for tokens in (rest[0] if rest else 12, 1):
        embedding = torch.randn(1, tokens, config.text_dim)
        filling = torch.zeros(1, 512 - tokens, config.text_dim)
        prompts.append(torch.cat([embedding, filling], dim=1).to(dtype))
    seconds = []
    processor = time.process_time()
    with torch.no_grad():
        for step in range(steps + 1):
            start = time.perf_counter()
            for prompt in prompts:
                model(latents, torch.tensor([999.0 - step]), prompt, return_dict=False)
            # The first run is for warming up.
            if step > 0:
                seconds.append(time.perf_counter() - start)
            else:
                processor = time.process_time()
    result = {
        "load_seconds": round(load_seconds, 3),
        "step_seconds": round(statistics.median_high(seconds), 4),
        "fastest_seconds": round(min(seconds), 4),
        "processor_seconds": round((time.process_time() - processor) / steps, 3),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
