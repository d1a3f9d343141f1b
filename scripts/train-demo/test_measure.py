"""The measurement must be correct on drawn clips, also after lossy compression: `python test_measure.py`."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import torch

import clips
from measure import measure


def compressed(frames: np.ndarray, crf: int) -> np.ndarray:
    """There and back through H.264, 4:2:0."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    ffmpeg, raw = imageio_ffmpeg.get_ffmpeg_exe(), ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    quiet = [ffmpeg, "-v", "error", "-threads", "1"]
    encode = quiet + raw + ["-s", size, "-r", "8", "-i", "-", "-c:v", "libx264", "-crf", str(crf)]
    encode += ["-pix_fmt", "yuv420p", "-f", "matroska", "-"]
    packed = subprocess.run(encode, input=frames.tobytes(), capture_output=True, check=True).stdout
    decode = quiet + ["-i", "-"] + raw + ["-"]
    data = subprocess.run(decode, input=packed, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, *frames.shape[1:])


def main() -> None:
    batch = clips.clips(clips.ALL_SPECS, torch.Generator().manual_seed(3))
    for name, crf, step in (("as drawn", None, 1), ("H.264 crf 24", 24, 3), ("H.264 crf 36", 36, 3)):
        wrong = count = 0
        for spec, clip in list(zip(clips.ALL_SPECS, batch, strict=True))[::step]:
            frames = clips.to_uint8(clip)
            if crf is not None:
                frames = compressed(frames, crf)
            found = measure(frames)
            got = (found.color, found.shape, found.direction, found.background)
            expected = (spec.color, spec.shape, spec.direction, spec.background)
            count += 1
            if got != expected:
                wrong += 1
                print(f"  {name}: {spec.prompt}: {found}")
        print(f"{name}: {count - wrong} of {count} right")
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
