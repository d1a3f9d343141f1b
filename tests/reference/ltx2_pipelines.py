"""Golden fixtures of LTX-2's whole pipelines, against diffusers: from given noise to frames and sound. The checkpoint folders
consist of links to the components' fixtures, so the other ltx2 generators run first.

    python tests/reference/ltx2_pipelines.py
"""

import json

import torch
from common import FIXTURES, save
from diffusers import (
    AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, FlowMatchEulerDiscreteScheduler, LTX2ConditionPipeline, LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplePipeline, LTX2TextConnectors, LTX2Vocoder, LTX2VocoderWithBWE
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES
from encoders import picture
from PIL import Image
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

PROMPT, NEGATIVE = " a red circle moving right and humming ", "blue square"
WIDTH, HEIGHT, FRAMES, FPS, STEPS = 96, 64, 17, 8.0, 3
DYNAMIC = dict(
    use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1
)
# Folder → component → fixture that it links to.
COMMON = {"tokenizer": "ltx2-text", "text_encoder": "ltx2-text", "vae": "ltx2-vae", "audio_vae": "ltx2-audio", "latent_upsampler": "ltx2-vae"}
CHECKPOINTS = {
    "ltx2-pipeline-2.0": (DYNAMIC, COMMON | {"transformer": "ltx2-transformer-2.0", "connectors": "ltx2-connectors-2.0", "vocoder": "ltx2-audio"}),
    "ltx2-pipeline-2.3": (DYNAMIC, COMMON | {"transformer": "ltx2-transformer-2.3", "connectors": "ltx2-connectors-2.3", "vocoder": "ltx2-audio-48k"}),
    "ltx2-pipeline-distilled": ({}, COMMON | {"transformer": "ltx2-transformer-2.3", "connectors": "ltx2-connectors-2.3", "vocoder": "ltx2-audio-48k"}),
}
ALL_GUIDANCES = dict(
    guidance_scale=2.0, stg_scale=1.0, modality_scale=3.0, guidance_rescale=0.7, audio_guidance_scale=14 / 3, audio_stg_scale=1.0,
    audio_modality_scale=3.0, audio_guidance_rescale=0.7, spatio_temporal_guidance_blocks=[1],
)
TEXT_GUIDANCE = dict(
    guidance_scale=3.0, stg_scale=0.0, modality_scale=1.0, guidance_rescale=0.0, audio_guidance_scale=3.0, audio_stg_scale=0.0,
    audio_modality_scale=1.0, audio_guidance_rescale=0.0, spatio_temporal_guidance_blocks=None,
)
NO_GUIDANCE = TEXT_GUIDANCE | dict(guidance_scale=1.0, audio_guidance_scale=1.0)


def assemble(name: str, settings: dict, parts: dict[str, str]) -> dict:
    """Creates a checkpoint folder in the published layout; returns its components in f32."""
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    for part, fixture in parts.items():
        link = folder / part
        link.unlink(missing_ok=True)
        link.symlink_to(f"../{fixture}/{part}")
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LTX2Pipeline", "_diffusers_version": "0.42.1"}, indent=2) + "\n")
    vocoder = LTX2VocoderWithBWE if "48k" in parts["vocoder"] else LTX2Vocoder

    def load(model, part):
        return model.from_pretrained(folder / part, torch_dtype=torch.float32).eval()

    return {
        "scheduler": scheduler,
        # As Gemma's own; the pipelines take the side over when they are made.
        "tokenizer": PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", padding_side="left"),
        "text_encoder": Gemma3ForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        "connectors": load(LTX2TextConnectors, "connectors"),
        "transformer": load(LTX2VideoTransformer3DModel, "transformer"),
        "vae": load(AutoencoderKLLTX2Video, "vae"),
        "audio_vae": load(AutoencoderKLLTX2Audio, "audio_vae"),
        "vocoder": load(vocoder, "vocoder"),
        "latent_upsampler": load(LTX2LatentUpsamplerModel, "latent_upsampler"),
    }


def decoded(pipeline, video: torch.Tensor, audio: torch.Tensor) -> dict[str, torch.Tensor]:
    """Frames as bytes, and the waveform, of latents that are not normalised."""
    with torch.no_grad():
        frames = pipeline.video_processor.postprocess_video(pipeline.vae.decode(video, None, return_dict=False)[0], output_type="np")[0]
        wave = pipeline.vocoder(pipeline.audio_vae.decode(audio, return_dict=False)[0])[0]
    return {"frames": torch.from_numpy((frames * 255).round().astype("uint8")), "wave": wave.float()}


def run(pipeline, seed: int, keyframes: int = 0, width: int = WIDTH, height: int = HEIGHT, **arguments) -> dict[str, torch.Tensor]:
    """Noise of picture and sound as tokens, and the resulting latents, which are not normalised."""
    rows, columns, frames = height // 32, width // 32, (FRAMES - 1) // 8 + 1
    generator = torch.Generator().manual_seed(seed)
    channels = pipeline.transformer.config.in_channels
    noise = torch.randn(1, (frames + keyframes) * rows * columns, channels, generator=generator)
    sound = torch.randn(1, round(FRAMES / FPS * 25), pipeline.transformer.config.audio_in_channels, generator=generator)
    arguments = dict(
        prompt=PROMPT, negative_prompt=NEGATIVE, width=width, height=height, num_frames=FRAMES, frame_rate=FPS,
        output_type="latent", return_dict=False,
    ) | arguments
    if isinstance(pipeline, LTX2Pipeline):
        mean, std = pipeline.audio_vae.latents_mean, pipeline.audio_vae.latents_std
        arguments |= dict(latents=noise, audio_latents=sound * std + mean)
    else:
        arguments |= dict(generator=torch.Generator().manual_seed(seed))
    video, audio = pipeline(**arguments)
    return {"noise": noise, "sound_noise": sound, "latents": video, "sound_latents": audio}


def main() -> None:
    given = [picture(WIDTH + 10, HEIGHT, seed=seed) for seed in (5, 6)]
    first, last = (LTX2VideoCondition(Image.fromarray(image), index=index, crf=0) for image, index in zip(given, (0, -1)))
    for seed, (name, (settings, parts)) in enumerate(CHECKPOINTS.items(), 60):
        components = assemble(name, settings, parts)
        upsampler = components.pop("latent_upsampler")
        full, condition = LTX2Pipeline(**components), LTX2ConditionPipeline(**components)
        for pipeline in (full, condition):
            pipeline.set_progress_bar_config(disable=True)
        cross = dict(use_cross_timestep="2.0" not in name)
        golden = {}

        def keep(case: str, results: dict) -> dict:
            golden.update({f"{case}_{key}": value for key, value in results.items()})
            return results

        if "distilled" in name:
            distilled = dict(sigmas=DISTILLED_SIGMA_VALUES, num_inference_steps=8) | NO_GUIDANCE
            small = keep("small", run(full, seed, **distilled))
            upsample = LTX2LatentUpsamplePipeline(components["vae"], upsampler)
            large = upsample(
                latents=small["latents"], latents_normalized=False, height=HEIGHT, width=WIDTH, num_frames=FRAMES, output_type="latent",
                return_dict=False,
            )[0]
            keep("upsampled", {"latents": large})
            second = dict(sigmas=STAGE_2_DISTILLED_SIGMA_VALUES, num_inference_steps=3, noise_scale=STAGE_2_DISTILLED_SIGMA_VALUES[0])
            keep("second", run(
                condition, seed + 10, width=2 * WIDTH, height=2 * HEIGHT, latents=large, audio_latents=small["sound_latents"],
                **second, **NO_GUIDANCE,
            ))
        else:
            steps = dict(num_inference_steps=STEPS) | cross
            video = keep("video", run(full, seed, **steps, **TEXT_GUIDANCE))
            keep("video", decoded(full, video["latents"], video["sound_latents"]))
            keep("guided", run(full, seed + 1, **steps, **ALL_GUIDANCES))
            keep("first", run(condition, seed + 2, conditions=[first], **steps, **TEXT_GUIDANCE))
            keep("both", run(condition, seed + 3, keyframes=1, conditions=[first, last], **steps, **ALL_GUIDANCES))
            golden |= {"first": torch.from_numpy(given[0]), "last": torch.from_numpy(given[1])}
        assert all(value.float().isfinite().all() for value in golden.values()), name
        for key, value in golden.items():
            print(name, key, tuple(value.shape), f"std {value.float().std():.3f}")
        save(FIXTURES / name, golden)


if __name__ == "__main__":
    main()
