"""Golden fixtures of LoRAs on the Wan 2.1 transformer, against diffusers and PEFT: every key layout, and a base in NF4.

    pip install peft bitsandbytes
    python tests/reference/lora.py

`lora-wan` has one LoRA file for each layout and the outputs of the transformers of `transformer-t2v` and `transformer-i2v` with
them; `lora-wan-nf4` has a transformer whose blocks are stored in NF4, and its outputs with a LoRA beside the values that
bitsandbytes reads back.
"""

import json

import bitsandbytes.functional as bnb
import torch
from common import FIXTURES, fill, save
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import save_file
from transformer import BASE, filled

FOLDER = FIXTURES / "lora-wan"
TIMESTEP = 999.0
generator = torch.Generator().manual_seed(71)
ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
BLOCK = (
    {f"attn1.{ours}": f"self_attn.{theirs}" for ours, theirs in ATTENTION.items()}
    | {f"attn2.{ours}": f"cross_attn.{theirs}" for ours, theirs in ATTENTION.items()}
    | {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
)
IMAGE_BLOCK = {"attn2.add_k_proj": "cross_attn.k_img", "attn2.add_v_proj": "cross_attn.v_img"}
OUTSIDE = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "proj_out": "head.head",
}
IMAGE_OUTSIDE = {
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
}


def layers(model: WanTransformer3DModel, block: dict, outside: dict) -> dict[str, str]:
    """Names of layers in diffusers, and in the original program."""
    blocks = range(len(model.blocks))
    inside = {f"blocks.{i}.{ours}": f"blocks.{i}.{theirs}" for i in blocks for ours, theirs in block.items()}
    return inside | outside


def normal(*shape: int, scale: float) -> torch.Tensor:
    return torch.randn(shape, generator=generator) * scale


def pair(model, layer: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices whose product is about half as large as the weight."""
    outputs, inputs = model.get_submodule(layer).weight.shape
    return normal(rank, inputs, scale=inputs**-0.5), normal(outputs, rank, scale=0.5 * rank**-0.5)


def ranks(index: int) -> int:
    return (3, 8, 5)[index % 3]


def write(name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, FOLDER / f"{name}.safetensors", metadata)


def diffusers_layout(model) -> None:
    names = layers(model, BLOCK, OUTSIDE)
    tensors = {}
    for index, layer in enumerate(names):
        down, up = pair(model, layer, ranks(index))
        tensors[f"transformer.{layer}.lora_A.weight"] = down
        tensors[f"transformer.{layer}.lora_B.weight"] = up
    write("diffusers", tensors, {"modelspec.title": "Ink", "modelspec.trigger_phrase": "drawn in ink"})


def metadata_alpha(model) -> None:
    """Alpha in the metadata, as diffusers writes it."""
    names = [name for name in layers(model, BLOCK, {}) if "attn1" in name]
    tensors = {}
    for layer in names:
        down, up = pair(model, layer, 4)
        tensors[f"transformer.{layer}.lora_A.weight"] = down
        tensors[f"transformer.{layer}.lora_B.weight"] = up
    config = {"r": 4, "lora_alpha": 10, "alpha_pattern": {"blocks.0.attn1.to_k": 2}, "rank_pattern": {}, "target_modules": names}
    adapter = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    write("metadata", tensors, {"format": "pt", "lora_adapter_metadata": adapter})


def original_layout(model, name: str, block: dict, outside: dict) -> None:
    tensors = {}
    for index, (layer, theirs) in enumerate(layers(model, block, outside).items()):
        down, up = pair(model, layer, ranks(index))
        tensors[f"diffusion_model.{theirs}.lora_A.weight"] = down
        tensors[f"diffusion_model.{theirs}.lora_B.weight"] = up
        if index % 2 == 0:
            tensors[f"diffusion_model.{theirs}.diff_b"] = normal(up.shape[0], scale=0.2)
    write(name, tensors)


def comfy_layout(model) -> None:
    tensors = {}
    for index, (layer, theirs) in enumerate(layers(model, BLOCK, {}).items()):
        rank = ranks(index)
        down, up = pair(model, layer, rank)
        tensors[f"diffusion_model.{theirs}.lora_down.weight"] = down.half()
        tensors[f"diffusion_model.{theirs}.lora_up.weight"] = up.half()
        # Powers of two: diffusers multiplies the matrices by alpha / rank in half precision.
        tensors[f"diffusion_model.{theirs}.alpha"] = torch.tensor(rank * (0.5 if index % 2 else 2.0))
        if index % 3 == 0:
            tensors[f"diffusion_model.{theirs}.diff_b"] = normal(up.shape[0], scale=0.2).half()
    # Distilled LoRAs have such keys; diffusers drops them, too.
    tensors["diffusion_model.blocks.0.norm3.diff"] = torch.zeros(32)
    tensors["diffusion_model.blocks.0.self_attn.norm_q.diff"] = torch.zeros(32)
    write("comfy", tensors)


def kohya_layout(model) -> None:
    tensors = {}
    for index, (layer, theirs) in enumerate(layers(model, BLOCK, {}).items()):
        rank = ranks(index)
        down, up = pair(model, layer, rank)
        name = f"lora_unet_{theirs.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = down.bfloat16()
        tensors[f"{name}.lora_up.weight"] = up.bfloat16()
        tensors[f"{name}.alpha"] = torch.tensor(float(rank) / 2)
    write("kohya", tensors)


def full_differences(model) -> dict[str, torch.Tensor]:
    """Differences of whole weights and biases, by parameter."""
    tensors, parameters = {}, {}
    for layer, theirs in layers(model, BLOCK, {}).items():
        if "blocks.1" in layer:
            outputs, inputs = model.get_submodule(layer).weight.shape
            parameters[f"{layer}.weight"] = normal(outputs, inputs, scale=0.5 * inputs**-0.5)
            parameters[f"{layer}.bias"] = normal(outputs, scale=0.2)
            tensors[f"diffusion_model.{theirs}.diff"] = parameters[f"{layer}.weight"]
            tensors[f"diffusion_model.{theirs}.diff_b"] = parameters[f"{layer}.bias"]
    write("full", tensors)
    return parameters


def pipeline(folder) -> WanPipeline:
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer").eval()
    return WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=transformer)


def predict(transformer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return transformer(
            hidden_states=inputs["latents"],
            timestep=torch.tensor([TIMESTEP]),
            encoder_hidden_states=filled(inputs["prompt"]),
            encoder_hidden_states_image=inputs.get("image"),
        ).sample


def with_loras(pipe: WanPipeline, inputs, loras: dict[str, float]) -> torch.Tensor:
    for name in loras:
        # PEFT fills in zeros for biases that a file does not have.
        pipe.load_lora_weights(FOLDER, weight_name=f"{name}.safetensors", adapter_name=name, low_cpu_mem_usage=False)
    pipe.set_adapters(list(loras), list(loras.values()))
    output = predict(pipe.transformer, inputs)
    pipe.unload_lora_weights()
    return output


def base_inputs(name: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    golden = load_file(FIXTURES / name / "golden.safetensors")
    return {key: golden[key] for key in ("latents", "prompt", "image") if key in golden}


def layouts() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = pipeline(FIXTURES / "transformer-t2v")
    image = pipeline(FIXTURES / "transformer-i2v")
    diffusers_layout(text.transformer)
    metadata_alpha(text.transformer)
    original_layout(text.transformer, "original", BLOCK, OUTSIDE)
    comfy_layout(text.transformer)
    kohya_layout(text.transformer)
    original_layout(image.transformer, "original-i2v", BLOCK | IMAGE_BLOCK, IMAGE_OUTSIDE)
    parameters = full_differences(text.transformer)
    golden = {}
    inputs = base_inputs("transformer-t2v")
    golden["none"] = predict(text.transformer, inputs)
    for name, scale in (("diffusers", 1.0), ("metadata", 0.8), ("original", 0.7), ("comfy", 1.2), ("kohya", -0.6)):
        golden[name] = with_loras(text, inputs, {name: scale})
    golden["together"] = with_loras(text, inputs, {"diffusers": 0.5, "comfy": -0.4, "kohya": 0.3})
    with torch.no_grad():
        for name, difference in parameters.items():
            text.transformer.get_parameter(name).add_(difference, alpha=0.9)
    golden["full"] = predict(text.transformer, inputs)
    image_inputs = base_inputs("transformer-i2v")
    golden["none-i2v"] = predict(image.transformer, image_inputs)
    golden["original-i2v"] = with_loras(image, image_inputs, {"original-i2v": 0.9})
    # A LoRA of a text-to-video model on an image-to-video model.
    golden["comfy-i2v"] = with_loras(image, image_inputs, {"comfy": 1.0})
    report("lora-wan", golden, golden["none"])
    save(FOLDER, golden)


def nf4_base() -> None:
    folder = FIXTURES / "lora-wan-nf4"
    torch.manual_seed(0)
    config = BASE | dict(attention_head_dim=32, ffn_dim=128, num_layers=1, in_channels=4)
    model = WanTransformer3DModel(**config).eval()
    fill(model, seed=72)
    tensors = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(parameter.bfloat16())
            if name.startswith("blocks.") and parameter.ndim == 2 and "table" not in name:
                codes, state = bnb.quantize_4bit(parameter, blocksize=64, quant_type="nf4", compress_statistics="attn" in name)
                tensors[name] = codes
                tensors |= {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
                parameter.copy_(bnb.dequantize_4bit(codes, state))
            else:
                tensors[name] = parameter.bfloat16()
    part = folder / "transformer"
    model.save_config(part)
    save_file({key: value.contiguous() for key, value in tensors.items()}, part / "diffusion_pytorch_model.safetensors")
    lora = {}
    for index, (layer, theirs) in enumerate(layers(model, BLOCK, {}).items()):
        rank = ranks(index)
        down, up = pair(model, layer, rank)
        lora[f"diffusion_model.{theirs}.lora_down.weight"] = down
        lora[f"diffusion_model.{theirs}.lora_up.weight"] = up
        lora[f"diffusion_model.{theirs}.alpha"] = torch.tensor(rank * 0.75)
    save_file(lora, folder / "comfy.safetensors")
    inputs = {
        "latents": torch.randn(1, 4, 3, 8, 10, generator=generator),
        "prompt": torch.randn(7, config["text_dim"], generator=generator),
    }
    golden = inputs | {"none": predict(model, inputs)}
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=model)
    pipe.load_lora_weights(folder, weight_name="comfy.safetensors", adapter_name="comfy")
    pipe.set_adapters(["comfy"], [0.8])
    golden["comfy"] = predict(pipe.transformer, inputs)
    report("lora-wan-nf4", {"comfy": golden["comfy"]}, golden["none"])
    save(folder, golden)


def report(folder: str, golden: dict[str, torch.Tensor], base: torch.Tensor) -> None:
    for name, value in golden.items():
        print(folder, name, f"std {value.std():.3f}, {(value - base).norm() / base.norm():.3f} from the base")


if __name__ == "__main__":
    layouts()
    nf4_base()
