"""The measurement must be correct on the sounds of drawn clips, also after Opus: `python test_hear.py`."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import torch

import clips
from hear import hear
from ltx2 import models, sounds


def compressed(sound: np.ndarray, rate: int) -> np.ndarray:
    """There and back through Opus, 64 kbit/s."""
    ffmpeg, raw = imageio_ffmpeg.get_ffmpeg_exe(), ["-f", "f32le", "-ac", "2", "-ar", str(rate)]
    quiet = [ffmpeg, "-v", "error", "-threads", "1"]
    encode = [*quiet, *raw, "-i", "-", "-c:a", "libopus", "-b:a", "64k", "-f", "ogg", "-"]
    packed = subprocess.run(encode, input=sound.T.astype(np.float32).tobytes(), capture_output=True, check=True).stdout
    data = subprocess.run([*quiet, "-i", "-", *raw, "-"], input=packed, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.float32).reshape(-1, 2).T


def test_drawn_sounds(copies: int = 8) -> None:
    torch.manual_seed(3)
    cases = [(s, d) for s in range(len(clips.SHAPES)) for d in range(len(clips.DIRECTIONS))] * copies
    shape, direction = (torch.tensor(column) for column in zip(*cases, strict=True))
    _, start, velocity = clips.sample_motion(shape, direction)
    wave = sounds.sound(shape, start, velocity, waveform=True)[1].numpy()
    for i, (s, d) in enumerate(cases):
        spoken, way = list(clips.SHAPES)[s], list(clips.DIRECTIONS)[d]
        for sound in [wave[i]] if i % 4 else [wave[i], compressed(wave[i], models.VOCODER_RATE)]:
            heard = hear(sound, models.VOCODER_RATE)
            assert heard.shape == spoken and heard.direction == way, (spoken, way, heard)
            if way in ("up", "down"):
                assert heard.pitch == way, (spoken, way, heard)
            else:
                assert heard.pitch is None and heard.side == way, (spoken, way, heard)


def test_silence_says_nothing() -> None:
    heard = hear(np.zeros((2, 48000)), 24000)
    assert heard.pitch is None and heard.side is None and heard.shape is None


if __name__ == "__main__":
    test_drawn_sounds()
    test_silence_says_nothing()
    print("right")
