"""The sound of a clip: it follows the shape, so that picture and sound can be checked against each other.

- Timbre says the shape (`hear.TIMBRES`): circle sine, square the odd harmonics (1, 3), triangle all of them (1, 2, 3).
- Pitch follows the height on the screen in steps of 100 Hz: 300 Hz at the bottom, 800 Hz at the top.
- The stereo position follows left and right; near the left border only the left side sounds.

Why steps: LTX2Vocoder is convolutional, so a constant mel spectrogram gives a waveform that repeats every hop (10 ms).
Only multiples of 100 Hz, with a phase locked to the frames, can be held. Such tones make the waveform a function of the mel
spectrogram: the vocoder learns by plain regression, without an adversary.
"""

from __future__ import annotations

import math

import torch

import clips
import hear
from ltx2 import models

FRAMES = 4 * models.AUDIO_TOKENS - 3  # mel frames of a clip (the audio VAE is causal)
LOUDNESS = 0.3
N_FFT = 1024
FLOOR = 1e-5
# Log-mels below this are inaudible beside a tone (whose peak is about 0). Encoders see the whole range; what the audio VAE
# decodes and the vocoder reads ends here.
QUIET = -5.0
HARMONICS = (1, 2, 3)
TIMBRES = torch.tensor([hear.TIMBRES[shape] for shape in clips.SHAPES])
PITCHES = (3, 8)  # lowest and highest, in 100 Hz
TOP, BOTTOM = 14.0, 50.0  # heights in pixels where the highest and the lowest pitch are reached
LEFT, RIGHT = 20.0, 44.0  # positions where only one side sounds


def pitch(y: torch.Tensor) -> torch.Tensor:
    """Vertical position in pixels (0 is the top) to a multiple of 100 Hz."""
    low, high = PITCHES
    return 100 * (low + (high - low) * ((BOTTOM - y) / (BOTTOM - TOP)).clamp(0, 1)).round()


def sides(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal position in pixels to the gains of left and right, of constant power."""
    angle = ((x - LEFT) / (RIGHT - LEFT)).clamp(0, 1) * (math.pi / 2)
    return angle.cos(), angle.sin()


def synthesise(shape, start, velocity, rate: int, first: float, samples: int) -> torch.Tensor:
    """Stereo waveform [N, 2, samples] at `rate`; `first` is the time of the first sample in seconds."""
    time = first + torch.arange(samples, dtype=torch.float64) / rate
    frame = (time * clips.FPS).clamp(0, clips.FRAMES - 1).float()
    # The pitch changes only on the 10 ms grid, where every multiple of 100 Hz has phase 0: no clicks.
    grid = (((time * 100 + 1e-6).floor() / 100) * clips.FPS).clamp(0, clips.FRAMES - 1).float()
    hertz = pitch(start[:, 1:] + velocity[:, 1:] * grid).double()
    phase = 2 * math.pi * hertz * time
    wave = sum(TIMBRES[shape, i, None] * torch.sin(k * phase).float() for i, k in enumerate(HARMONICS))
    left, right = sides(start[:, :1] + velocity[:, :1] * frame)
    return LOUDNESS * torch.stack([wave * left, wave * right], 1)


def _filterbank(bins: int) -> torch.Tensor:
    """Triangles on the Slaney mel scale with Slaney's area normalisation, [freq, mel], 0 to 8 kHz."""

    def to_mel(hz):
        return hz / (200 / 3) if hz < 1000 else 15 + math.log(hz / 1000) / (math.log(6.4) / 27)

    edges = torch.linspace(0, to_mel(models.SAMPLE_RATE / 2), bins + 2, dtype=torch.float64)
    hertz = torch.where(edges < 15, edges * (200 / 3), 1000 * torch.exp((edges - 15) * (math.log(6.4) / 27)))
    freq = torch.linspace(0, models.SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    up = (freq[:, None] - hertz[None, :-2]) / (hertz[1:-1] - hertz[:-2])
    down = (hertz[None, 2:] - freq[:, None]) / (hertz[2:] - hertz[1:-1])
    return (torch.minimum(up, down).clamp(min=0) * (2 / (hertz[2:] - hertz[:-2]))).float()


_BANK = _filterbank(models.MELS)
_WINDOW = torch.hann_window(N_FFT)


def mel(wave: torch.Tensor) -> torch.Tensor:
    """Waveform [N, 2, samples] with N_FFT/2 samples of margin on both sides to log-mel [N, 2, frames, bins]."""
    n, c, samples = wave.shape
    spectrum = torch.stft(wave.reshape(n * c, samples), N_FFT, models.HOP, window=_WINDOW, center=False, return_complex=True)
    out = (spectrum.abs().transpose(1, 2) @ _BANK).clamp(min=FLOOR).log()
    return out.reshape(n, c, out.shape[1], models.MELS)


def sound(shape, start, velocity, frames: int = FRAMES, first: int = 0, waveform: bool = False):
    """Log-mel [N, 2, frames, bins] of a clip's sound and, if asked, its waveform at the vocoder's rate."""
    begin = first * models.HOP / models.SAMPLE_RATE
    wave = synthesise(
        shape, start, velocity, models.SAMPLE_RATE, begin - N_FFT / 2 / models.SAMPLE_RATE, (frames - 1) * models.HOP + N_FFT
    )
    if not waveform:
        return mel(wave)
    return mel(wave), synthesise(shape, start, velocity, models.VOCODER_RATE, begin, frames * models.VOCODER_HOP)


def random_sounds(n: int, frames: int = FRAMES, waveform: bool = False):
    shape, direction = torch.randint(3, (n,)), torch.randint(4, (n,))
    _, start, velocity = clips.sample_motion(shape, direction)
    first = int(torch.randint(FRAMES - frames + 1, ()))
    return sound(shape, start, velocity, frames, first, waveform)
