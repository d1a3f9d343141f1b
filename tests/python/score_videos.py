"""Counts the videos that show what their prompts say.

Argument: a folder with `<name>.mp4` and `<name>.txt` (its prompt) side by side. Decodes the files with ffmpeg, measures
colour, direction and shape with the measuring code of the training scripts, prints a line a video and then JSON:
{"videos": n, "colour_and_direction": n, "shape": n}.
"""

import json
import sys
from pathlib import Path

import imageio.v3 as iio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "train-demo"))
from measure import measure, wanted  # noqa: E402


def main():
    files = sorted(Path(sys.argv[1]).glob("*.mp4"))
    both = shapes = 0
    for file in files:
        want = wanted(file.with_suffix(".txt").read_text())
        got = measure(iio.imread(file, plugin="FFMPEG"))
        colour_and_direction = got.color == want["color"] and got.direction == want["direction"]
        both += colour_and_direction
        shapes += got.shape == want["shape"]
        print(f"{file.stem}: {got.color} {got.shape} {got.direction}" + ("" if colour_and_direction else "  <- wrong"))
    print(json.dumps({"videos": len(files), "colour_and_direction": both, "shape": shapes}))


if __name__ == "__main__":
    main()
