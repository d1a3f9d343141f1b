"""Golden fixtures of LoRAs on the LTX-2.3 transformer, against diffusers and PEFT: every key layout. The transformer is that of
`ltx2-transformer-2.3`, so `ltx2_transformer.py` runs first.

    pip install peft
    python tests/reference/ltx2_lora.py
"""

import torch
from common import FIXTURES, save
from diffusers import LTX2VideoTransformer3DModel
from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin
from safetensors.torch import load_file, save_file

BASE = FIXTURES / "ltx2-transformer-2.3"
FOLDER = FIXTURES / "lora-ltx2"
LATENTS, FPS, TIME = (3, 2, 3), 25.0, 700.0
generator = torch.Generator().manual_seed(81)
# Beginnings of names in diffusers, and in the original program.
ORIGINAL = {
    "proj_in.": "patchify_proj.",
    "audio_proj_in.": "audio_patchify_proj.",
    "time_embed.": "adaln_single.",
    "audio_time_embed.": "audio_adaln_single.",
    "prompt_adaln.": "prompt_adaln_single.",
    "audio_prompt_adaln.": "audio_prompt_adaln_single.",
    "av_cross_attn_video_scale_shift.": "av_ca_video_scale_shift_adaln_single.",
    "av_cross_attn_video_a2v_gate.": "av_ca_a2v_gate_adaln_single.",
    "av_cross_attn_audio_scale_shift.": "av_ca_audio_scale_shift_adaln_single.",
    "av_cross_attn_audio_v2a_gate.": "av_ca_v2a_gate_adaln_single.",
}


def original(layer: str) -> str:
    for ours, theirs in ORIGINAL.items():
        if f"{layer}.".startswith(ours):
            return theirs.removesuffix(".") + layer.removeprefix(ours.removesuffix("."))
    return layer


def pairs(model, chosen):
    """Layer, rank and two matrices whose product is about a fifth as large as the weight."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and chosen(name)]
    for index, layer in enumerate(names):
        outputs, inputs = model.get_submodule(layer).weight.shape
        rank = (2, 3)[index % 2]
        down = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
        yield layer, rank, down, torch.randn(outputs, rank, generator=generator) * (0.2 * rank**-0.5)


def write(model) -> dict[str, dict[str, torch.Tensor]]:
    """The files; their tensors as diffusers reads them."""
    inside = lambda name: name.startswith("transformer_blocks.")
    ours, theirs, comfy, comfy_read = {}, {}, {}, {}
    for layer, _, down, up in pairs(model, lambda name: not inside(name) or "attn1" in name):
        ours[f"transformer.{layer}.lora_A.weight"] = down
        ours[f"transformer.{layer}.lora_B.weight"] = up
    for layer, _, down, up in pairs(model, lambda name: not inside(name) or "_to_" in name):
        theirs[f"diffusion_model.{original(layer)}.lora_A.weight"] = down
        theirs[f"diffusion_model.{original(layer)}.lora_B.weight"] = up
    for layer, rank, down, up in pairs(model, inside):
        down, up = down.half(), up.half()
        comfy[f"diffusion_model.{original(layer)}.lora_down.weight"] = down
        comfy[f"diffusion_model.{original(layer)}.lora_up.weight"] = up
        comfy[f"diffusion_model.{original(layer)}.alpha"] = torch.tensor(0.75 * rank)
        # Diffusers does not read this layout for LTX-2.
        comfy_read[f"diffusion_model.{original(layer)}.lora_A.weight"] = down.float() * 0.75
        comfy_read[f"diffusion_model.{original(layer)}.lora_B.weight"] = up.float()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, tensors in (("diffusers", ours), ("original", theirs), ("comfy", comfy)):
        save_file(tensors, FOLDER / f"{name}.safetensors")
    return {"diffusers": ours, "original": theirs, "comfy": comfy_read}


def predict(model, golden) -> list[torch.Tensor]:
    frames, rows, columns = LATENTS
    time = torch.tensor([TIME])
    mask = torch.ones(1, golden["prompt.video"].shape[0])
    sound = golden["audio"].shape[1]
    with torch.no_grad():
        return model(
            hidden_states=golden["video"],
            audio_hidden_states=golden["audio"],
            encoder_hidden_states=golden["prompt.video"].unsqueeze(0),
            audio_encoder_hidden_states=golden["prompt.audio"].unsqueeze(0),
            encoder_attention_mask=mask,
            audio_encoder_attention_mask=mask,
            timestep=time,
            sigma=time,
            use_cross_timestep=True,
            audio_num_frames=sound,
            video_coords=model.rope.prepare_video_coords(1, frames, rows, columns, "cpu", fps=FPS),
            audio_coords=model.audio_rope.prepare_audio_coords(1, sound, "cpu"),
            return_dict=False,
        )


def main() -> None:
    model = LTX2VideoTransformer3DModel.from_pretrained(BASE / "transformer", torch_dtype=torch.float32).eval()
    golden = {key: value.float() for key, value in load_file(BASE / "golden.safetensors").items()}
    base = predict(model, golden)
    for stream, value in zip(("video", "audio"), base, strict=True):
        expected = golden[f"prompt.out.{stream}"]
        print("base", stream, f"{(value[0] - expected).norm() / expected.norm():.1e} from the transformer's fixture")
    files = write(model)
    for name, tensors in files.items():
        state = LTX2LoraLoaderMixin.lora_state_dict(dict(tensors))
        model.load_lora_adapter(state, prefix="transformer", adapter_name=name)
    results = {}
    cases = {"diffusers": {"diffusers": 1.0}, "original": {"original": 0.7}, "comfy": {"comfy": -0.8}}
    cases["together"] = {"diffusers": 0.5, "original": -0.4, "comfy": 0.3}
    for case, scales in cases.items():
        model.set_adapters(list(scales), list(scales.values()))
        for stream, value, before in zip(("video", "audio"), predict(model, golden), base, strict=True):
            results[f"{case}.out.{stream}"] = value[0]
            print(case, stream, f"std {value.std():.3f}, {(value - before).norm() / before.norm():.3f} from the base")
    save(FOLDER, results)
    print(sum(file.stat().st_size for file in FOLDER.iterdir()), "bytes")


if __name__ == "__main__":
    main()
