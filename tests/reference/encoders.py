"""Golden fixtures of the encoders, against transformers: UMT5 with its tokenizer, CLIP vision with its preprocessing.

    python tests/reference/encoders.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from common import FIXTURES, fill, save
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WORDS = "a the red green blue circle square moving left right on black background sur fond noir cat dog".split()


def make_tokenizer(folder: Path) -> Tokenizer:
    """A Unigram tokenizer like UMT5's: words begin with ▁, </s> ends the prompt."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0 - 0.1 * i) for i, word in enumerate(WORDS)]
    pieces += [(letter, -8.0 - 0.1 * i) for i, letter in enumerate(letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": 512}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def make_text_encoder(folder: Path, vocabulary: int) -> UMT5EncoderModel:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=24,
        d_kv=6,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
    )
    model = UMT5EncoderModel(config).eval()
    fill(model, seed=21)
    model.save_pretrained(folder)
    return model


def make_image_encoder(folder: Path, activation: str = "gelu") -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=20,
        intermediate_size=36,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        hidden_act=activation,
    )
    model = CLIPVisionModel(config).eval()
    fill(model, seed=31)
    model.save_pretrained(folder)
    return model


def make_image_processor(folder: Path) -> CLIPImageProcessorPil:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor.save_pretrained(folder)
    return processor


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """Smooth colours with sharp edges and some noise, `[height, width, 3]` bytes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 5 + c) * np.cos(y / (4 + c)) for c in range(3)], axis=-1) * 90 + 128
    waves[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 120)
    return np.clip(waves + random.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def umt5() -> None:
    folder = FIXTURES / "umt5"
    tokenizer = make_tokenizer(folder / "tokenizer")
    model = make_text_encoder(folder / "text_encoder", tokenizer.get_vocab_size())
    golden = {}
    prompts = {
        "short": "a red circle",
        "long": "the red circle moving right on a black background, le cercle sur fond noir and a zig zag cat dog",
        "empty": "",
        "unknown": "a größe 圆 circle",
        "cut": "red circle " * 400,
    }
    for name, prompt in prompts.items():
        encoding = tokenizer.encode(prompt)
        ids = encoding.ids if len(encoding.ids) <= 512 else encoding.ids[:511] + [1]
        filled = torch.zeros(1, 512, dtype=torch.long)
        filled[0, : len(ids)] = torch.tensor(ids)
        mask = (torch.arange(512) < len(ids)).long().unsqueeze(0)
        with torch.no_grad():
            hidden = model(filled, mask).last_hidden_state[0, : len(ids)]
        golden[f"{name}_ids"] = torch.tensor(ids)
        golden[f"{name}_hidden"] = hidden if name != "cut" else hidden[-16:].clone()
        print(name, len(ids), f"std {hidden.std():.3f}")
    save(folder, golden)


def clip() -> None:
    folder = FIXTURES / "clip"
    model = make_image_encoder(folder / "image_encoder")
    processor = make_image_processor(folder / "image_processor")
    golden = {}
    for name, (width, height) in {"wide": (61, 40), "tall": (33, 47), "small": (20, 17)}.items():
        image = picture(width, height, seed=width)
        pixels = processor(Image.fromarray(image), return_tensors="pt").pixel_values
        with torch.no_grad():
            hidden = model(pixels, output_hidden_states=True).hidden_states[-2]
        golden |= {f"{name}_image": torch.from_numpy(image), f"{name}_pixels": pixels, f"{name}_hidden": hidden}
        print(name, tuple(pixels.shape), tuple(hidden.shape), f"std {hidden.std():.3f}")
    quick = make_image_encoder(folder / "image_encoder_quick", activation="quick_gelu")
    with torch.no_grad():
        golden["quick_hidden"] = quick(golden["wide_pixels"], output_hidden_states=True).hidden_states[-2]
    lanczos = Image.fromarray(picture(61, 40, seed=61)).resize((32, 48), Image.Resampling.LANCZOS)
    golden["wide_lanczos"] = torch.from_numpy(np.asarray(lanczos).copy())
    save(folder, golden)


if __name__ == "__main__":
    umt5()
    clip()
