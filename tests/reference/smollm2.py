"""Golden fixture of the demonstration language model against transformers on the same weights.

    python tests/reference/smollm2.py checkpoints/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf

transformers dequantises the GGUF file's weights (PyPI `gguf`) into its own `LlamaForCausalLM` in f32. For each of ten
prompts `tests/fixtures/text/smollm2/golden.safetensors` has the ids, 64 greedy tokens, the most likely token at every
position of both, and some columns of the logits after the prompt.

`precision` is the precision of the file: how much the logits change (relative, the mean over prompts) and how often the
most likely token stays the same when each 4-bit weight is changed at random within its rounding interval.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from common import FIXTURES, save
from gguf import GGMLQuantizationType, GGUFReader
from transformers import AutoTokenizer, LlamaForCausalLM

NEW_TOKENS = 64
# Every COLUMN_STEP-th column of the logits is kept.
COLUMN_STEP = 24
QUESTIONS = (
    "What is the capital of France?",
    "Write a haiku about autumn leaves.",
    "Why do we have seasons on Earth?",
    "List three prime numbers greater than 50.",
    "Translate to Spanish: I would like a cup of coffee.",
    "Give me a short recipe for pancakes.",
    "Who wrote the play Hamlet?",
    "What does the Rust borrow checker do?",
)
# Without a template: the model continues the text.
TEXTS = (
    "Once upon a time, in a small village by the sea, there lived a",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
)


NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def move_within_rounding(model: torch.nn.Module, path: Path, head_dim: int) -> None:
    """Adds at most half a quantisation step, positive or negative, to every weight in Q4_1."""
    generator = torch.Generator().manual_seed(3)
    parameters = dict(model.named_parameters())
    for tensor in GGUFReader(path).tensors:
        if tensor.tensor_type != GGMLQuantizationType.Q4_1:
            continue
        _, layer, part, _ = tensor.name.split(".")
        weight = parameters[f"model.layers.{layer}.{NAMES[part]}.weight"]
        blocks = np.ascontiguousarray(tensor.data).reshape(-1, 20)[:, :2].copy().view(np.float16).astype(np.float32)
        step = torch.from_numpy(blocks.reshape(weight.shape[0], -1)).repeat_interleave(32, dim=1)
        noise = step * (torch.rand(weight.shape, generator=generator) - 0.5)
        if part in ("attn_q", "attn_k"):  # rows in the file's order
            noise = noise.view(-1, head_dim // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        with torch.no_grad():
            weight.add_(noise)


def main(path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = LlamaForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
        for question in QUESTIONS
    ] + list(TEXTS)
    golden, rows = {}, []
    for index, prompt in enumerate(prompts):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            # Greedy for the full length, also after an end token.
            sequence = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
                eos_token_id=-1, pad_token_id=0,
            )
            logits = model(sequence).logits[0]
        best = logits.topk(2).values
        margin = (best[:, 0] - best[:, 1])[ids.shape[1] - 1 : -1].min()
        golden[f"prompt.{index}"] = ids[0].to(torch.int32)
        golden[f"greedy.{index}"] = sequence[0, ids.shape[1] :].to(torch.int32)
        golden[f"likeliest.{index}"] = logits.argmax(-1).to(torch.int32)
        rows.append((sequence, logits))
        golden[f"logits.{index}"] = logits[ids.shape[1] - 1, ::COLUMN_STEP].clone()
        print(f"{ids.shape[1]} + {NEW_TOKENS} tokens, smallest margin {margin:.4f}: {tokenizer.decode(golden[f'greedy.{index}'])!r}")
    move_within_rounding(model, path, model.config.head_dim)
    errors, same, count = [], 0, 0
    for index, (sequence, logits) in enumerate(rows):
        with torch.no_grad():
            moved = model(sequence).logits[0]
        at = len(golden[f"prompt.{index}"]) - 1
        errors.append(float((moved[at] - logits[at]).norm() / logits[at].norm()))
        same, count = same + int((moved.argmax(-1) == logits.argmax(-1)).sum()), count + len(logits)
    golden["precision"] = torch.tensor([sum(errors) / len(errors), same / count])
    print(f"within rounding: logits change by {errors}, {same / count:.3f} have the same most likely token")
    save(FIXTURES / "text" / "smollm2", golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
