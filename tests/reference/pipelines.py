"""Golden fixtures of complete pipelines, against diffusers: from given noise to frames, for text to video, text to image and
image to video. The checkpoint folders consist of links to the components' fixtures, so the other generators run first.

    python tests/reference/pipelines.py
"""

import json

import torch
from common import FIXTURES, save
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from encoders import picture
from PIL import Image
from transformers import CLIPVisionModel, PreTrainedTokenizerFast, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

PROMPT, NEGATIVE = "a red circle moving right  on a black background", "blue square"
WIDTH, HEIGHT, FRAMES, STEPS, GUIDANCE = 48, 32, 9, 4, 3.0
PARTS = {"tokenizer": "umt5", "text_encoder": "umt5", "vae": "vae"}
I2V_PARTS = PARTS | {"image_encoder": "clip", "image_processor": "clip"}


def assemble(name: str, pipeline, parts: dict[str, str]) -> None:
    """Creates a checkpoint folder in the published layout."""
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    for part, fixture in parts.items():
        link = folder / part
        link.unlink(missing_ok=True)
        link.symlink_to(f"../{fixture}/{part}")
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = {key: value for key, value in pipeline.config.items() if not key.startswith("_name")}
    index["_class_name"] = type(pipeline).__name__
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def common_parts() -> dict:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(FIXTURES / "umt5/tokenizer/tokenizer.json"),
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": UMT5EncoderModel.from_pretrained(FIXTURES / "umt5/text_encoder").eval(),
        "vae": AutoencoderKLWan.from_pretrained(FIXTURES / "vae/vae", torch_dtype=torch.float32).eval(),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    }


def run(pipeline, latents: torch.Tensor, frames: int, **extra) -> dict[str, torch.Tensor]:
    arguments = dict(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=WIDTH,
        height=HEIGHT,
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        max_sequence_length=512,
        latents=latents,
        **extra,
    )
    result = pipeline(output_type="latent", **arguments).frames
    video = pipeline(output_type="np", **arguments).frames[0]
    return {"noise": latents, "latents": result, "video": torch.from_numpy((video * 255).round().astype("uint8"))}


def main() -> None:
    generator = torch.Generator().manual_seed(41)
    noise = torch.randn(1, 4, 3, HEIGHT // 8, WIDTH // 8, generator=generator)
    transformer = WanTransformer3DModel.from_pretrained(FIXTURES / "transformer-t2v/transformer").eval()
    t2v = WanPipeline(transformer=transformer, **common_parts())
    assemble("pipeline-t2v", t2v, PARTS | {"transformer": "transformer-t2v"})
    golden = {f"video_{key}": value for key, value in run(t2v, noise, FRAMES).items()}
    golden |= {f"picture_{key}": value for key, value in run(t2v, noise[:, :, :1].contiguous(), 1).items()}
    save(FIXTURES / "pipeline-t2v", golden)

    transformer = WanTransformer3DModel.from_pretrained(FIXTURES / "transformer-i2v/transformer").eval()
    i2v = WanImageToVideoPipeline(
        transformer=transformer,
        image_encoder=CLIPVisionModel.from_pretrained(FIXTURES / "clip/image_encoder").eval(),
        image_processor=CLIPImageProcessorPil.from_pretrained(FIXTURES / "clip/image_processor"),
        **common_parts(),
    )
    assemble("pipeline-i2v", i2v, I2V_PARTS | {"transformer": "transformer-i2v"})
    image = picture(WIDTH, HEIGHT, seed=5)
    more = {f"video_{key}": value for key, value in run(i2v, noise, FRAMES, image=Image.fromarray(image)).items()}
    save(FIXTURES / "pipeline-i2v", more | {"image": torch.from_numpy(image)})
    for name, tensors in (("t2v", golden), ("i2v", more)):
        for key, value in tensors.items():
            print(name, key, tuple(value.shape), f"std {value.float().std():.3f}")


if __name__ == "__main__":
    main()
