#!/usr/bin/env python3
"""Measures transformers on the same checkpoint as `common/decoder/examples/measure_text.rs`: same arguments, same keys.

    python tests/reference/full_size_text_peer.py CHECKPOINT [bf16|f32] [none] [PROMPT] [DECODE] [SEQUENCES]

A checkpoint in Qwen's FP8 format is widened to bf16 while loading: transformers multiplies in 8 bits on a GPU only.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, FineGrainedFP8Config


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def argument(index: int, default: str) -> str:
    return sys.argv[index] if len(sys.argv) > index else default


def main() -> None:
    folder = Path(sys.argv[1])
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[argument(2, "bf16")]
    prompt, decode, sequences = (int(argument(index, default)) for index, default in ((4, "512"), (5, "32"), (6, "1")))
    config = AutoConfig.from_pretrained(folder)
    kind = AutoModelForImageTextToText if config.model_type == "qwen3_vl" else AutoModelForCausalLM
    extra = {}
    if getattr(config, "quantization_config", None):
        extra["quantization_config"] = FineGrainedFP8Config(dequantize=True)
    start = time.perf_counter()
    model = kind.from_pretrained(folder, dtype=dtype, **extra).eval()
    load_seconds = time.perf_counter() - start
    load_peak = peak_mb()
    vocab = model.get_input_embeddings().weight.shape[0]
    tokens = torch.tensor([[(index * 7919 + 13) % vocab for index in range(prompt)]] * sequences)
    with torch.inference_mode():
        start = time.perf_counter()
        result = model(tokens, use_cache=True, logits_to_keep=1)
        prefill_seconds = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(decode):
            token = result.logits[:, -1:].argmax(-1)
            result = model(token, past_key_values=result.past_key_values, use_cache=True)
        decode_seconds = time.perf_counter() - start
    print(json.dumps({
        "format": "bf16 from fp8" if extra else argument(2, "bf16"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "load_seconds": load_seconds,
        "load_peak_mb": load_peak,
        "run_peak_mb": peak_mb(),
        "prefill_tokens_per_second": prompt * sequences / prefill_seconds,
        "decode_tokens_per_second": decode * sequences / max(decode_seconds, 1e-9),
        "sequences": sequences,
    }))


if __name__ == "__main__":
    main()
