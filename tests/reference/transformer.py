"""Golden fixtures of the Wan 2.1 transformer, text to video and image to video, against diffusers.

    python tests/reference/transformer.py
"""

import torch
from common import FIXTURES, fill, save
from diffusers import WanTransformer3DModel

BASE = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=2,
    attention_head_dim=16,
    out_channels=4,
    text_dim=24,
    freq_dim=32,
    ffn_dim=48,
    num_layers=2,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
    eps=1e-6,
    rope_max_seq_len=64,
)
TOKENS = 512


def filled(embedding: torch.Tensor) -> torch.Tensor:
    """Padded with zeros to 512 tokens, as in the pipelines."""
    return torch.cat([embedding, torch.zeros(TOKENS - embedding.shape[0], embedding.shape[1])]).unsqueeze(0)


def make(name: str, **config) -> None:
    torch.manual_seed(0)
    model = WanTransformer3DModel(**BASE, **config).eval()
    fill(model, seed=11)
    folder = FIXTURES / name
    model.save_pretrained(folder / "transformer")
    generator = torch.Generator().manual_seed(12)
    latents = torch.randn(1, config["in_channels"], 3, 8, 10, generator=generator)
    prompt = torch.randn(7, BASE["text_dim"], generator=generator)
    negative = torch.randn(3, BASE["text_dim"], generator=generator)
    image = torch.randn(1, 5, config["image_dim"], generator=generator) if config.get("image_dim") else None
    golden = {"latents": latents, "prompt": prompt, "negative": negative}
    if image is not None:
        golden["image"] = image
    for timestep in (999.0, 431.5):
        for text, embedding in (("prompt", prompt), ("negative", negative)):
            with torch.no_grad():
                golden[f"{text}_{timestep}"] = model(
                    hidden_states=latents,
                    timestep=torch.tensor([timestep]),
                    encoder_hidden_states=filled(embedding),
                    encoder_hidden_states_image=image,
                ).sample
    for key, value in golden.items():
        print(name, key, tuple(value.shape), f"std {value.std():.3f}")
    save(folder, golden)


if __name__ == "__main__":
    make("transformer-t2v", in_channels=4)
    make("transformer-i2v", in_channels=12, image_dim=20, added_kv_proj_dim=32)
