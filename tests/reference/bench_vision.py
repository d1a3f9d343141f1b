"""Measures transformers' vision tower of Qwen3-VL-2B, for comparison with `common/decoder/examples/bench_vision.rs`.

    python tests/reference/bench_vision.py --make FOLDER    # the official shape with random weights, bf16, 815 MB
    python tests/reference/bench_vision.py FOLDER (bf16|f32) THREADS ROWS COLUMNS [REPEATS]

ROWS and COLUMNS are counted in patches, both even: 30 and 40 for a picture of 640 x 480.
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

PREFIX = "model.visual."
# The vision configuration of Qwen3-VL-2B-Instruct.
SHAPE = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = Qwen3VLVisionModel(Qwen3VLVisionConfig(**SHAPE)).to(torch.bfloat16)
    save_file({PREFIX + name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "vision_config": SHAPE}))


def main() -> None:
    if sys.argv[1] == "--make":
        return make(Path(sys.argv[2]))
    folder, kind, *numbers = sys.argv[1:]
    threads, rows, columns, *rest = map(int, numbers)
    repeats = rest[0] if rest else 5
    torch.set_num_threads(threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[kind]
    start = time.perf_counter()
    config = Qwen3VLVisionConfig(**SHAPE)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = Qwen3VLVisionModel(config)
    weights = {name.removeprefix(PREFIX): tensor.to(dtype) for name, tensor in load_file(Path(folder) / "model.safetensors").items()}
    model.load_state_dict(weights, assign=True)
    # The frequencies of the rotary positions are not in the file.
    model.rotary_pos_emb = type(model.rotary_pos_emb)(config)
    model.eval()
    load_seconds = time.perf_counter() - start
    patches = torch.linspace(-1, 1, rows * columns * 1536).view(rows * columns, 1536).to(dtype)
    grid = torch.tensor([[1, rows, columns]])
    seconds = []
    with torch.no_grad():
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            features = model(patches, grid_thw=grid)
            if repeat > 0:
                seconds.append(time.perf_counter() - start)
    result = {
        "load_seconds": round(load_seconds, 3),
        "seconds": round(statistics.median_high(seconds), 4),
        "fastest_seconds": round(min(seconds), 4),
        "mean": features.pooler_output.double().abs().mean().item(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
