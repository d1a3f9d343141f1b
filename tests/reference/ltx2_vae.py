"""Golden fixtures of LTX-2's video autoencoder and latent upsampler against diffusers, and the tensors of the official models.

    python tests/reference/ltx2_vae.py          # goldens
    python tests/reference/ltx2_vae.py lists    # names and shapes at the official configurations, from diffusers' classes

`tiny_vae` and `tiny_upsampler` (LTX-2.3's architecture at a small size) also serve the generators of whole pipelines and are
saved as checkpoints. The other configurations of `VAES` and `UPSAMPLERS` are saved without weights: tests make these, and all inputs,
from the names. Of decoded frames, every 15th row and column is kept (of smaller ones every fifth).
"""

import json
import sys

import torch
from common import FIXTURES, fill_hashed, hashed, save
from diffusers import AutoencoderKLLTX2Video
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_latent_upsample import LTX2LatentUpsamplePipeline

FOLDER = FIXTURES / "ltx2-vae"
DOWN = ("spatial", "temporal", "spatiotemporal", "spatiotemporal")
SHARED = dict(latent_channels=16, down_block_types=("LTX2VideoDownBlock3D",) * 4, downsample_type=DOWN, spatio_temporal_scaling=(True,) * 4)
LTX_2_3 = dict(
    upsample_type=("spatiotemporal", "spatiotemporal", "temporal", "spatial"), upsample_residual=(False,) * 4,
    upsample_factor=(2, 2, 1, 2), decoder_spatio_temporal_scaling=(True,) * 4, decoder_inject_noise=(False,) * 5,
    decoder_causal=False, decoder_spatial_padding_mode="zeros", spatial_compression_ratio=32, temporal_compression_ratio=8,
)
LTX_2_0 = dict(decoder_causal=False, spatial_compression_ratio=32, temporal_compression_ratio=8)
# The last step keeps its channels, since two would be too few for bf16.
TINY = dict(
    SHARED, **dict(LTX_2_3, upsample_factor=(1, 2, 1, 2)), block_out_channels=(8, 8, 16, 16), layers_per_block=(1,) * 5,
    decoder_block_out_channels=(4, 8, 8, 16), decoder_layers_per_block=(1, 1, 1, 1, 1),
)
VAES = {
    "ltx-2.0": dict(
        SHARED, **LTX_2_0, block_out_channels=(16, 32, 32, 64), layers_per_block=(1, 2, 1, 1, 1),
        decoder_block_out_channels=(8, 16, 32), decoder_layers_per_block=(1, 2, 1, 2),
    ),
    # What the class also offers: a causal decoder, mixed steps and residual connections, another patch size and scale.
    "causal": dict(
        latent_channels=8, down_block_types=("LTX2VideoDownBlock3D",) * 3, block_out_channels=(16, 8, 16),
        layers_per_block=(1, 0, 1, 1), downsample_type=("spatiotemporal", "spatial", "temporal"),
        spatio_temporal_scaling=(True,) * 3, decoder_block_out_channels=(8, 16, 16), decoder_layers_per_block=(1, 1, 0, 1),
        upsample_type=("temporal", "spatial", "spatiotemporal"), upsample_residual=(True, False, True),
        upsample_factor=(1, 2, 1), patch_size=2, scaling_factor=0.5, decoder_causal=True,
        encoder_spatial_padding_mode="reflect", spatial_compression_ratio=8, temporal_compression_ratio=4,
    ),
}
TINY_UPSAMPLER = dict(in_channels=16, mid_channels=32, num_blocks_per_stage=1, use_rational_resampler=False)
WIDE = dict(in_channels=16, mid_channels=64, num_blocks_per_stage=1)
UPSAMPLERS = {
    "rational-2": dict(WIDE, rational_spatial_scale=2.0),
    "rational-1.5": dict(WIDE, rational_spatial_scale=1.5),
    "rational-0.75": dict(WIDE, rational_spatial_scale=0.75),
    "temporal": dict(WIDE, spatial_upsample=False, temporal_upsample=True),
    "both": dict(WIDE, temporal_upsample=True),
}


def filled_vae(config: dict) -> AutoencoderKLLTX2Video:
    model = AutoencoderKLLTX2Video(**config).eval()
    fill_hashed(model)
    with torch.no_grad():
        # The output is clamped to -1..1: keep it inside, since the clamp would hide errors.
        weight = model.decoder.conv_out.conv.weight
        weight.copy_(0.25 * weight)
    return model


def tiny_vae() -> AutoencoderKLLTX2Video:
    """LTX-2.3's architecture at a small size, with weights that bf16 represents exactly."""
    return filled_vae(TINY)


def tiny_upsampler() -> LTX2LatentUpsamplerModel:
    """LTX-2.3's latent upsampler at a small size, with weights that bf16 represents exactly."""
    return filled_upsampler(TINY_UPSAMPLER)


def filled_upsampler(config: dict) -> LTX2LatentUpsamplerModel:
    model = LTX2LatentUpsamplerModel(**config).eval()
    fill_hashed(model)
    return model


def save_bf16(model, folder) -> None:
    """Saves the weights in bf16, which represents them exactly."""
    copy = type(model).from_config(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)


def latents(name: str, *shape: int) -> torch.Tensor:
    return 1.5 * hashed(name, (1, *shape))


def video(name: str, *shape: int) -> torch.Tensor:
    return hashed(name, (1, 3, *shape))


def thinned(frames: torch.Tensor, space: int) -> torch.Tensor:
    assert frames.abs().max() < 1, "frames are clamped"
    step = 15 if space == 32 else 5
    return frames[..., ::step, ::step]


def vae_goldens(model: AutoencoderKLLTX2Video, prefix: str) -> dict[str, torch.Tensor]:
    z, space, time = model.config.latent_channels, model.spatial_compression_ratio, model.temporal_compression_ratio
    golden = {
        "encoded": model.encode(video("video", 1 + 2 * time, 2 * space, 3 * space)).latent_dist.mode(),
        "encoded_picture": model.encode(video("picture", 1, 3 * space, 2 * space)).latent_dist.mode(),
        "decoded": thinned(model.decode(latents("latents", z, 4, 2, 3)).sample, space),
        "decoded_picture": thinned(model.decode(latents("latent", z, 1, 3, 2)).sample, space),
    }
    # A tile of one column or row could not be reflected: each has at least two.
    model.enable_tiling(4 * space, 4 * space, None, 2 * space, 2 * space)
    golden["tiled_encoded"] = model.encode(video("tiled_video", 1 + time, 4 * space, 6 * space)).latent_dist.mode()
    golden["tiled_decoded"] = thinned(model.decode(latents("tiled_latents", z, 2, 6, 4)).sample, space)
    return {prefix + name: value for name, value in golden.items()}


def goldens() -> None:
    golden, vae = {}, tiny_vae()
    save_bf16(vae, FOLDER / "vae")
    golden |= vae_goldens(vae, "")
    for name, config in VAES.items():
        model = filled_vae(config)
        model.save_config(FOLDER / "variants" / name)
        golden |= vae_goldens(model, f"{name}.")
    upsampler = tiny_upsampler()
    save_bf16(upsampler, FOLDER / "latent_upsampler")
    x = latents("upsampler", 16, 3, 4, 5)
    golden["upsampled"] = upsampler(x)
    for name, config in UPSAMPLERS.items():
        model = filled_upsampler(config)
        model.save_config(FOLDER / "upsamplers" / name)
        golden[f"{name}.upsampled"] = model(x)
    pipeline = LTX2LatentUpsamplePipeline(vae, upsampler)
    pipeline.set_progress_bar_config(disable=True)
    normalized = latents("normalized", 16, 2, 2, 3)
    steps = dict(adain_factor=0.6, tone_map_compression_ratio=0.7)
    output = dict(latents_normalized=True, output_type="latent", return_dict=False, height=64, width=96, num_frames=9)
    golden["pipeline"] = pipeline(latents=normalized, **steps, **output)[0]
    for key, value in golden.items():
        print(f"{key} {tuple(value.shape)} std {value.std():.3f} largest {value.abs().max():.3f}")
    save(FOLDER, golden)


def lists() -> None:
    official = dict(SHARED, latent_channels=128)
    models = {
        "vae-2.0": (AutoencoderKLLTX2Video, dict(official, **LTX_2_0)),
        "vae-2.3": (AutoencoderKLLTX2Video, dict(
            official, **LTX_2_3, block_out_channels=(256, 512, 1024, 1024), layers_per_block=(4, 6, 4, 2, 2),
            decoder_block_out_channels=(256, 512, 512, 1024), decoder_layers_per_block=(4, 6, 4, 2, 2),
        )),
        "upsampler-2.0": (LTX2LatentUpsamplerModel, {}),
        "upsampler-2.3": (LTX2LatentUpsamplerModel, dict(use_rational_resampler=False)),
    }
    lines = []
    for name, (kind, config) in models.items():
        with torch.device("meta"):
            model = kind(**config)
        tensors = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        rows = ",\n".join(f"  {json.dumps(key)}: {shape}" for key, shape in tensors.items())
        lines.append(f'"{name}": {{"config": {json.dumps(config)}, "tensors": {{\n{rows}\n}}}}')
    (FOLDER / "official.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    with torch.no_grad():
        lists() if sys.argv[1:] == ["lists"] else goldens()
