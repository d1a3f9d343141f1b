"""Writes tests/fixtures/vision: a tiny random Qwen3-VL with pictures, computed by transformers' classes.

    python tests/reference/vision.py

Requires torchvision 0.28 with torch 2.13 (transformers' default image processor) and Pillow.

model/          the checkpoint: config.json, preprocessor_config.json, model.safetensors (bf16, which represents every weight), a tokenizer
                of ASCII letters, and the chat template of tests/fixtures/language
chat.json       a conversation with both pictures by their names, and the model's greedy answer
images/         small files of many formats
images.json     for each file: grid and SHA-256 of the patches (f32, little endian) under two configurations, and whether the
                decoder is exact (PNG, lossless WebP) or approximate (JPEG, lossy WebP)
golden.safetensors
    patches.*         patches of two pictures under the tiny configuration, as bytes (v is (byte - 127.5) / 127.5)
    near.*            the same for lossy files, to be compared with a tolerance
    merged, deepstack.*   features of both pictures together
    ids, positions    a prompt with both pictures and text between, and three positions for each token
    logits            of that prompt, f32
    greedy            32 tokens that follow
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from common import FIXTURES, fill

FOLDER = FIXTURES / "vision"
IMAGE, START, END = 150, 151, 152
SPECIAL = {
    "<|image_pad|>": IMAGE,
    "<|vision_start|>": START,
    "<|vision_end|>": END,
    "<|video_pad|>": 153,
    "<|im_start|>": 154,
    "<|im_end|>": 155,
    "<|endoftext|>": 156,
    **{f"<|extra_{index}|>": index for index in range(157, 160)},
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
TINY = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 1024}}
PUBLISHED = {
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}


def config() -> Qwen3VLConfig:
    return Qwen3VLConfig(
        vision_config={
            "depth": 4,
            "hidden_size": 16,
            "intermediate_size": 40,
            "num_heads": 2,
            "patch_size": 4,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 2, 3],
        },
        text_config={
            "vocab_size": 160,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
        },
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
        video_token_id=153,
        tie_word_embeddings=True,
    )


def drawing(width: int, height: int, seed: int) -> np.ndarray:
    """Gradients, an edge and a little noise: `[height, width, 4]`."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 255 // max(height - 1, 1), columns * 255 // max(width - 1, 1), (rows * 7 + columns * 3) % 256]
    channels.append(np.where((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 3) ** 2, 255, rows * 5 % 256))
    picture = np.stack(channels, axis=-1)
    picture[:, width // 3] = [250, 5, 128, 255]
    noise = generator.integers(-9, 10, picture.shape) * (columns % 4 == 0)[..., None]
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def files() -> dict[str, bytes]:
    made = {}

    def save(name: str, picture: Image.Image, **options) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, {"jpg": "JPEG"}.get(name.split(".")[-1], name.split(".")[-1].upper()), **options)
        made[name] = buffer.getvalue()

    def exif(orientation: int) -> Image.Exif:
        tags = Image.Exif()
        tags[0x0112] = orientation
        return tags

    rgba = Image.fromarray(drawing(45, 31, 1), "RGBA")
    rgb = Image.fromarray(drawing(61, 23, 2)[..., :3], "RGB")
    save("rgb.png", rgb)
    save("rgba.png", rgba)
    save("small.png", rgb.crop((0, 0, 5, 7)))
    save("tall.png", Image.fromarray(drawing(9, 140, 3)[..., :3], "RGB"))
    save("exact-size.png", rgb.crop((0, 0, 32, 16)))
    save("gray.png", rgb.convert("L"))
    save("gray-alpha.png", rgba.convert("LA"))
    # Not 16-bit grey: Pillow clips everything above 255 instead of scaling it, which gives a white picture.
    save("palette.png", rgb.quantize(32))
    save("palette-transparent.png", rgba.convert("RGB").quantize(16), transparency=3)
    save("one-bit.png", rgb.convert("1"))
    save("turned.png", rgb, exif=exif(6))
    save("lossless.webp", rgba, lossless=True, exact=True)
    save("lossy.webp", rgb, quality=80)
    save("photo.jpg", rgb, quality=90, subsampling=2)
    save("turned.jpg", rgb, quality=90, subsampling=0, exif=exif(8))
    save("gray.jpg", rgb.convert("L"), quality=90)
    return made


def processed(processor: Qwen2VLImageProcessor, data: bytes) -> tuple[torch.Tensor, list[int]]:
    from PIL import ImageOps

    # The processor composes transparency over white; its callers apply the EXIF orientation (`load_image`).
    result = processor(images=[ImageOps.exif_transpose(Image.open(io.BytesIO(data)))], return_tensors="pt")
    return result["pixel_values"], result["image_grid_thw"][0].tolist()


def digest(patches: torch.Tensor) -> str:
    return hashlib.sha256(patches.contiguous().numpy().astype("<f4").tobytes()).hexdigest()


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Every id of the model has a text: printable ASCII in the alphabet of byte-level BPE, pairs that no merge produces, special tokens."""
    alphabet = ["\u0120", "\u010a", *map(chr, range(33, 127))]
    pairs = [first + second for first in "etaoins" for second in "hrdlucmf"][: IMAGE - len(alphabet)]
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(alphabet + pairs)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in sorted(SPECIAL, key=SPECIAL.get)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    assert all(tokenizer.token_to_id(text) == index for text, index in SPECIAL.items())
    template = (FIXTURES / "language" / "templates" / "qwen3_vl.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [155, 156], "do_sample": False}) + "\n")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


def chat(model, tokenizer: PreTrainedTokenizerFast, pictures: dict[str, tuple[torch.Tensor, list[int]]]) -> dict:
    """A conversation with both pictures and the model's greedy answer, for the first question that is answered without special tokens."""
    for question in map(chr, range(ord("a"), ord("z") + 1)):
        parts = [{"type": "text", "text": "What is here: "}]
        for name in pictures:
            parts += [{"type": "image", "image": name}, {"type": "text", "text": f" and then ({name})"}]
        parts.append({"type": "text", "text": f"{question}?"})
        messages = [{"role": "system", "content": "Look closely."}, {"role": "user", "content": parts}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for _, grid in pictures.values():
            text = text.replace("<|image_pad|>", "<|placeholder|>" * (int(np.prod(grid)) // 4), 1)
        ids = torch.tensor([tokenizer.encode(text.replace("<|placeholder|>", "<|image_pad|>"), add_special_tokens=False)])
        with torch.no_grad():
            model.model.rope_deltas = None
            answer = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == IMAGE).int(),
                pixel_values=torch.cat([patches for patches, _ in pictures.values()]),
                image_grid_thw=torch.tensor([grid for _, grid in pictures.values()]),
                max_new_tokens=24,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, ids.shape[1] :]
        if all(token < IMAGE for token in answer.tolist()) and len(set(answer.tolist())) > 6:
            return {"messages": messages, "prompt_tokens": ids.shape[1], "answer": tokenizer.decode(answer)}
    raise ValueError("no question is answered in letters")


def as_bytes(patches: torch.Tensor) -> torch.Tensor:
    return (patches * 127.5 + 127.5).round().to(torch.uint8)


def main() -> None:
    (FOLDER / "images").mkdir(parents=True, exist_ok=True)
    tiny, published = (Qwen2VLImageProcessor(**HALF, **kind) for kind in (TINY, PUBLISHED))
    golden, described, patches = {}, {}, {}
    for name, data in files().items():
        (FOLDER / "images" / name).write_bytes(data)
        lossy = name.endswith(".jpg") or name == "lossy.webp"
        patches[name], grid = processed(tiny, data)
        large, large_grid = processed(published, data)
        described[name] = {"exact": not lossy, "tiny": {"grid": grid}, "published": {"grid": large_grid}}
        if lossy:
            golden[f"near.{name}"] = as_bytes(patches[name])
        else:
            described[name]["tiny"]["sha256"] = digest(patches[name])
            described[name]["published"]["sha256"] = digest(large)
    (FOLDER / "images.json").write_text(json.dumps(described, indent=1) + "\n")

    model = Qwen3VLForConditionalGeneration(config()).eval()
    fill(model, 21)
    with torch.no_grad():
        # The layers contribute more than the embedding of the previous token: otherwise the same token would repeat for ever.
        for name, parameter in model.model.language_model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.mul_(6.0)
        # Only the parameters: buffers have the rotary frequencies.
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())
    model.tie_weights()
    names = ["rgb.png", "tall.png"]
    grids = torch.tensor([described[name]["tiny"]["grid"] for name in names])
    pixels = torch.cat([patches[name] for name in names])
    tokens = [int(grid.prod()) // 4 for grid in grids]
    ids = [5, 9, START, *[IMAGE] * tokens[0], END, 17, 4, 99, START, *[IMAGE] * tokens[1], END, 3, 42, 77]
    ids = torch.tensor([ids])
    kinds = (ids == IMAGE).int()
    with torch.no_grad():
        features = model.model.visual(pixels, grid_thw=grids)
        positions, _ = model.model.get_rope_index(ids, kinds, image_grid_thw=grids)
        inputs = {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": grids, "mm_token_type_ids": kinds}
        logits = model(**inputs, attention_mask=torch.ones_like(ids)).logits[0]
        model.model.rope_deltas = None
        greedy = model.generate(
            **inputs, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    for name in names:
        golden[f"patches.{name}"] = as_bytes(patches[name])
    golden["merged"] = features.pooler_output
    for index, feature in enumerate(features.deepstack_features):
        golden[f"deepstack.{index}"] = feature
    golden |= {"ids": ids[0], "positions": positions[:, 0], "logits": logits, "greedy": greedy[0, ids.shape[1] :]}
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, FOLDER / "golden.safetensors")

    checkpoint = FOLDER / "model"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "config.json").write_text(model.config.to_json_string(use_diff=False))
    (checkpoint / "preprocessor_config.json").write_text(
        json.dumps({**TINY, **HALF, "image_processor_type": "Qwen2VLImageProcessorFast"}, indent=1) + "\n"
    )
    tokenizer = write_tokenizer(checkpoint)
    grids = {name: (patches[name], described[name]["tiny"]["grid"]) for name in names}
    (FOLDER / "chat.json").write_text(json.dumps(chat(model, tokenizer, grids), indent=1) + "\n")
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    print(sum(path.stat().st_size for path in Path(FOLDER).rglob("*") if path.is_file()), "bytes", greedy[0, ids.shape[1] :].tolist())


if __name__ == "__main__":
    main()
