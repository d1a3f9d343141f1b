"""Golden fixtures of the Wan 2.1 autoencoder against diffusers: encode and decode over several chunks, whole and tiled.

    python tests/reference/vae.py

`tiny_vae` also serves the generators of whole pipelines.
"""

import torch
from common import FIXTURES, save
from diffusers import AutoencoderKLWan

Z_DIM = 4


def tiny_vae(seed: int = 21) -> AutoencoderKLWan:
    """Wan 2.1's architecture at a small size, with random weights that bf16 represents exactly and that keep activations at about the same size."""
    config = dict(base_dim=6, z_dim=Z_DIM, dim_mult=[1, 2, 4, 4], num_res_blocks=1)
    statistics = dict(latents_mean=[0.1, -0.3, 0.2, 0.0], latents_std=[1.2, 0.7, 0.9, 1.5])
    model = AutoencoderKLWan(**config, **statistics).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("gamma"):
                value = 1.0 + 0.2 * noise
            elif name.endswith("bias"):
                value = 0.1 * noise
            else:
                value = noise * parameter[0].numel() ** -0.5
            # The output is clamped to -1..1: keep it inside, since the clamp would hide errors.
            scale = 0.4 if name.startswith("decoder.conv_out") else 1.0
            parameter.copy_((scale * value).bfloat16().float())
    return model


def save_vae(model: AutoencoderKLWan, folder) -> None:
    """Saves the weights in bf16, which represents them exactly."""
    copy = AutoencoderKLWan.from_config(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)


def main() -> None:
    folder = FIXTURES / "vae"
    model = tiny_vae()
    save_vae(model, folder / "vae")
    generator = torch.Generator().manual_seed(22)

    def picture(frames: int, height: int, width: int) -> torch.Tensor:
        coarse = torch.randn(1, 3, frames, height // 8, width // 8, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(frames, height, width), mode="trilinear")
        return (smooth + 0.1 * torch.randn(1, 3, frames, height, width, generator=generator)).clamp(-1, 1)

    golden = {}
    with torch.no_grad():
        golden["video"] = picture(9, 24, 40)
        golden["encoded"] = model.encode(golden["video"]).latent_dist.mode()
        golden["latents"] = torch.randn(1, Z_DIM, 4, 3, 5, generator=generator)
        golden["decoded"] = model.decode(golden["latents"]).sample
        image = golden["video"][:, :, :1]
        still = torch.cat([image, torch.zeros(1, 3, 8, 24, 40)], 2)
        golden["encoded_first_frame"] = model.encode(still).latent_dist.mode()

        model.enable_tiling(32, 32, 24, 24)
        golden["tiled_video"] = picture(5, 40, 56)
        golden["tiled_encoded"] = model.encode(golden["tiled_video"]).latent_dist.mode()
        golden["tiled_latents"] = torch.randn(1, Z_DIM, 2, 5, 7, generator=generator)
        golden["tiled_decoded"] = model.decode(golden["tiled_latents"]).sample
    for key, value in golden.items():
        print(f"{key} {tuple(value.shape)} std {value.std():.3f} largest {value.abs().max():.3f}")
    save(folder, golden)


if __name__ == "__main__":
    main()
