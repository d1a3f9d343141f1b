"""Measures diffusers' decoding of random latents on the CPU, for comparison with `cargo run --example bench_wan_vae` and `bench_ltx2_vae`.

    python tests/reference/bench_vae.py FOLDER (f32|bf16) HEIGHT WIDTH LATENT_FRAMES [REPEATS]
    python tests/reference/bench_vae.py --make wan FOLDER     # random weights in Wan 2.1's configuration, bf16
    python tests/reference/bench_vae.py --make ltx2 FOLDER    # half as wide as LTX-2.0
"""

import json
import os
import sys
import time
from pathlib import Path

import diffusers
import torch

CONFIGURATIONS = {
    "wan": ("AutoencoderKLWan", {}),
    "ltx2": ("AutoencoderKLLTX2Video", dict(
        block_out_channels=(128, 256, 512, 1024), decoder_block_out_channels=(128, 256, 512), layers_per_block=(1,) * 5,
        decoder_causal=False, spatial_compression_ratio=32, temporal_compression_ratio=8,
    )),
}


def make(name: str, folder: str) -> None:
    kind, config = CONFIGURATIONS[name]
    torch.manual_seed(0)
    getattr(diffusers, kind)(**config).to(torch.bfloat16).save_pretrained(folder)


def main(folder: str, kind: str, height: str, width: str, frames: str, repeats: str = "3") -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[kind]
    name = json.loads((Path(folder) / "config.json").read_text())["_class_name"]
    vae = getattr(diffusers, name).from_pretrained(folder, torch_dtype=dtype).eval()
    factor = vae.spatial_compression_ratio
    channels = vae.config.get("z_dim") or vae.config.latent_channels
    latents = torch.randn(1, channels, int(frames), int(height) // factor, int(width) // factor, dtype=dtype)
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
        make(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
