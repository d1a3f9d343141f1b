"""Train the vocoder from log-mel spectrograms to waveforms, by regression (see sounds.py for why that is enough).

    python -m ltx2.train_vocoder --out build --steps 600

Starts from `vocoder_init.py`. With audio_vae.pt in --out, half of the spectrograms are the ones that the audio VAE decodes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ltx2 import models, sounds, train_audio_vae, vocoder_init
from training import Run, autocast

WINDOWS = (256, 512, 1024, 2048)
WAVE_WEIGHT = 10.0


def spectral_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Relative and logarithmic distance of amplitude spectra, for each side by itself."""
    made, real = made.flatten(0, 1), real.flatten(0, 1)
    total = 0
    for size in WINDOWS:
        window = torch.hann_window(size)
        a, b = (torch.stft(x, size, size // 4, window=window, return_complex=True, center=False).abs() for x in (made, real))
        total = total + (a - b).norm() / b.norm().clamp(min=1e-3) + 0.3 * ((a + 3e-2).log() - (b + 3e-2).log()).abs().mean()
    return total / len(WINDOWS)


def loss_of(vocoder, mel: torch.Tensor, wave: torch.Tensor) -> tuple[torch.Tensor, float]:
    with autocast():
        made = vocoder(mel).float()
    error = (made - wave).abs().mean()
    return WAVE_WEIGHT * error + spectral_loss(made, wave), float(error.detach())


class Pool:
    """Sounds rendered once; training takes random crops of them."""

    def __init__(self, size: int, audio_vae=None):
        parts = [sounds.random_sounds(32, waveform=True) for _ in range(size // 32)]
        mel, self.wave = (torch.cat(p) for p in zip(*parts, strict=True))
        self.mels = [mel.clamp(min=sounds.QUIET)]
        if audio_vae is not None:
            self.mels.append(train_audio_vae.evaluate(audio_vae, mel)[1])

    def crops(self, n: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        mels, waves = [], []
        for i in torch.randint(len(self.wave), (n,)).tolist():
            at = int(torch.randint(sounds.FRAMES - frames + 1, ()))
            mels.append(self.mels[i % len(self.mels)][i, :, at : at + frames])
            waves.append(self.wave[i, :, at * models.VOCODER_HOP : (at + frames) * models.VOCODER_HOP])
        mel, wave = torch.stack(mels), torch.stack(waves)
        # Any loudness on either side.
        gain = torch.rand(n, 2, 1) * 1.1 + 0.02
        return (mel + gain.log().unsqueeze(-1)).clamp(min=sounds.QUIET), wave * gain


def load_audio_vae(path: Path):
    vae = models.audio_vae()
    vae.load_state_dict(torch.load(path, weights_only=True)["average"])
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def evaluate(vocoder, pool: Pool, n: int = 12) -> str:
    """Mean L1 on whole sounds for each kind of spectrogram."""
    errors = [float((vocoder(mel[:n]) - pool.wave[:n]).abs().mean()) for mel in pool.mels]
    return " ".join(f"{e:.4f}" for e in errors) + f" (of {float(pool.wave[:n].abs().mean()):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pool", type=int, default=192)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(3)
    decoded = args.out / "audio_vae.pt"
    pool = Pool(args.pool, load_audio_vae(decoded) if decoded.exists() else None)
    vocoder = models.vocoder()
    vocoder_init.initialise(vocoder)
    run = Run(vocoder, args.out / "vocoder.pt", steps=args.steps, lr=args.lr, warmup=0.05, decay=0.998)
    print(f"at the start: wave L1 {evaluate(vocoder, pool)}", flush=True)
    total = count = 0
    while run.running:
        loss, error = loss_of(vocoder, *pool.crops(args.batch, args.frames))
        norm = run.step(loss)
        total, count = total + error, count + 1
        if run.step_count % 50 == 0:
            print(
                f"step {run.step_count} {run.progress:.3f} wave L1 {total / count:.4f} loss {loss.item():.4f} "
                f"grad {norm:.2f} lr {run.rate():.1e} {run.used / run.step_count:.3f} s/step",
                flush=True,
            )
            total = count = 0
        if run.step_count % 250 == 0:
            print(f"whole sounds, averaged weights: wave L1 {evaluate(run.average, pool)}", flush=True)
            run.rest()
    run.finish()
    print(f"finished at step {run.step_count}: wave L1 {evaluate(run.average, pool)}", flush=True)


if __name__ == "__main__":
    main()
