"""Golden fixture of the demonstration language model against transformers on the same weights.

    python tests/reference/smollm2.py checkpoints/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf

transformers takes the GGUF file's weights apart (PyPI `gguf`) into its own `LlamaForCausalLM` in f32. For each of ten
prompts `tests/fixtures/text/smollm2/golden.safetensors` gets the ids, 64 greedy tokens, the likeliest token at every
position of both, and some columns of the logits after the prompt.
"""

import sys
from pathlib import Path

import torch
from common import FIXTURES, save
from transformers import AutoTokenizer, LlamaForCausalLM

NEW_TOKENS = 64
# Every so manieth column of the logits is kept.
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
# Without a template: the model goes on with the text.
TEXTS = (
    "Once upon a time, in a small village by the sea, there lived a",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
)


def main(path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = LlamaForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
        for question in QUESTIONS
    ] + list(TEXTS)
    golden = {}
    for index, prompt in enumerate(prompts):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            # Greedy to the end whatever the tokens mean.
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
        golden[f"logits.{index}"] = logits[ids.shape[1] - 1, ::COLUMN_STEP].clone()
        print(f"{ids.shape[1]} + {NEW_TOKENS} tokens, least margin {margin:.4f}: {tokenizer.decode(golden[f'greedy.{index}'])!r}")
    save(FIXTURES / "text" / "smollm2", golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
