"""Measures diffusers' decoding of random latents on the CPU, for comparison with `cargo run --example bench_wan_vae`.

    python tests/reference/bench_vae.py FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]
    python tests/reference/bench_vae.py --make FOLDER    # random weights in Wan 2.1's configuration, bf16
"""

import json
import os
import sys
import time

import torch
from diffusers import AutoencoderKLWan


def main(folder: str, kind: str, height: str, width: str, frames: str, repeats: str = "3") -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[kind]
    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=dtype).eval()
    factor = vae.spatial_compression_ratio
    latents = torch.randn(1, vae.z_dim, int(frames), int(height) // factor, int(width) // factor, dtype=dtype)
    seconds, processor = [], []
    for _ in range(int(repeats)):
        start, used = time.perf_counter(), time.process_time()
        with torch.no_grad():
            video = vae.decode(latents).sample
            ((video.float() + 1) * 127.5).round().to(torch.uint8)
        seconds.append(round(time.perf_counter() - start, 3))
        processor.append(round(time.process_time() - used, 3))
    print(json.dumps({"seconds": seconds, "processor": processor}))


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        torch.manual_seed(0)
        AutoencoderKLWan().to(torch.bfloat16).save_pretrained(sys.argv[2])
    else:
        main(*sys.argv[1:])
