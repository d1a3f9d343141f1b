"""Golden fixtures of LTX-2's sound against diffusers: audio autoencoder, both vocoders, the mel spectrogram of given sound (torchaudio, as in the
original code), and the chain from tokens to waveform.

    python tests/reference/ltx2_audio.py            # tests/fixtures/ltx2-audio, ltx2-audio-48k
    python tests/reference/ltx2_audio.py official   # tests/fixtures/ltx2-audio/official.json

`tiny_audio_vae`, `tiny_vocoder` and `tiny_vocoder_with_bwe` also serve the generators of whole pipelines.
"""

import json
import re
import sys

import torch
import torchaudio
from common import FIXTURES, save
from diffusers import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

LATENT_CHANNELS, MEL_BINS = 2, 16
# Sizes of the published checkpoints (diffusers' scripts/convert_ltx2_to_diffusers.py): LTX-2.3 and 2.5 have the vocoder with bandwidth extension.
OFFICIAL_VAE = dict(
    base_channels=128, output_channels=2, ch_mult=(1, 2, 4), num_res_blocks=2, attn_resolutions=None, in_channels=2, resolution=256,
    latent_channels=8, norm_type="pixel", causality_axis="height", dropout=0.0, mid_block_add_attention=False, sample_rate=16000,
    mel_hop_length=160, is_causal=True, mel_bins=64, double_z=True,
)
DILATIONS = [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
OFFICIAL_VOCODER = dict(
    in_channels=128, hidden_channels=1024, out_channels=2, upsample_kernel_sizes=[16, 15, 8, 4, 4], upsample_factors=[6, 5, 2, 2, 2],
    resnet_kernel_sizes=[3, 7, 11], resnet_dilations=DILATIONS, act_fn="leaky_relu", leaky_relu_negative_slope=0.1, antialias=False,
    final_act_fn="tanh", final_bias=True, output_sampling_rate=24000,
)
OFFICIAL_VOCODER_WITH_BWE = dict(
    in_channels=128, hidden_channels=1536, out_channels=2, upsample_kernel_sizes=[11, 4, 4, 4, 4, 4], upsample_factors=[5, 2, 2, 2, 2, 2],
    resnet_kernel_sizes=[3, 7, 11], resnet_dilations=DILATIONS, act_fn="snakebeta", leaky_relu_negative_slope=0.1, antialias=True,
    antialias_ratio=2, antialias_kernel_size=12, final_act_fn=None, final_bias=False, bwe_in_channels=128, bwe_hidden_channels=512,
    bwe_out_channels=2, bwe_upsample_kernel_sizes=[12, 11, 4, 4, 4], bwe_upsample_factors=[6, 5, 2, 2, 2], bwe_resnet_kernel_sizes=[3, 7, 11],
    bwe_resnet_dilations=DILATIONS, bwe_act_fn="snakebeta", bwe_leaky_relu_negative_slope=0.1, bwe_antialias=True, bwe_antialias_ratio=2,
    bwe_antialias_kernel_size=12, bwe_final_act_fn=None, bwe_final_bias=False, filter_length=512, hop_length=80, window_length=512,
    num_mel_channels=64, input_sampling_rate=16000, output_sampling_rate=48000,
)


def fill(model: torch.nn.Module, seed: int, gains: dict[str, float]) -> None:
    """Random weights, and statistics, that bf16 represents exactly and that keep activations at about the same size. `gains`: factors for weights whose
    name contains a text."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("alpha", "beta")):
                value = 0.3 * noise
            elif name.endswith("bias"):
                value = 0.1 * noise
            elif "upsamplers" in name:
                # A transposed convolution: each output sees kernel / stride taps of each input channel.
                value = noise * (parameter.shape[0] * 2) ** -0.5
            else:
                value = noise * parameter[0].numel() ** -0.5
            for text, gain in gains.items():
                value *= gain if text in name else 1.0
            parameter.copy_(value)
        for name, buffer in model.named_buffers():
            noise = torch.randn(buffer.shape, generator=generator)
            if name == "latents_mean":
                buffer.copy_(0.5 * noise)
            elif name == "latents_std":
                buffer.copy_(1 + 0.3 * noise.tanh())
        for _, tensor in model.state_dict().items():
            tensor.copy_(tensor.bfloat16().float())


def tiny_audio_vae(seed: int = 51) -> AutoencoderKLLTX2Audio:
    model = AutoencoderKLLTX2Audio(
        base_channels=LATENT_CHANNELS * MEL_BINS // 4, ch_mult=(1, 2, 2), latent_channels=LATENT_CHANNELS, mel_bins=MEL_BINS
    ).eval()
    fill(model, seed, {})
    return model


def tiny_vocoder(seed: int = 52) -> LTX2Vocoder:
    model = LTX2Vocoder(
        in_channels=2 * MEL_BINS, hidden_channels=32, upsample_kernel_sizes=[16, 15, 16], upsample_factors=[6, 5, 8], resnet_kernel_sizes=[3, 7],
        resnet_dilations=[[1, 3, 5], [1, 3]],
    ).eval()
    fill(model, seed, {"conv_out": 0.5})
    return model


def tiny_vocoder_with_bwe(seed: int = 53) -> LTX2VocoderWithBWE:
    length, hop, bands = 128, 80, 8
    model = LTX2VocoderWithBWE(
        in_channels=2 * MEL_BINS, hidden_channels=32, upsample_kernel_sizes=[11, 8, 16], upsample_factors=[5, 4, 8], resnet_kernel_sizes=[3, 7],
        resnet_dilations=[[1, 3, 5], [1, 3]], bwe_in_channels=2 * bands, bwe_hidden_channels=16, bwe_upsample_kernel_sizes=[12, 11, 16],
        bwe_upsample_factors=[6, 5, 8], bwe_resnet_kernel_sizes=[3, 7], bwe_resnet_dilations=[[1, 3], [1, 5]], filter_length=length,
        window_length=length, hop_length=hop, num_mel_channels=bands,
    ).eval()
    angles = torch.outer(torch.arange(length // 2 + 1), torch.arange(length)) * (2 * torch.pi / length)
    window = torch.hann_window(length)
    basis = torch.cat([angles.cos() * window, -angles.sin() * window]).unsqueeze(1)
    model.mel_stft.stft_fn.forward_basis.copy_(basis)
    model.mel_stft.stft_fn.inverse_basis.copy_(basis / length)
    bank = torchaudio.functional.melscale_fbanks(length // 2 + 1, 0.0, 8000.0, bands, 16000, norm="slaney", mel_scale="slaney")
    model.mel_stft.mel_basis.copy_(bank.T)
    # Both parts of the sum stay inside -1 to 1: the clamp would hide errors.
    fill(model, seed, {"vocoder.conv_out": 0.06, "bwe_generator.conv_out": 0.04, "bwe_generator.conv_in": 0.4})
    return model


def save_bf16(model, folder) -> None:
    """Saves the weights in bf16, which represents them exactly."""
    copy = type(model).from_config(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)


def given_sound(samples: int, rate: int, generator: torch.Generator) -> torch.Tensor:
    """Two tones, a glide and noise; the right side is silent for the second half."""
    time = torch.arange(samples) / rate
    glide = torch.sin(2 * torch.pi * (300 * time + 4000 * time**2))
    left = 0.4 * torch.sin(2 * torch.pi * 440 * time) + 0.2 * glide + 0.02 * torch.randn(samples, generator=generator)
    right = 0.5 * torch.sin(2 * torch.pi * 1900 * time + 1) * (time < samples / rate / 2)
    return torch.stack([left, right])


def original_mel(waveform: torch.Tensor, rate: int, bins: int) -> torch.Tensor:
    """`AudioProcessor.waveform_to_mel` of the original code: `[channels, samples]` → `[1, channels, frames, bins]`."""
    waveform = torchaudio.functional.resample(waveform, rate, 16000)
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000, n_fft=1024, win_length=1024, hop_length=160, f_min=0.0, f_max=8000.0, n_mels=bins, center=True, pad_mode="reflect",
        power=1.0, mel_scale="slaney", norm="slaney",
    )
    return transform(waveform).clamp(min=1e-5).log().transpose(1, 2).unsqueeze(0)


def decode(vae, vocoder, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As the pipelines: denormalise, unpack, decode, synthesise."""
    tokens = tokens * vae.latents_std + vae.latents_mean
    mel = vae.decode(tokens.unflatten(2, (-1, MEL_BINS // 4)).transpose(1, 2)).sample
    return mel, vocoder(mel)[0]


def golden() -> None:
    generator = torch.Generator().manual_seed(54)
    vae, vocoder, with_bwe = tiny_audio_vae(), tiny_vocoder(), tiny_vocoder_with_bwe()
    save_bf16(vae, FIXTURES / "ltx2-audio" / "audio_vae")
    save_bf16(vocoder, FIXTURES / "ltx2-audio" / "vocoder")
    save_bf16(with_bwe, FIXTURES / "ltx2-audio-48k" / "vocoder")
    plain, wide = {}, {}
    with torch.no_grad():
        plain["tokens"] = torch.randn(1, 5, LATENT_CHANNELS * MEL_BINS // 4, generator=generator)
        plain["decoded"], plain["waveform"] = decode(vae, vocoder, plain["tokens"])
        wide["mel"] = plain["decoded"]
        wide["low"] = with_bwe.vocoder(wide["mel"])[0]
        wide["waveform"] = with_bwe(wide["mel"])[0]
        print(f"added frequencies: std {(wide['waveform'] - with_bwe.resampler(wide['low'][None])[0]).std():.3f}")

        plain["sound"] = given_sound(5001, 44100, generator)
        plain["resampled"] = torchaudio.functional.resample(plain["sound"], 44100, 16000)
        plain["resampled_up"] = torchaudio.functional.resample(plain["sound"][:, :700], 11025, 16000)
        plain["mel"] = original_mel(plain["sound"], 44100, MEL_BINS)
        plain["mel_64"] = original_mel(plain["sound"], 44100, 64)
        plain["encoded"] = vae.encode(plain["mel"]).latent_dist.mode()
        # Sound shorter than the clip is followed by silence.
        longer = torch.nn.functional.pad(plain["resampled"], (0, 5 * 4 * 160 - plain["resampled"].shape[1]))
        plain["encoded_with_silence"] = vae.encode(original_mel(longer, 16000, MEL_BINS)).latent_dist.mode()[:, :, :5]
    for name, tensors in (("ltx2-audio", plain), ("ltx2-audio-48k", wide)):
        for key, value in tensors.items():
            print(f"{name} {key} {tuple(value.shape)} std {value.std():.3f} largest {value.abs().max():.3f}")
        save(FIXTURES / name, tensors)


def patterns(state: dict[str, torch.Tensor]) -> list:
    """`[name with {} for numbers, shape, numbers for each {}]`: one line for all combinations of these numbers."""
    groups: dict[tuple, list] = {}
    for name, tensor in state.items():
        numbers = tuple(int(number) for number in re.findall(r"(?<=\.)\d+(?=\.)", name))
        groups.setdefault((re.sub(r"(?<=\.)\d+(?=\.)", "{}", name), tuple(tensor.shape)), []).append(numbers)
    lines = []
    for (pattern, shape), found in groups.items():
        by_rest: dict[tuple, list] = {}
        for numbers in found:
            by_rest.setdefault(numbers[:1], []).append(numbers[1:])
        merged: dict[tuple, list] = {}
        for first, rest in by_rest.items():
            merged.setdefault(tuple(rest), []).extend(first)
        for rest, firsts in merged.items():
            columns = [firsts] if rest[0] == () or firsts else []
            columns += [sorted({numbers[at] for numbers in rest}) for at in range(len(rest[0]))]
            size = 1
            for column in columns:
                size *= max(len(column), 1)
            assert size == len(rest) * max(len(firsts), 1), pattern
            lines.append([pattern, list(shape), [column for column in columns if column]])
    return lines


def official() -> None:
    with torch.device("meta"):
        models = {
            "audio_vae": AutoencoderKLLTX2Audio(**OFFICIAL_VAE), "vocoder": LTX2Vocoder(**OFFICIAL_VOCODER),
            "vocoder_with_bwe": LTX2VocoderWithBWE(**OFFICIAL_VOCODER_WITH_BWE),
        }
    lines = []
    for name, model in models.items():
        config = {key: value for key, value in model.config.items() if not key.startswith("_")}
        rows = ",\n".join(json.dumps(row) for row in patterns(model.state_dict()))
        lines.append(f'"{name}": {{"config": {json.dumps(config)}, "tensors": [\n{rows}]}}')
        print(name, len(model.state_dict()), sum(tensor.numel() for tensor in model.state_dict().values()))
    (FIXTURES / "ltx2-audio" / "official.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    official() if sys.argv[1:] == ["official"] else golden()
