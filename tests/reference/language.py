"""Golden fixtures of tokenizers and chat templates, against transformers and tokenizers.

    python tests/reference/language.py [folder with the SmolLM2 GGUF file]

Writes into `tests/fixtures/language/`:
- `tokenizer.json`: a small byte-level BPE like Qwen's (pre-tokenisation, normal form C, special and ordinary added tokens), and
  `llama.json`: a small BPE like SentencePiece's with byte fallback; `tokens.json`: their tokens for difficult texts;
- `smollm2.json`: the tokens of transformers' tokenizer, converted from the GGUF file, for the same texts (only when the folder is
  given), with the pre-tokenisation of the published tokenizer, which the conversion loses;
- `templates.json`: conversations rendered by transformers with `templates/*.jinja`, which follow the families'
  published templates.
"""

import json
import random
import sys

from common import FIXTURES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

FOLDER = FIXTURES / "language"
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

TEXTS = [
    "", " ", "  ", "\n", "\r\n", "\t", "\n\n\n", " \n \n", "a", " a", "  a", "a ", "a  b", "Hello, world!", "Hello, world! ",
    "What is the capital of France?", "I'm you're he'll WE'VE it'S 'tis", "line one\nline two\r\nline three\r\rline four",
    "   leading", "\t\ttabs\tinside\t", "trailing   ", "a\u00a0b\u2003c\u3000d\u200be\ufeff", "1", "12", "123", "1234567890",
    "3.14159e-10", "1,000,000.50", "0x1F 0b101 1_000", "2024-02-29T23:59:60Z", "x=1;y=2", "½ ² ٣ 五 Ⅳ", "naïve café résumé",
    "cafe\u0301 e\u0301\u0323", "Ǆ ﬁ Å \u212b", "Привет, мир! Как дела?", "你好，世界！今天天气怎么样？", "日本語のテキスト。カタカナ",
    "한국어 텍스트입니다", "مرحبا بالعالم", "שלום עולם", "हिन्दी में पाठ", "ไทยไม่มีเว้นวรรค", "😀 😃👍🏽", "👨‍👩‍👧‍👦 family 🏳️‍🌈 🇫🇷🇩🇪",
    "e😀e", "🤷🏽‍♀️", "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) { a[i] <<= 1; }\n",
    "<html><body class=\"x\">&amp;</body></html>", "{\"key\": [1, 2.5, null, true], \"s\": \"\\n\"}", "SELECT * FROM t WHERE a!='b';",
    "$x^2 + \\frac{1}{2}$", "https://example.com/a?b=c&d=e#f", "user@example.com", "snake_case camelCase kebab-case SCREAMING",
    "<|im_end|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_end", "<|im_start|", "|im_end|>", "< |im_end|>", "<|IM_END|>",
    "a<|endoftext|>b", " <|im_end|> ", "<think>no</think>", "<tool_call>", "text<tool_call>text", "<repo_name>x<file_sep>",
    "!!!???...", "—–-‐", "“quotes” ‘single’ «guillemets»", "…", "\u0000\u0001\u007f", "a\u0000b", "\ud7ff\ue000\ufffd\U0010ffff",
    "ab" * 40, "🙂" * 20, " " * 50 + "x", "\n" * 30, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "The quick brown fox. " * 5,
]


def random_texts(count: int) -> list[str]:
    """Words, spaces, digits, marks, emoji and look-alikes of special tokens, mixed at random."""
    rng = random.Random(20)
    parts = [*"abcXYZ019.,!?'\"-_/\\ \n\r\t", "  ", "\r\n", "'s", " the", "ing", "é", "ß", "中", "文字", "🙂", "\u200d", "👩", "ñ", "́", "Ω",
             "<|im_end|>", "<|", "|>", "<think>", " 42", "…", "\u00a0"]
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 40))) for _ in range(count)]


def corpus() -> list[str]:
    """Enough text for a few hundred merges: the test texts, and the words of the templates."""
    return [*TEXTS, *random_texts(50), *(path.read_text() for path in sorted((FOLDER / "templates").glob("*.jinja")))]


def qwen_like() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED])
    return tokenizer


def llama_like() -> Tokenizer:
    """Written by hand: single characters, bytes for the others, a few merges, and a post-processor that adds the beginning token."""
    from tokenizers import processors

    words = ["▁the", "▁a", "ing", "▁Hello"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = []
    for word in words:
        for end in range(1, len(word) + 1):
            piece, last = word[:end], word[end - 1]
            vocab.setdefault(last, len(vocab))
            if end > 1 and piece not in vocab:
                vocab[piece] = len(vocab)
                merges.append((word[: end - 1], last))
    for character in "bcdfjkmpqsuvwxyz.,!?0123456789":
        vocab.setdefault(character, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    return tokenizer


def cases(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[dict]:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = []
    bare = Tokenizer.from_str(json.dumps(state))
    found = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        plain = bare.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, clean_up_tokenization_spaces=False)}
        if plain != ids:
            case["plain"] = plain
        found.append(case)
    return found


def write(name: str, value) -> None:
    path = FOLDER / name
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a <city> & more é",
     "parameters": {"type": "object", "properties": {
         "city": {"type": "string", "description": "Its name"},
         "days": {"type": "integer", "default": 1, "enum": [1, 2, 3]},
         "options": {"type": ["object", "null"], "properties": {"unit": {"type": "string"}}}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "now", "description": "  The time.  ", "parameters": {"type": "object", "properties": {}}}},
]


def call(name: str, arguments: dict) -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hi é😀 <b>&amp;</b>"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n\nthere  "}],
    "turns": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\nadd\n</think>\n\n2"},
        {"role": "user", "content": "and 2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": " add again\n"},
    ],
    "tools": [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Weather in Paris and Rome?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [
            call("get_weather", {"city": "Paris \"é\"\n", "days": 2}),
            call("get_weather", {"city": "Rome", "options": {"unit": "C", "list": [1, 2.5, True, None]}})]},
        {"role": "tool", "content": "{\"t\": 20}", "tool_call_id": "call_1"},
        {"role": "tool", "content": "rain", "tool_call_id": "call_2"},
        {"role": "assistant", "content": "", "tool_calls": [call("now", {})]},
        {"role": "tool", "content": "12:00", "tool_call_id": "call_3"},
        {"role": "user", "content": "Thanks"},
    ],
}
PICTURES = {
    "picture": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
    "pictures": [
        {"role": "system", "content": [{"type": "text", "text": "Look."}]},
        {"role": "user", "content": [{"type": "text", "text": "Compare "}, {"type": "image"}, {"type": "text", "text": " and "}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Same."}]},
        {"role": "user", "content": "Sure?"},
    ],
}


def rendered() -> list[dict]:
    found = []
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        template = _compile_jinja_template(path.read_text())
        conversations = dict(CONVERSATIONS)
        if path.stem == "qwen3_vl":
            conversations.update(PICTURES)
        if path.stem == "smollm2":
            del conversations["tools"]
        for name, messages in conversations.items():
            for tools in ([], TOOLS) if path.stem not in ("smollm2", "constructs") else ([],):
                for kwargs in ({}, {"enable_thinking": False}, {"enable_thinking": True, "add_vision_id": True}):
                    for prompt in (True, False):
                        text = template.render(
                            messages=messages, tools=tools or None, documents=None, add_generation_prompt=prompt, **kwargs
                        )
                        found.append({"template": path.name, "name": name, "messages": messages, "tools": bool(tools),
                                      "kwargs": kwargs, "add_generation_prompt": prompt, "text": text})
    return found


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = TEXTS + random_texts(150)
    result = {}
    for name, tokenizer in (("tokenizer", qwen_like()), ("llama", llama_like())):
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        result[name] = cases(fast, texts)
    write("tokens.json", result)
    if len(sys.argv) > 1:
        from pathlib import Path

        file = next(Path(sys.argv[1]).glob("*.gguf"))
        made = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=file.name)
        # transformers applies GPT-2's rule to every llama; the published tokenizer, and llama.cpp for `smollm`, split digits first.
        made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        write("smollm2.json", cases(made, texts))
    unique = {}
    renderings = rendered()
    conversations = {case["name"]: case.pop("messages") for case in renderings}
    for case in renderings:
        unique.setdefault(json.dumps(case, sort_keys=True), case)
    write("templates.json", {"tools": TOOLS, "conversations": conversations, "cases": list(unique.values())})


if __name__ == "__main__":
    main()
