"""Golden fixtures of the language models, one tiny random model for each family, against transformers.

    python tests/reference/text_models.py [FAMILY …]

For each family `tests/fixtures/text/<family>/` holds `config.json` and `model.safetensors` in the published layout (bf16,
one tensor for each expert) and `golden.safetensors`: prompts, their logits at every position and 32 greedy tokens each, computed
in f32. The sizes are chosen so that equal sizes hide no error: heads * head_dim is not the hidden size, keys and
values have fewer heads, correction biases are not zero, windows are shorter than the prompts.

Gemma 3 is stored twice: with a vision tower (which is ignored) and the fields of the published configurations, and as a text model
with the fields that transformers 5 writes.
"""

import json
import shutil
import sys

import torch
from common import FIXTURES
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Glm4MoeConfig,
    Glm4MoeForCausalLM,
    Glm4MoeLiteConfig,
    Glm4MoeLiteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

VOCAB = 200
LENGTHS = (5, 23, 40)
# Tokens on the left of the prompts whose hidden states are stored.
PADDING = 9
NEW_TOKENS = 32
# Least distance of the two best logits of a greedy choice: more than the tolerance of the comparison, or the fixture would be ambiguous.
LEAST_MARGIN = 2e-3

COMMON = dict(
    vocab_size=VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, pad_token_id=None, bos_token_id=None, eos_token_id=None,
)
GEMMA = dict(intermediate_size=40, head_dim=12)
# As in the published files of Gemma 3.
GEMMA_PUBLISHED = dict(
    sliding_window_pattern=2, rope_theta=1000000.0, rope_local_base_freq=10000.0,
    rope_scaling=dict(rope_type="linear", factor=8.0),
)
IMAGE_TOKEN = VOCAB - 1
VISION_START = VOCAB - 2
VISION_END = VOCAB - 3
# Patches in time, height and width; a square of two by two patches is a token.
GRIDS = ((1, 4, 6), (1, 6, 2))

MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(
        **COMMON, intermediate_size=40, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True,
        mlp_bias=True,
        rope_parameters=dict(
            rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    )),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(
        **COMMON, intermediate_size=40, head_dim=12, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=5000000.0),
    )),
    "qwen3_moe": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(
        **COMMON, intermediate_size=40, moe_intermediate_size=12, head_dim=12, num_experts=8, num_experts_per_tok=3,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1],
        rope_parameters=dict(rope_type="default", rope_theta=10000000.0),
    )),
    "glm4_moe": lambda: Glm4MoeForCausalLM(Glm4MoeConfig(
        **COMMON, intermediate_size=40, moe_intermediate_size=12, head_dim=16, n_routed_experts=8, num_local_experts=8,
        n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2, first_k_dense_replace=1,
        routed_scaling_factor=2.5, attention_bias=True, use_qk_norm=True, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0, partial_rotary_factor=0.5),
    )),
    "glm4_moe_lite": lambda: Glm4MoeLiteForCausalLM(Glm4MoeLiteConfig(
        **(COMMON | dict(num_key_value_heads=4)), intermediate_size=40, moe_intermediate_size=12, n_routed_experts=8,
        num_local_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
        routed_scaling_factor=1.8, q_lora_rank=20, kv_lora_rank=24, qk_nope_head_dim=12, qk_rope_head_dim=8,
        v_head_dim=10, rms_norm_eps=1e-5, mlp_layer_types=["dense", "sparse", "sparse"],
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
    )),
    "gemma3": lambda: Gemma3ForConditionalGeneration(Gemma3Config(
        text_config=dict(**(COMMON | GEMMA), query_pre_attn_scalar=20, sliding_window=6, **GEMMA_PUBLISHED),
        vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4,
            vision_use_head=False,
        ),
        mm_tokens_per_image=4, image_token_index=VOCAB - 1, boi_token_index=VOCAB - 2, eoi_token_index=VOCAB - 3,
    )),
    "gemma3_text": lambda: Gemma3ForCausalLM(Gemma3TextConfig(
        **(COMMON | GEMMA), query_pre_attn_scalar=9, sliding_window=17, final_logit_softcapping=5.0,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=4.0, rope_theta=500000.0),
            sliding_attention=dict(rope_type="default", rope_theta=20000.0),
        ),
    )),
    "qwen3_vl": lambda: Qwen3VLForConditionalGeneration(Qwen3VLConfig(
        text_config=dict(
            **(COMMON | dict(num_hidden_layers=4)), intermediate_size=40, head_dim=24,
            rope_parameters=dict(
                rope_type="default", rope_theta=5000000.0, mrope_section=[4, 4, 4], mrope_interleaved=True
            ),
        ),
        vision_config=dict(
            depth=4, hidden_size=16, intermediate_size=24, num_heads=2, in_channels=3, patch_size=2,
            spatial_merge_size=2, temporal_patch_size=2, out_hidden_size=32, num_position_embeddings=64,
            deepstack_visual_indexes=[0, 1, 2],
        ),
        image_token_id=IMAGE_TOKEN, video_token_id=VOCAB - 4, vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END, tie_word_embeddings=True,
    )),
}


def fill(model: torch.nn.Module, seed: int, embedding: float = 0.3) -> None:
    """Random weights that bf16 represents exactly, and that keep activations at a size of about one."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, scale):
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if "inv_freq" in name or "embed_scale" in name or not tensor.is_floating_point():
                continue
            if "e_score_correction_bias" in name:
                # Large compared to the differences of scores: a model that ignores it selects other experts.
                value = normal(tensor.shape, 0.3)
            elif "norm" in name and name.endswith("weight"):
                # Gemma's norms multiply by 1 + weight.
                value = float("gemma" not in model.config.model_type) + normal(tensor.shape, 0.3)
            elif "embed" in name and "patch" not in name:
                value = normal(tensor.shape, embedding)
            elif tensor.ndim >= 2:
                fan_in = tensor.shape[-1] if tensor.ndim < 4 else tensor[0].numel()
                value = normal(tensor.shape, 1.6 * fan_in**-0.5)
            else:
                value = normal(tensor.shape, 0.3)
            tensor.copy_(value.to(torch.bfloat16))


def greedy(model: torch.nn.Module, prompt: torch.Tensor, extra: dict) -> tuple[torch.Tensor, float]:
    """The reference's generated tokens, and the smallest distance of the second best logit."""
    with torch.no_grad():
        result = model.generate(
            prompt.unsqueeze(0), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
            max_new_tokens=NEW_TOKENS, output_logits=True, return_dict_in_generate=True, **extra,
        )
    margins = [float((best := logits[0].topk(2).values)[0] - best[1]) for logits in result.logits]
    return result.sequences[0, len(prompt):], min(margins)


def pictures(prompt: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict, dict]:
    """A prompt with two pictures, the further arguments for transformers, and the tensors of the fixture."""
    parts, positions = [prompt[:4]], []
    for grid, text in zip(GRIDS, (prompt[4:9], prompt[9:]), strict=True):
        tokens = grid[0] * grid[1] * grid[2] // 4
        positions.append(sum(len(part) for part in parts) + 1)
        parts.append(torch.tensor([VISION_START] + tokens * [IMAGE_TOKEN] + [VISION_END]))
        parts.append(text)
    prompt = torch.cat(parts)
    patches = torch.randn(sum(t * h * w for t, h, w in GRIDS), 3 * 2 * 2 * 2, generator=generator)
    extra = dict(
        pixel_values=patches, image_grid_thw=torch.tensor(GRIDS),
        mm_token_type_ids=(prompt == IMAGE_TOKEN).to(torch.int32).unsqueeze(0),
    )
    told = {"patches": patches, "grids": torch.tensor(GRIDS), "image_positions": torch.tensor(positions)}
    return prompt, extra, told


def golden(name: str, model: torch.nn.Module, seed: int) -> tuple[dict, float]:
    generator = torch.Generator().manual_seed(seed)
    tensors, margin = {}, float("inf")
    for index, length in enumerate(LENGTHS):
        prompt, extra = torch.randint(0, VOCAB - 4, (length,), generator=generator), {}
        if name == "qwen3_vl" and index == 1:
            prompt, extra, told = pictures(prompt, generator)
            tensors |= told
        with torch.no_grad():
            result = model(prompt.unsqueeze(0), output_hidden_states=True, **extra)
        logits = result.logits[0]
        if name.startswith("gemma3"):
            # Of the prompt with padding on its left, as text encoders compute it; the padding is left out here.
            padded = torch.cat([torch.zeros(PADDING, dtype=torch.long), prompt]).unsqueeze(0)
            mask = (torch.arange(padded.shape[1]) >= PADDING).long().unsqueeze(0)
            with torch.no_grad():
                states = model(padded, attention_mask=mask, output_hidden_states=True).hidden_states
            tensors[f"hidden.{index}"] = torch.stack(states, dim=-1)[0, PADDING:]
        tokens, least = greedy(model, prompt, extra)
        margin = min(margin, least)
        tensors |= {f"prompt.{index}": prompt, f"logits.{index}": logits, f"greedy.{index}": tokens}
    return tensors, margin


def logits_scale(name: str) -> float:
    """Size of a family's logits relative to the others: Gemma's output layer is its small embedding."""
    return 0.3 if "gemma" in name else 1.0


def main() -> None:
    wanted = sys.argv[1:] or MODELS
    for name, make in ((name, MODELS[name]) for name in wanted):
        for seed in range(100, 200):
            torch.manual_seed(0)
            model = make().eval()
            # Gemma multiplies embeddings by the root of the width; larger ones only repeat the last token.
            fill(model, seed, embedding=0.05 if "gemma" in name else 0.3)
            tensors, margin = golden(name, model, seed + 1)
            distinct = min(len(set(tensors[f"greedy.{index}"].tolist())) for index in range(len(LENGTHS)))
            print(f"{name} with seed {seed}: margin {margin:.5f}, {distinct} distinct tokens", flush=True)
            if margin > LEAST_MARGIN * logits_scale(name) and distinct > (5 if "gemma" in name else 8):
                break
        else:
            raise SystemExit(f"{name}: no seed gives unambiguous choices")
        folder = FIXTURES / "text" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        config = json.loads((folder / "config.json").read_text())
        if name == "gemma3":
            text = config["text_config"]
            for new in ("layer_types", "rope_parameters", "_sliding_window_pattern", "tie_word_embeddings", "hidden_activation"):
                del text[new]
            text |= GEMMA_PUBLISHED
        (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        if name == "gemma3":
            again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            with torch.no_grad():
                assert torch.equal(again(tensors["prompt.2"].unsqueeze(0)).logits[0], tensors["logits.2"])
        stored = load_file(folder / "model.safetensors")
        if name.startswith("glm"):
            # Published files have a layer for multi-token prediction after the last one; it must be ignored.
            last = model.config.num_hidden_layers
            stored |= {f"model.layers.{last}.{part}": torch.ones(2, 2) for part in ("eh_proj.weight", "mlp.up_proj.weight")}
            save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "golden.safetensors")
        size = sum(file.stat().st_size for file in folder.iterdir())
        spread = tensors["logits.2"].std()
        print(f"{name}: seed {seed}, {len(stored)} tensors, {size} bytes, logits std {spread:.2f}, "
              f"least margin {margin:.4f}, {distinct} distinct tokens")


if __name__ == "__main__":
    main()
