"""Writes tests/fixtures/sound/aac.mp4: bursts of tones as AAC in an MP4 file by ffmpeg, with a picture track before the sound.

The same bursts as `bursts` in common/sound/tests/files.rs: 16 kHz, two channels, one second.
"""

import math
import pathlib
import struct
import subprocess
import tempfile
import wave

RATE = 16_000
BURSTS = [0.0, 0.11, 0.35, 0.72, 0.985]
TARGET = pathlib.Path(__file__).parent.parent / "fixtures/sound/aac.mp4"


def channel(delay: float) -> list[float]:
    samples = [0.0] * RATE
    for start in BURSTS:
        for index in range(RATE // 200):
            at = round((start + delay) * RATE) + index
            seconds = index / RATE
            if at < RATE:
                window = math.sin(math.pi * seconds * 200) ** 2
                samples[at] = 0.8 * window * math.sin(math.tau * 1200 * seconds)
    return samples


with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/bursts.wav"
    with wave.open(path, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        pairs = zip(channel(0.0), channel(0.03))
        file.writeframes(b"".join(struct.pack("<hh", round(a * 32767), round(b * 32767)) for a, b in pairs))
    TARGET.parent.mkdir(exist_ok=True)
    picture = "color=gray:size=32x32:rate=8:duration=1"
    subprocess.run(
        ["ffmpeg", "-y", "-v", "warning", "-f", "lavfi", "-i", picture, "-i", path, "-c:v", "mpeg4", "-c:a", "aac",
         "-b:a", "64k", "-map_metadata", "-1", "-fflags", "+bitexact", str(TARGET)],
        check=True,
    )
