"""Measures diffusers' decoding of random latents of sound, and its vocoder, on the CPU, for comparison with `cargo run --example bench_ltx2_audio`.

    python tests/reference/bench_ltx2_audio.py FOLDER (f32|bf16) LATENT_FRAMES [REPEATS]
    python tests/reference/bench_ltx2_audio.py --make FOLDER (vocoder|vocoder_with_bwe) [WIDTH]    # random weights, bf16

WIDTH divides the channels of the official sizes, for a quick comparison. The vocoder computes in f32 here too, as in the original code.
"""

import json
import os
import sys
import time

import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from ltx2_audio import OFFICIAL_VAE, OFFICIAL_VOCODER, OFFICIAL_VOCODER_WITH_BWE


def make(folder: str, kind: str, width: str = "1") -> None:
    torch.manual_seed(0)
    width = int(width)
    vae = dict(OFFICIAL_VAE, base_channels=128 // width, latent_channels=8 // width)
    AutoencoderKLLTX2Audio(**vae).to(torch.bfloat16).save_pretrained(f"{folder}/audio_vae")
    plain = kind == "vocoder"
    config = dict(OFFICIAL_VOCODER if plain else OFFICIAL_VOCODER_WITH_BWE)
    for key in ("hidden_channels", "bwe_hidden_channels"):
        if key in config:
            config[key] //= width
    (LTX2Vocoder if plain else LTX2VocoderWithBWE)(**config).to(torch.bfloat16).save_pretrained(f"{folder}/vocoder")


def measure(what: str, repeats: int, compute):
    seconds, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        with torch.no_grad():
            result = compute()
        seconds.append(round(time.perf_counter() - start, 3))
        processor.append(round(time.process_time() - used, 3))
    print(json.dumps({what: {"seconds": seconds, "processor": processor}}))
    return result


def main(folder: str, kind: str, frames: str, repeats: str = "3") -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[kind]
    vae = AutoencoderKLLTX2Audio.from_pretrained(f"{folder}/audio_vae", torch_dtype=dtype).eval()
    with open(f"{folder}/vocoder/config.json") as file:
        extended = "bwe_in_channels" in json.load(file)
    cls = LTX2VocoderWithBWE if extended else LTX2Vocoder
    vocoder = cls.from_pretrained(f"{folder}/vocoder", torch_dtype=torch.float32).eval()
    latents = torch.randn(1, vae.config.latent_channels, int(frames), vae.config.mel_bins // 4, dtype=dtype)
    mel = measure("audio_vae", int(repeats), lambda: vae.decode(latents).sample.float())
    measure("vocoder", int(repeats), lambda: vocoder(mel))


if __name__ == "__main__":
    make(*sys.argv[2:]) if sys.argv[1] == "--make" else main(*sys.argv[1:])
