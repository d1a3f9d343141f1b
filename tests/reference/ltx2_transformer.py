"""Golden fixtures of the LTX-2 transformer with the flags of each published version, against diffusers.

    python tests/reference/ltx2_transformer.py

`tests/fixtures/ltx2-transformer-<version>/` holds `transformer/` in the published layout (bf16) and `golden.safetensors`: inputs, and for each
case the predicted velocities of video and sound, computed in f32 with the same weights. "interleaved" is a version that was not published: the
constructor's default rotary embedding in single precision, and modulations that do not depend on the noise.
"""

import copy
import json
import shutil

import torch
from common import FIXTURES, fill_exactly, save
from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2ConditionPipeline
from diffusers.utils import logging

BASE = dict(
    in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
    audio_in_channels=8, audio_out_channels=8, audio_num_attention_heads=2, audio_attention_head_dim=8,
    audio_cross_attention_dim=16, num_layers=2, caption_channels=32, rope_type="split", rope_double_precision=True,
)
MODULATED = dict(
    gated_attn=True, cross_attn_mod=True, audio_gated_attn=True, audio_cross_attn_mod=True, use_prompt_embeddings=False,
    perturbed_attn=True,
)
VERSIONS = {
    "2.0": BASE,
    "2.3": BASE | MODULATED,
    "2.5": BASE | MODULATED | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True),
    # 32 channels are not a multiple of six: some are not rotated. One stream has what the other has not.
    "interleaved": BASE | dict(
        rope_type="interleaved", rope_double_precision=False, cross_attn_timestep_scale_multiplier=1, causal_offset=0,
        audio_gated_attn=True, audio_cross_attn_mod=True, use_prompt_adaln_single=False, audio_ff_bias=False,
        attention_bias=False, attention_out_bias=False, perturbed_attn=True, pos_embed_max_pos=10,
    ),
}
FRAMES, ROWS, COLUMNS, FPS = 3, 2, 3, 25.0
SOUND = 7
TEXT = 16
VALID = 11
TIME = 700.0
KEYFRAME = 9
SEEDS = 40
# Least relative difference of two branches of guidance: what makes them differ must be seen in bf16, too.
LEAST_DIFFERENCE = 0.05


def inputs(config, generator):
    """Latents of video and sound, and two prompts, of which the second has padding."""
    widths = (32, 32) if config.get("use_prompt_embeddings", True) else (32, 16)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    tensors = {"video": normal(1, FRAMES * ROWS * COLUMNS, 16), "audio": normal(1, SOUND, 8), "keyframe": normal(1, ROWS * COLUMNS, 16)}
    for text in ("prompt", "negative"):
        for stream, width in zip(("video", "audio"), widths, strict=True):
            tensors[f"{text}.{stream}"] = normal(TEXT, width)
    tensors["negative.mask"] = (torch.arange(TEXT) < VALID).float()
    return tensors


def cases(model, tensors):
    """Name and predicted velocities of each case."""
    names = ("prompt", "negative")
    states = [torch.stack([tensors[f"{name}.{stream}"] for name in names]) for stream in ("video", "audio")]
    mask = torch.stack([torch.ones(TEXT), tensors["negative.mask"].float()])
    coordinates = model.rope.prepare_video_coords(1, FRAMES, ROWS, COLUMNS, "cpu", fps=FPS)
    sound = model.audio_rope.prepare_audio_coords(1, SOUND, "cpu")
    time = torch.tensor([TIME])

    def run(batch, video=tensors["video"], coordinates=coordinates, **options):
        batched = {key: value.repeat(batch, *[1] * (value.ndim - 1)) for key, value in options.items() if isinstance(value, torch.Tensor)}
        same = dict(timestep=time.repeat(batch), sigma=time.repeat(batch), use_cross_timestep=True)
        with torch.no_grad():
            return model(
                hidden_states=video.repeat(batch, 1, 1), audio_hidden_states=tensors["audio"].repeat(batch, 1, 1),
                encoder_hidden_states=states[0][:batch], audio_encoder_hidden_states=states[1][:batch],
                encoder_attention_mask=mask[:batch], audio_encoder_attention_mask=mask[:batch], audio_num_frames=SOUND,
                video_coords=coordinates.repeat(batch, 1, 1, 1), audio_coords=sound.repeat(batch, 1, 1, 1),
                return_dict=False, **(same | options | batched),
            )

    both = run(2)
    for index, name in enumerate(names):
        yield name, [stream[index] for stream in both]
    yield "perturbed", [stream[0] for stream in run(1, spatio_temporal_guidance_blocks=[1])]
    yield "isolated", [stream[0] for stream in run(1, isolate_modalities=True)]

    # A given first frame, and a given last one as further tokens with a strength of 0.75.
    keyframe_coordinates = LTX2ConditionPipeline._prepare_keyframe_coords
    holder = type("Ratios", (), dict(
        transformer_spatial_patch_size=1, transformer_temporal_patch_size=1, vae_temporal_compression_ratio=8, vae_spatial_compression_ratio=32,
    ))()
    last = keyframe_coordinates(holder, 1, ROWS, COLUMNS, KEYFRAME, 1, FPS, "cpu")
    video = torch.cat([tensors["video"], tensors["keyframe"]], dim=1)
    given = torch.zeros(1, video.shape[1])
    given[:, : ROWS * COLUMNS] = 1.0
    given[:, FRAMES * ROWS * COLUMNS :] = 0.75
    options = dict(
        video=video, coordinates=torch.cat([coordinates, last], dim=2), timestep=TIME * (1 - given), audio_timestep=time,
        video_keyframes_mask=(given == 1.0).float().unsqueeze(-1),
    )
    yield "given", [stream[0] for stream in run(1, **options)]
    # Modulation of the attention between the streams by their own noise levels, and a given sound.
    options |= dict(audio_timestep=torch.zeros(1), audio_sigma=torch.tensor([40.0]))
    yield "own_levels", [stream[0] for stream in run(1, use_cross_timestep=False, **options)]
    yield "sound_given", [stream[0] for stream in run(1, **options)]


def results_of(model, tensors, dtype):
    model = copy.deepcopy(model).to(dtype)
    # Only what a checkpoint or an activation is stored in has the type; coordinates and timesteps stay in single precision.
    typed = {key: value.to(dtype) for key, value in tensors.items()}
    return {
        f"{name}.out.{stream}": value.float()
        for name, streams in cases(model, typed)
        for stream, value in zip(("video", "audio"), streams, strict=True)
    }


def differences(results, others):
    base = results["prompt.out.video"]
    return [float((results[f"{other}.out.video"] - base).norm() / base.norm()) for other in others]


def candidate(config, seed):
    """A network, its inputs and outputs, and the largest relative error of the reference in bf16."""
    torch.manual_seed(0)
    model = LTX2VideoTransformer3DModel(**config).eval()
    fill_exactly(model, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("to_out.0.weight", "net.2.weight")):
                parameter.mul_(0.5)
    tensors = inputs(config, torch.Generator().manual_seed(seed + 1000))
    results, rounded = (results_of(model, tensors, dtype) for dtype in (torch.float32, torch.bfloat16))
    error = max(float((rounded[key] - results[key]).norm() / results[key].norm()) for key in results)
    return error, model, tensors, results


def make(version, config, first_seed):
    # Small random networks can amplify the rounding of bf16: the fixture is the one for which the reference in bf16 is closest to its own results in
    # single precision, among those whose branches of guidance differ.
    others = ["negative", "isolated"] + ["perturbed"] * config.get("perturbed_attn", False)
    best = None
    for seed in range(first_seed, first_seed + SEEDS):
        made = candidate(config, seed)
        if min(differences(made[3], others)) > LEAST_DIFFERENCE and (best is None or made[0] < best[1][0]):
            best = seed, made
    seed, (error, model, tensors, results) = best
    folder = FIXTURES / f"ltx2-transformer-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    spread = [float(value.std()) for value in results.values()]
    print(f"{version}: seed {seed}, error in bf16 {error:.1e}, std {min(spread):.2f} to {max(spread):.2f}")
    print(version, "differences", [f"{other} {value:.3f}" for other, value in zip(others, differences(results, others), strict=True)])
    model.to(torch.bfloat16).save_pretrained(folder / "transformer")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1, sort_keys=True) + "\n")
    save(folder, tensors | results)
    print(version, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), "bytes")


if __name__ == "__main__":
    logging.set_verbosity_error()
    for index, (version, config) in enumerate(VERSIONS.items()):
        make(version, config, 2000 + 100 * index)
