"""Golden fixtures of LTX-2's text encoder: Gemma 3 with its tokenizer, against diffusers and transformers.

    python tests/reference/ltx2_text.py

`tests/fixtures/ltx2-text/` holds `tokenizer/` and `text_encoder/` in the published layout and `golden.safetensors`: for each
prompt its ids without padding, and what `LTX2Pipeline` hands to the connectors, without the rows of the padding. `chat.json` has a
conversation as transformers renders, tokenises and answers it, for serving the same checkpoint as a language model.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from common import FIXTURES, save
from diffusers import LTX2Pipeline
from text_models import fill
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

FOLDER = FIXTURES / "ltx2-text"
WORDS = "a the red green blue circle square triangle moving up down left right on black navy background and".split()
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
LENGTH = 32
PROMPTS = {
    "short": "a red circle",
    "long": "the green triangle moving up on a navy background, and the blue square\nmoving left and right",
    "empty": "",
    "spaces": " \n\u2003 a  red\tcircle \u001f\n",
    "bytes": "a größe 圆 circle 😀 <b>&amp;",
    "special": "the <eos> circle<bos>",
    "cut": "red circle moving up and " * 20,
}
# As in Gemma's published tokenizer_config.json.
TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""
CONVERSATION = [
    {"role": "system", "content": "the red circle"},
    {"role": "user", "content": " a square moving up \n"},
    {"role": "assistant", "content": "a blue square"},
    {"role": "user", "content": "and a größe circle"},
]
NEW_TOKENS = 24


def pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, letters and the merges that lead from letters to words."""
    vocabulary = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary += ["▁", "\n", "\t", "▁▁", *"abcdefghijklmnopqrstuvwxyz,.<>/"]
    merges = [("▁", "▁")]
    for word in WORDS:
        made = ""
        for letter in word + "▁":
            if made:
                merge = (made, letter)
                if merge not in merges:
                    merges.append(merge)
                    vocabulary += [made + letter] if made + letter not in vocabulary else []
            made += letter
    return {piece: index for index, piece in enumerate(vocabulary)}, merges


def make_tokenizer(folder: Path) -> None:
    """A tokenizer like Gemma's: BPE over whole texts with spaces as ▁, bytes for unknown letters, a <bos> at the start."""
    vocabulary, merges = pieces()
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens(SPECIAL)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {name + "_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk", "mask")}
    config |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "GemmaTokenizer", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def make_text_encoder(vocabulary: int, seed: int) -> Gemma3ForConditionalGeneration:
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=dict(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=20, max_position_embeddings=2048, sliding_window=8,
            layer_types=["sliding_attention", "full_attention"], rope_scaling=dict(rope_type="linear", factor=8.0),
            bos_token_id=2, eos_token_id=1, pad_token_id=0,
        ),
        vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4,
            vision_use_head=False,
        ),
        mm_tokens_per_image=4, image_token_index=vocabulary - 1, boi_token_index=vocabulary - 2, eoi_token_index=vocabulary - 3,
        eos_token_id=[1, 6],
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    fill(model, seed, embedding=0.12)
    with torch.no_grad():
        # An end of turn that is likely enough to be generated.
        model.get_input_embeddings().weight[6] *= 3
    return model


def answer(model: Gemma3ForConditionalGeneration, tokenizer) -> tuple[dict, float]:
    text = tokenizer.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        result = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=[1, 6],
            pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )
    margin = min(float((best := logits[0].topk(2).values)[0] - best[1]) for logits in result.logits)
    new = result.sequences[0, ids.shape[1]:].tolist()
    chat = {"messages": CONVERSATION, "text": text, "ids": ids[0].tolist(), "new": new}
    return chat | {"answer": tokenizer.decode(new, skip_special_tokens=True)}, margin


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    make_tokenizer(FOLDER / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "tokenizer")
    vocabulary = len(tokenizer) + 3
    for seed in range(1000):
        model = make_text_encoder(vocabulary, seed)
        chat, margin = answer(model, tokenizer)
        print('try', seed, chat['new'], margin, flush=True)
        if chat["new"][-1] == 6 and 6 < len(chat["new"]) and margin > 5e-3 and len(set(chat["new"])) > 4:
            break
    else:
        raise SystemExit("no seed gives an answer that ends")
    holder = SimpleNamespace(tokenizer=tokenizer, text_encoder=model, _execution_device="cpu")
    golden = {}
    for name, prompt in PROMPTS.items():
        for length in (LENGTH, 1024) if name in ("short", "cut") else (LENGTH,):
            with torch.no_grad():
                embeds, mask = LTX2Pipeline._get_gemma_prompt_embeds(holder, prompt, max_sequence_length=length)
            count = int(mask.sum())
            assert mask[0, length - count:].all(), "padded on the left"
            ids = tokenizer(prompt.strip(), max_length=length, truncation=True).input_ids
            assert len(ids) == count
            golden[f"{name}_{length}_ids"] = torch.tensor(ids)
            golden[f"{name}_{length}_embeds"] = embeds[0, length - count:].clone()
            print(name, length, count, tuple(embeds.shape), f"std {embeds[0, length - count:].std():.3f}")
    save(FOLDER, golden)
    (FOLDER / "chat.json").write_text(json.dumps(chat, indent=1) + "\n")
    model.to(torch.bfloat16).save_pretrained(FOLDER / "text_encoder")
    (FOLDER / "text_encoder" / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 6]}) + "\n")
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"seed {seed}, {vocabulary} tokens, answer {chat['answer']!r} of {len(chat['new'])}, margin {margin:.4f}, {size} bytes")


if __name__ == "__main__":
    main()
