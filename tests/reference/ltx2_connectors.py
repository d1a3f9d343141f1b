"""Golden fixtures of the LTX-2 text connectors (2.0 and 2.3), against diffusers.

    python tests/reference/ltx2_connectors.py

`tests/fixtures/ltx2-connectors-<version>/` holds `connectors/` in the published layout (bf16) and `golden.safetensors`: for prompts of several lengths,
left-padded to one length, all hidden states of a text encoder and the resulting tokens for video and sound, computed in f32 with the same weights.
"""

import json
import shutil

import torch
from common import FIXTURES, fill_exactly, save
from diffusers.pipelines.ltx2 import LTX2TextConnectors

BASE = dict(
    caption_channels=32, text_proj_in_factor=3, video_connector_num_attention_heads=2, video_connector_attention_head_dim=16,
    video_connector_num_layers=2, video_connector_num_learnable_registers=8, audio_connector_num_attention_heads=2,
    audio_connector_attention_head_dim=16, audio_connector_num_layers=2, audio_connector_num_learnable_registers=8,
    connector_rope_base_seq_len=64, rope_type="split", rope_double_precision=True,
)
VERSIONS = {
    "2.0": BASE,
    "2.3": BASE | dict(
        audio_connector_attention_head_dim=8, video_gated_attn=True, audio_gated_attn=True, per_modality_projections=True,
        video_hidden_dim=32, audio_hidden_dim=16, proj_bias=True,
    ),
    "interleaved": BASE | dict(
        rope_type="interleaved", rope_double_precision=False, audio_gated_attn=True, audio_connector_num_learnable_registers=4,
        audio_connector_num_layers=1, proj_bias=True,
    ),
}
LENGTH = 16
PROMPTS = (5, 11, 16)


def make(version, config, seed):
    torch.manual_seed(0)
    model = LTX2TextConnectors(**config).eval()
    fill_exactly(model, seed)
    folder = FIXTURES / f"ltx2-connectors-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed + 1)
    channels, states = config["caption_channels"], config["text_proj_in_factor"]
    # States of different sizes, as those of a real encoder.
    sizes = torch.tensor([0.5, 4.0, 30.0])
    tensors = {}
    for tokens in PROMPTS:
        hidden = torch.randn(1, LENGTH, channels, states, generator=generator) * sizes + sizes / 3
        mask = (torch.arange(LENGTH) >= LENGTH - tokens).long().unsqueeze(0)
        with torch.no_grad():
            video, audio, result_mask = model(hidden.flatten(2), mask, padding_side="left")
        assert bool((result_mask == 1).all())
        tensors |= {f"{tokens}.hidden": hidden[0], f"{tokens}.video": video[0], f"{tokens}.audio": audio[0]}
        print(version, tokens, tuple(video.shape), tuple(audio.shape), f"std {video.std():.3f} {audio.std():.3f}")
    model.to(torch.bfloat16).save_pretrained(folder / "connectors")
    path = folder / "connectors" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1, sort_keys=True) + "\n")
    save(folder, tensors)
    print(version, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), "bytes")


if __name__ == "__main__":
    for index, (version, config) in enumerate(VERSIONS.items()):
        make(version, config, 300 + 10 * index)
