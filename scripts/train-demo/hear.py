"""Recognise what a clip's sound says: whether its pitch rises, which side is louder, the timbre. Needs numpy only.

`hear(sound, rate)` takes samples [2, N] (left, right) as they come out of a decoder and does not use the prompt. The method:

1. Pieces of 100 ms at nine places from 5 % to 95 % of the sound, with a Hann window; the spectra's amplitudes of both sides
   are added. A piece whose level is below 0.005 is silent and says nothing.
2. Pitch: the highest peak between 250 and 850 Hz. Rise: mean pitch of the last three pieces minus that of the first three.
   Above 100 Hz (below -100 Hz) the sound rises (falls), otherwise it stays.
3. Louder side: level of right over left in decibels, mean of the last two pieces; under 2 dB neither. Drift: the same minus
   the mean of the first two.
4. Timbre: amplitude at twice and three times the pitch relative to the pitch, median over the pieces; the nearest of `TIMBRES`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# shape -> amplitudes of the first, second and third harmonic
TIMBRES = {"circle": (1.0, 0.0, 0.0), "square": (1.0, 0.0, 0.6), "triangle": (1.0, 0.6, 0.3)}

PIECES = 9
BAND = (250.0, 850.0)
LEAST_LEVEL = 0.005
LEAST_RISE = 100.0
LEAST_SIDE = 2.0


@dataclass(frozen=True)
class Heard:
    # "up", "down" or None
    pitch: str | None
    # "left" or "right" at the end of the sound, or None
    side: str | None
    shape: str | None
    rise: float
    # Right over left at the end in decibels, and how much it has grown since the beginning.
    balance: float
    drift: float
    # Second and third harmonic relative to the first.
    harmonics: tuple[float, float]
    level: float
    pitches: tuple[float, ...]

    @property
    def direction(self) -> str | None:
        """The direction of the motion: by pitch if it changes, else by the side towards which the sound goes."""
        if self.pitch is not None or abs(self.drift) < LEAST_SIDE:
            return self.pitch
        return "right" if self.drift > 0 else "left"


def strength(amplitudes: np.ndarray, hertz: np.ndarray, frequency: float) -> float:
    """The largest amplitude near a frequency."""
    return float(amplitudes[np.abs(hertz - frequency) < 25].max())


def hear(sound: np.ndarray, rate: int) -> Heard:
    sound = np.asarray(sound, np.float64)
    if sound.ndim != 2 or sound.shape[0] != 2 or sound.shape[1] < rate // 2:
        raise ValueError(f"expected at least half a second of samples [2, N], got {sound.shape}")
    size, length = rate // 10, sound.shape[1]
    hertz, window = np.fft.rfftfreq(size, 1 / rate), np.hanning(size)
    band = (hertz > BAND[0]) & (hertz < BAND[1])
    pitches, balances, harmonics, levels = [], [], [], []
    for start in np.linspace(0.05 * length, 0.95 * length - size, PIECES).astype(int):
        piece = sound[:, start : start + size]
        left, right = np.sqrt((piece**2).mean(1))
        level = float(np.hypot(left, right))
        levels.append(level)
        if level < LEAST_LEVEL:
            continue
        amplitudes = np.abs(np.fft.rfft(piece * window, axis=1)).sum(0)
        pitch = float(hertz[band][amplitudes[band].argmax()])
        first = strength(amplitudes, hertz, pitch)
        pitches.append(pitch)
        balances.append(20 * np.log10((right + 1e-4) / (left + 1e-4)))
        harmonics.append([strength(amplitudes, hertz, k * pitch) / first for k in (2, 3)])
    loudness = float(np.mean(levels))
    if len(pitches) < PIECES // 2:
        return Heard(None, None, None, 0.0, 0.0, 0.0, (0.0, 0.0), loudness, tuple(pitches))
    ends = min(3, len(pitches) // 2)
    rise = float(np.mean(pitches[-ends:]) - np.mean(pitches[:ends]))
    balance = float(np.mean(balances[-2:]))
    second, third = (float(x) for x in np.median(harmonics, 0))
    return Heard(
        pitch=None if abs(rise) < LEAST_RISE else "up" if rise > 0 else "down",
        side=None if abs(balance) < LEAST_SIDE else "right" if balance > 0 else "left",
        shape=min(TIMBRES, key=lambda name: np.hypot(second - TIMBRES[name][1], third - TIMBRES[name][2])),
        rise=rise,
        balance=balance,
        drift=balance - float(np.mean(balances[:2])),
        harmonics=(second, third),
        level=loudness,
        pitches=tuple(pitches),
    )
