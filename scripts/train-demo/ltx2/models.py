"""Tiny LTX-2.0: every component's configuration, built with diffusers' and transformers' own classes."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from torch import nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

import prompts

# ---- the numbers that several components share ----
VIDEO_Z = 32  # latent channels of the video VAE = transformer in_channels; also the width of the encoder's first stage
SCALE = (4, 16, 16)  # frames, height, width
MELS, AUDIO_Z = 64, 2
AUDIO_DIM = AUDIO_Z * MELS // 4  # audio_vae base_channels = transformer audio_in_channels
HEADS, VIDEO_HEAD, AUDIO_HEAD = 4, 32, 16
VIDEO_INNER, AUDIO_INNER = HEADS * VIDEO_HEAD, HEADS * AUDIO_HEAD
TEXT_DIM, TEXT_LAYERS, TEXT_LENGTH = 64, 2, 32
FPS, FRAMES, SIZE = 8.0, 17, 64
VIDEO_TOKENS = (1 + (FRAMES - 1) // SCALE[0], SIZE // SCALE[1], SIZE // SCALE[2])  # of a clip
AUDIO_TOKENS = 53  # round(FRAMES / FPS * 25)
SAMPLE_RATE, HOP, VOCODER_RATE = 16000, 160, 24000
VOCODER_HOP = VOCODER_RATE * HOP // SAMPLE_RATE  # samples of the waveform for one mel frame

VIDEO_VAE = dict(
    latent_channels=VIDEO_Z,
    block_out_channels=(64, 64, 64),
    down_block_types=("LTX2VideoDownBlock3D",) * 3,
    decoder_block_out_channels=(32, 64, 64),
    # Few layers where there are many positions: most of the time goes there.
    layers_per_block=(0, 1, 0, 1),
    decoder_layers_per_block=(1, 0, 1, 1),
    spatio_temporal_scaling=(True,) * 3,
    decoder_spatio_temporal_scaling=(True,) * 3,
    decoder_inject_noise=(False,) * 4,
    downsample_type=("spatial", "temporal", "spatiotemporal"),
    upsample_type=("spatial", "temporal", "spatiotemporal"),  # in decoding order, unlike all other decoder tuples
    upsample_residual=(True,) * 3,
    upsample_factor=(1, 1, 1),
    patch_size=4,
    encoder_causal=True,
    decoder_causal=False,
    encoder_spatial_padding_mode="zeros",
    decoder_spatial_padding_mode="reflect",
    spatial_compression_ratio=SCALE[1],  # the default formula assumes that every block scales in space and time
    temporal_compression_ratio=SCALE[0],
)
AUDIO_VAE = dict(
    base_channels=AUDIO_DIM,
    output_channels=2,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    attn_resolutions=None,
    in_channels=2,
    resolution=64,
    latent_channels=AUDIO_Z,
    norm_type="pixel",
    causality_axis="height",
    mid_block_add_attention=False,
    sample_rate=SAMPLE_RATE,
    mel_hop_length=HOP,
    is_causal=True,
    mel_bins=MELS,
    double_z=True,
)
VOCODER = dict(
    in_channels=2 * MELS,
    hidden_channels=128,
    out_channels=2,
    upsample_kernel_sizes=[12, 11, 16],
    upsample_factors=[6, 5, 8],
    resnet_kernel_sizes=[3, 7],
    resnet_dilations=[[1, 3], [1, 3]],
    output_sampling_rate=VOCODER_RATE,
)
CONNECTORS = dict(
    caption_channels=TEXT_DIM,
    text_proj_in_factor=TEXT_LAYERS + 1,
    video_connector_num_attention_heads=4,
    video_connector_attention_head_dim=TEXT_DIM // 4,
    video_connector_num_layers=1,
    video_connector_num_learnable_registers=TEXT_LENGTH,
    audio_connector_num_attention_heads=4,
    audio_connector_attention_head_dim=TEXT_DIM // 4,
    audio_connector_num_layers=1,
    audio_connector_num_learnable_registers=TEXT_LENGTH,
    connector_rope_base_seq_len=TEXT_LENGTH,
    rope_type="split",
)
TRANSFORMER = dict(
    in_channels=VIDEO_Z,
    out_channels=VIDEO_Z,
    num_attention_heads=HEADS,
    attention_head_dim=VIDEO_HEAD,
    cross_attention_dim=VIDEO_INNER,
    vae_scale_factors=SCALE,
    pos_embed_max_pos=4,  # seconds
    base_height=SIZE,
    base_width=SIZE,
    audio_in_channels=AUDIO_DIM,
    audio_out_channels=AUDIO_DIM,
    audio_num_attention_heads=HEADS,
    audio_attention_head_dim=AUDIO_HEAD,
    audio_cross_attention_dim=AUDIO_INNER,
    audio_scale_factor=4,
    audio_pos_embed_max_pos=4,
    audio_sampling_rate=SAMPLE_RATE,
    audio_hop_length=HOP,
    num_layers=5,
    caption_channels=TEXT_DIM,
    rope_theta=100.0,
    rope_type="split",
)

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]


def tokenizer():
    """One id per word, <bos> before them, padding on the left, as Gemma's tokenizer does it."""
    names = dict(pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    return prompts.word_tokenizer(SPECIAL, ["<bos>", "$A"], TEXT_LENGTH, "left", **names)


def text_encoder() -> Gemma3ForConditionalGeneration:
    text = dict(
        vocab_size=len(SPECIAL) + len(prompts.WORDS), hidden_size=TEXT_DIM, intermediate_size=2 * TEXT_DIM,
        num_hidden_layers=TEXT_LAYERS, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        query_pre_attn_scalar=16, sliding_window=TEXT_LENGTH, max_position_embeddings=128,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=14, patch_size=14)
    return Gemma3ForConditionalGeneration(Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=1, boi_token_index=1, eoi_token_index=1, image_token_index=1,
    ))


def video_vae():
    return AutoencoderKLLTX2Video(**VIDEO_VAE)


def audio_vae():
    return AutoencoderKLLTX2Audio(**AUDIO_VAE)


def vocoder():
    return LTX2Vocoder(**VOCODER)


def scheduler():
    """As published. At 80 tokens the dynamic shift is exp(0.61) = 1.8."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
        max_image_seq_len=4096, shift_terminal=0.1, time_shift_type="exponential",
    )


def pipeline() -> LTX2Pipeline:
    return LTX2Pipeline(
        scheduler=scheduler(), vae=video_vae(), audio_vae=audio_vae(), text_encoder=text_encoder(), tokenizer=tokenizer(),
        connectors=LTX2TextConnectors(**CONNECTORS), transformer=LTX2VideoTransformer3DModel(**TRANSFORMER), vocoder=vocoder(),
    )


def count(m: nn.Module) -> float:
    return sum(p.numel() for p in m.parameters()) / 1e6
