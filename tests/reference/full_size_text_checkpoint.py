#!/usr/bin/env python3
"""Writes checkpoints and tensor lists of language models at their official sizes, without the published weights.

    python tests/reference/full_size_text_checkpoint.py write qwen3-4b|qwen3-vl-2b FOLDER [--fp8]
    python tests/reference/full_size_text_checkpoint.py lists

`write` makes a checkpoint in the published layout with random weights (8 and 4.3 GB in bf16; with `--fp8` the text layers in
Qwen's format, with a scale for each block of 128 × 128). `lists` writes the names and shapes of all models' tensors to
`tests/fixtures/text/official.json`, one line for each pattern of layers and experts. Names and shapes come from transformers' own classes;
nothing is instantiated, so both need little memory.
"""

import argparse
import json
import struct
import zlib
from pathlib import Path

import torch
import transformers
from common import FIXTURES, collapsed, write_tensor_lists
from transformers.core_model_loading import revert_weight_conversion

SHARD_BYTES = 2_000_000_000
BLOCK = 128

# The published config.json of each model, without fields that no shape or number depends on.
MODELS = {
    "qwen3-4b": ("Qwen3ForCausalLM", "Qwen3Config", dict(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=262144, rms_norm_eps=1e-6, rope_theta=5000000,
        tie_word_embeddings=True, bos_token_id=151643, eos_token_id=151645,
    )),
    "qwen3-vl-2b": ("Qwen3VLForConditionalGeneration", "Qwen3VLConfig", dict(
        text_config=dict(
            vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
            num_key_value_heads=8, head_dim=128, max_position_embeddings=262144, rms_norm_eps=1e-6, rope_theta=5000000,
            rope_scaling=dict(rope_type="default", mrope_section=[24, 20, 20], mrope_interleaved=True),
            bos_token_id=151643, eos_token_id=151645,
        ),
        vision_config=dict(
            depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, in_channels=3, patch_size=16,
            spatial_merge_size=2, temporal_patch_size=2, out_hidden_size=2048, num_position_embeddings=2304,
            deepstack_visual_indexes=[5, 11, 17],
        ),
        tie_word_embeddings=True, image_token_id=151655, video_token_id=151656, vision_start_token_id=151652,
        vision_end_token_id=151653,
    )),
    "gemma-3-12b": ("Gemma3ForConditionalGeneration", "Gemma3Config", dict(
        text_config=dict(
            hidden_size=3840, intermediate_size=15360, num_hidden_layers=48, num_attention_heads=16, num_key_value_heads=8,
            sliding_window=1024, rope_scaling=dict(rope_type="linear", factor=8.0),
        ),
        vision_config=dict(
            hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=896,
            patch_size=14, vision_use_head=False,
        ),
        mm_tokens_per_image=256, boi_token_index=255999, eoi_token_index=256000, image_token_index=262144,
    )),
    "qwen3-coder-30b": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", dict(
        vocab_size=151936, hidden_size=2048, intermediate_size=5472, moe_intermediate_size=768, num_hidden_layers=48,
        num_attention_heads=32, num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], max_position_embeddings=262144, rms_norm_eps=1e-6,
        rope_theta=10000000, tie_word_embeddings=False, bos_token_id=151643, eos_token_id=151645,
    )),
    "glm-4.7-flash": ("Glm4MoeLiteForCausalLM", "Glm4MoeLiteConfig", dict(
        vocab_size=154880, hidden_size=2048, intermediate_size=10240, moe_intermediate_size=1536, num_hidden_layers=47,
        num_attention_heads=20, num_key_value_heads=20, n_routed_experts=64, n_shared_experts=1, num_experts_per_tok=4,
        n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.8, q_lora_rank=768, kv_lora_rank=512,
        qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256, max_position_embeddings=202752, rms_norm_eps=1e-5,
        rope_theta=1000000, tie_word_embeddings=False,
    )),
    "glm-4.7": ("Glm4MoeForCausalLM", "Glm4MoeConfig", dict(
        vocab_size=151552, hidden_size=5120, intermediate_size=12288, moe_intermediate_size=1536, num_hidden_layers=92,
        num_attention_heads=96, num_key_value_heads=8, head_dim=128, n_routed_experts=160, n_shared_experts=1,
        num_experts_per_tok=8, n_group=1, topk_group=1, first_k_dense_replace=3, norm_topk_prob=True,
        routed_scaling_factor=2.5, attention_bias=True, use_qk_norm=True, partial_rotary_factor=0.5,
        max_position_embeddings=202752, rms_norm_eps=1e-5, rope_theta=1000000, tie_word_embeddings=False,
    )),
}


def tensors_of(name):
    """The model's configuration, and the names and shapes of its tensors as transformers saves them."""
    model_class, config_class, values = MODELS[name]
    config = getattr(transformers, config_class)(**values)
    with torch.device("meta"):
        model = getattr(transformers, model_class)(config)
    model.config.architectures = [model_class]
    tied = set(model.all_tied_weights_keys)
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    state = revert_weight_conversion(model, state)
    return model.config, {key: list(tensor.shape) for key, tensor in state.items()}


def write_lists():
    models = {}
    for name in MODELS:
        config, shapes = tensors_of(name)
        models[name] = {"config": json.loads(config.to_json_string(use_diff=False)), "tensors": collapsed(shapes)}
        print(f"{name}: {len(shapes)} tensors, {sum(torch.Size(shape).numel() for shape in shapes.values()):,} parameters")
    write_tensor_lists(FIXTURES / "text" / "official.json", models)


def is_linear(name, shape):
    """Whether Qwen's FP8 checkpoints hold the tensor in 8 bits."""
    return len(shape) == 2 and ".layers." in name and "visual" not in name and "norm" not in name


def planned(shapes, fp8):
    """The content of the file: [(name, type, shape, bytes)]."""
    plan = []
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        if fp8 and is_linear(name, shape):
            plan.append((name, "F8_E4M3", shape, count))
            scales = [-(-side // BLOCK) for side in shape]
            plan.append((name + "_scale_inv", "BF16", scales, 2 * torch.Size(scales).numel()))
        else:
            plan.append((name, "BF16", shape, 2 * count))
    return plan


def blocks(name, kind, count, noise):
    """Bytes of a tensor: norm weights are 1, biases 0, scales 0.02 / 64, everything else noise that depends on the name."""
    last = name.rsplit(".", 1)[-1]
    if last == "bias":
        block = torch.zeros(1 << 20, dtype=torch.bfloat16)
    elif "norm" in name:
        block = torch.ones(1 << 20, dtype=torch.bfloat16)
    elif last.endswith("scale_inv"):
        block = torch.full((1 << 20,), 0.02 / 64, dtype=torch.bfloat16)
    else:
        block = torch.roll(noise[kind], zlib.crc32(name.encode()) % 100_003)
    block = block.view(torch.uint8)
    while count > 0:
        yield block[:count]
        count -= block.numel()


def write_file(path, group, noise):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, kind, shape, count in group:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, kind, _, count in group:
            for block in blocks(name, kind, count, noise):
                file.write(memoryview(block.numpy()))


def write_checkpoint(name, folder, fp8):
    config, shapes = tensors_of(name)
    plan = planned(shapes, fp8)
    groups, size = [[]], 0
    for entry in plan:
        if groups[-1] and size + entry[3] > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry[3]
    folder.mkdir(parents=True, exist_ok=True)
    values = torch.randn(1 << 22, generator=torch.Generator().manual_seed(7))
    noise = {"BF16": (values * 0.02).to(torch.bfloat16), "F8_E4M3": (values * 64).to(torch.float8_e4m3fn)}
    weight_map = {}
    for index, group in enumerate(groups, 1):
        file = f"model-{index:05}-of-{len(groups):05}.safetensors"
        write_file(folder / file, group, noise)
        weight_map |= {entry[0]: file for entry in group}
    total = sum(entry[3] for entry in plan)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    values = json.loads(config.to_json_string(use_diff=False)) | {"dtype": "bfloat16"}
    if fp8:
        kept = sorted({key.removesuffix(".weight") for key, shape in shapes.items() if len(shape) == 2 and not is_linear(key, shape)})
        values["quantization_config"] = {
            "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": kept + ["lm_head"],
        }
    (folder / "config.json").write_text(json.dumps(values, indent=1))
    print(f"{folder}: {len(plan)} tensors, {total:,} bytes in {len(groups)} files", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("model", choices=("qwen3-4b", "qwen3-vl-2b"))
    write.add_argument("folder", type=Path)
    write.add_argument("--fp8", action="store_true")
    commands.add_parser("lists")
    arguments = parser.parse_args()
    if arguments.command == "lists":
        write_lists()
    else:
        write_checkpoint(arguments.model, arguments.folder, arguments.fp8)


if __name__ == "__main__":
    main()
