"""Golden fixtures of the weight formats: bytes written by the packages that define them, and the values those packages read back.

    pip install gguf bitsandbytes compressed-tensors
    python tests/reference/weight_formats.py

`formats.safetensors` and `formats.gguf` hold linear layers in published layouts; `golden.safetensors` has for each layer
its values in f32 (`expected`, to be matched bit for bit), an input and the product of both (`input`, `output`).

- FP8 in blocks of 128 × 128 with `weight_scale_inv`: DeepSeek-V3's and Qwen's layout, quantised here.
- FP8 and NVFP4 of compressed-tensors: packed and unpacked by that package's compressors.
- NVFP4 of NVIDIA's Model Optimizer: written here in the layout of its exporter (`weight`, `weight_scale`,
  `weight_scale_2`; value = e2m1 · (scale · scale_2)); the nibbles are packed by compressed-tensors, whose order is the same.
- NF4: bitsandbytes, plain and nested.
- GGUF: quantised by the `gguf` package (Q4_0, Q4_1, Q8_0), random valid blocks for Q4_K and Q6_K, read back by it.
"""

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from common import FIXTURES, save
from compressed_tensors.compressors.naive_quantized import FloatQuantizationCompressor
from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8, unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams
from gguf import GGMLQuantizationType as Ggml
from safetensors.torch import save_file

FOLDER = FIXTURES / "weight-formats"
E4M3 = torch.float8_e4m3fn
generator = torch.Generator().manual_seed(11)
formats: dict[str, torch.Tensor] = {}
golden: dict[str, torch.Tensor] = {}


def random(rows: int, width: int) -> torch.Tensor:
    """Rows of different magnitudes, so that a scale of the wrong row is noticed."""
    sizes = torch.rand(rows, 1, generator=generator) + 0.5
    return torch.randn(rows, width, generator=generator) * sizes * width**-0.5


def add(name: str, tensors: dict[str, torch.Tensor], expected: torch.Tensor) -> None:
    formats.update({f"{name}.{key}": tensor for key, tensor in tensors.items()})
    remember(name, expected)


def remember(name: str, expected: torch.Tensor) -> None:
    expected = expected.float()
    values = torch.randn(3, expected.shape[1], generator=generator)
    golden[f"{name}.expected"] = expected
    golden[f"{name}.input"] = values
    golden[f"{name}.output"] = (values.double() @ expected.double().T).float()


def qwen_fp8(name: str, rows: int, width: int, scale_type: torch.dtype) -> None:
    weight, block = random(rows, width), 128
    grid = torch.nn.functional.pad(weight, (0, -width % block, 0, -rows % block))
    grid = grid.unflatten(1, (-1, block)).unflatten(0, (-1, block)).abs().amax((1, 3))
    scale = (grid / 448).to(scale_type)
    spread = scale.float().repeat_interleave(block, 0)[:rows].repeat_interleave(block, 1)[:, :width]
    codes = (weight / spread).clamp(-448, 448).to(E4M3)
    add(name, {"weight": codes, "weight_scale_inv": scale}, codes.float() * spread)


def compressed_fp8() -> None:
    for name, arguments, (rows, width), dims in [
        ("ct_fp8_channel", {"strategy": "channel"}, (6, 40), (1,)),
        ("ct_fp8_tensor", {"strategy": "tensor"}, (6, 40), (0, 1)),
    ]:
        arguments = {"num_bits": 8, **arguments}
        weight = random(rows, width)
        low, high = weight.amin(dims, keepdim=True), weight.amax(dims, keepdim=True)
        scale, _ = calculate_qparams(low, high, QuantizationArgs(type="float", **arguments))
        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(type="float", **arguments))
        scale = scale.reshape(-1, 1) if dims == (1,) else scale.reshape(1)
        state = FloatQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
        expected = FloatQuantizationCompressor.decompress(dict(state), scheme)["weight"]
        add(name, state | {"input_scale": torch.ones(1)}, expected)
    arguments = {"num_bits": 8, "strategy": "block", "block_structure": [128, 128]}
    weight = random(256, 24)
    scale = weight.unflatten(0, (2, 128)).abs().amax((1, 2)).reshape(2, 1) / 448
    padded = torch.nn.functional.pad(weight, (0, 104))
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(type="float", **arguments))
    state = FloatQuantizationCompressor.compress({"weight": padded, "weight_scale": scale}, scheme)
    expected = FloatQuantizationCompressor.decompress(dict(state), scheme)["weight"][:, :24]
    add("ct_fp8_block", {"weight": state["weight"][:, :24].contiguous(), "weight_scale": scale}, expected)


def nvfp4() -> None:
    weight = random(12, 48)
    block_max = weight.unflatten(1, (-1, 16)).abs().amax(-1)
    # compressed-tensors divides by the global scale.
    world = (448 * 6 / weight.abs().max()).reshape(1)
    scale = (block_max / 6 * world).to(E4M3).float()
    arguments = {"num_bits": 4, "strategy": "tensor_group", "group_size": 16}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(type="float", **arguments))
    state = {"weight": weight, "weight_scale": scale, "weight_global_scale": world}
    state = NVFP4PackedCompressor.compress(state, scheme)
    # Its `decompress` computes in bf16; the same steps in f32.
    codes = unpack_fp4_from_uint8(state["weight_packed"], *weight.shape, dtype=torch.float32)
    scale = state["weight_scale"].float()
    expected = dequantize(codes, scale, args=scheme.weights, global_scale=world, dtype=torch.float32)
    add("ct_nvfp4", state | {"input_global_scale": torch.ones(1)}, expected)
    # Model Optimizer multiplies by it.
    world = weight.abs().max() / (448 * 6)
    scale = (block_max / 6 / world).to(E4M3)
    combined = (scale.float() * world).repeat_interleave(16, 1)
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    nearest = levels[(weight / combined).abs().unsqueeze(-1).sub(levels).abs().argmin(-1)] * weight.sign()
    tensors = {"weight": pack_fp4_to_uint8(nearest), "weight_scale": scale, "weight_scale_2": world, "input_scale": torch.ones(())}
    add("modelopt_nvfp4", tensors, nearest * combined)


def nf4() -> None:
    for name, (rows, width), block, nested in [
        ("bnb_nf4", (8, 128), 64, False),
        ("bnb_nf4_across_rows", (10, 48), 64, False),
        ("bnb_nf4_blocks_of_128", (6, 256), 128, False),
        ("bnb_nf4_nested", (136, 128), 64, True),
    ]:
        weight = random(rows, width)
        codes, state = bnb.quantize_4bit(weight, blocksize=block, quant_type="nf4", compress_statistics=nested)
        tensors = {"weight": codes} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
        if width % block == 0:
            expected = bnb.dequantize_4bit(codes, state)
        else:
            # Its CPU kernel decodes such rows incorrectly; the portable implementation agrees with the GPU's.
            expected = _dequantize_4bit_compute(codes.reshape(-1), state.absmax, state.code, block, weight.shape, weight.dtype)
        add(name, tensors, expected)


def ggml(writer: gguf.GGUFWriter) -> None:
    rng = np.random.default_rng(12)
    for kind in (Ggml.Q4_0, Ggml.Q4_1, Ggml.Q8_0, Ggml.Q4_K, Ggml.Q6_K):
        name = f"ggml_{kind.name.lower()}"
        if kind in (Ggml.Q4_0, Ggml.Q4_1, Ggml.Q8_0):
            data = gguf.quants.quantize(random(17, 96).numpy(), kind)
        else:
            _, size = gguf.GGML_QUANT_SIZES[kind]
            data = rng.integers(0, 256, (5 * 2, size), dtype=np.uint8)
            for place in {Ggml.Q4_K: (0, 2), Ggml.Q6_K: (208,)}[kind]:
                scales = rng.uniform(-0.01, 0.01, (5 * 2, 1)).astype(np.float16)
                data[:, place : place + 2] = scales.view(np.uint8)
            data = data.reshape(5, -1)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        remember(name, torch.from_numpy(gguf.quants.dequantize(data, kind)))
    for kind, dtype in ((Ggml.F16, torch.float16), (Ggml.BF16, torch.bfloat16)):
        name = f"ggml_{kind.name.lower()}"
        weight = random(5, 24).to(dtype)
        data = weight.numpy() if kind == Ggml.F16 else weight.view(torch.uint8).numpy()
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        remember(name, weight)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    qwen_fp8("qwen_fp8", 130, 136, torch.bfloat16)
    qwen_fp8("qwen_fp8_f32", 5, 24, torch.float32)
    compressed_fp8()
    nvfp4()
    nf4()
    writer = gguf.GGUFWriter(FOLDER / "formats.gguf", "formats")
    writer.add_name("weight formats")
    ggml(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file({name: tensor.contiguous() for name, tensor in formats.items()}, FOLDER / "formats.safetensors")
    save(FOLDER, golden)
