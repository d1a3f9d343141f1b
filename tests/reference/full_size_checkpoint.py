#!/usr/bin/env python3
"""Writes a Wan 2.1 T2V-1.3B checkpoint in the published layout, with random weights (about 29 GB as float32).

Names and shapes come from the classes of diffusers and transformers at the official configuration; nothing is
instantiated, so writing needs little memory. The tokenizer is the demonstration checkpoint's (its ids are small, the
embedding has the official 256,384 rows).

    python tests/reference/full_size_checkpoint.py FOLDER [--dtype float32|bfloat16] [--tokenizer FOLDER]
"""

import argparse
import json
import shutil
import struct
import zlib
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

SHARD_BYTES = 5_000_000_000
DTYPES = {"float32": (torch.float32, "F32"), "bfloat16": (torch.bfloat16, "BF16")}

TRANSFORMER = dict(
    patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=16, out_channels=16,
    text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=30, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    eps=1e-6, image_dim=None, added_kv_proj_dim=None, rope_max_seq_len=1024,
)
TEXT_ENCODER = dict(
    vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
    relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu",
    tie_word_embeddings=False, is_encoder_decoder=False,
)


def shards_of(tensors, item_bytes):
    """Splits [(name, shape)] into groups of at most SHARD_BYTES."""
    groups, size = [[]], 0
    for name, shape in tensors:
        count = item_bytes
        for side in shape:
            count *= side
        if groups[-1] and size + count > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append((name, shape, count))
        size += count
    return groups


def blocks(name, count, noise):
    """Norm weights are 1, biases 0, everything else small noise: activations stay finite through all layers."""
    last = name.rsplit(".", 1)[-1]
    if last == "bias":
        block = torch.zeros_like(noise)
    elif "norm" in name and last in ("weight", "gamma"):
        block = torch.ones_like(noise)
    else:
        block = torch.roll(noise, zlib.crc32(name.encode()) % 100_003)
    while count > 0:
        yield block[:count]
        count -= block.numel()


def write_file(path, group, dtype, label, noise):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, count in group:
        header[name] = {"dtype": label, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, _, count in group:
            for block in blocks(name, count // dtype.itemsize, noise):
                file.write(memoryview(block.contiguous().view(torch.uint8).numpy()))


def write_component(folder, stem, model, dtype, label):
    folder.mkdir(parents=True, exist_ok=True)
    noise = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(7)) * 0.02).to(dtype)
    tensors = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    if "shared.weight" in dict(tensors):  # stored once, as transformers does for tied tensors
        tensors = [item for item in tensors if item[0] != "encoder.embed_tokens.weight"]
    groups = shards_of(tensors, dtype.itemsize)
    if len(groups) == 1:
        write_file(folder / f"{stem}.safetensors", groups[0], dtype, label, noise)
    else:
        weight_map = {}
        for index, group in enumerate(groups, 1):
            name = f"{stem}-{index:05}-of-{len(groups):05}.safetensors"
            write_file(folder / name, group, dtype, label, noise)
            weight_map |= {tensor: name for tensor, _, _ in group}
        total = sum(count for group in groups for _, _, count in group)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1))
    config = dict(model.config) if not hasattr(model.config, "to_json_file") else None
    if config is None:
        model.config.architectures = [type(model).__name__]
        model.config.to_json_file(folder / "config.json")
    else:
        config = {"_class_name": type(model).__name__, "_diffusers_version": "0.42.1"} | config
        (folder / "config.json").write_text(json.dumps(config, indent=1, default=list))
    print(f"{folder.name}: {len(tensors)} tensors in {len(groups)} file(s)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    demo = Path(__file__).resolve().parents[2] / "checkpoints" / "demo-shapes"
    parser.add_argument("--tokenizer", type=Path, default=demo / "tokenizer")
    arguments = parser.parse_args()
    dtype, label = DTYPES[arguments.dtype]
    with torch.device("meta"):
        transformer = WanTransformer3DModel(**TRANSFORMER)
        text_encoder = UMT5EncoderModel(UMT5Config(**TEXT_ENCODER))
        vae = AutoencoderKLWan()
    out = arguments.folder
    write_component(out / "transformer", "diffusion_pytorch_model", transformer, dtype, label)
    write_component(out / "text_encoder", "model", text_encoder, dtype, label)
    write_component(out / "vae", "diffusion_pytorch_model", vae, torch.float32, "F32")
    shutil.copytree(arguments.tokenizer, out / "tokenizer", dirs_exist_ok=True)
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    ).save_pretrained(out / "scheduler")
    index = {
        "_class_name": "WanPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
