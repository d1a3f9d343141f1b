"""Recognise the colour, shape and direction of the object in a clip. Needs numpy only.

`measure(frames)` takes uint8 frames [T, H, W, 3] as they come out of a decoder (compression noise is
expected) and does not use the prompt. The method:

1. Background of a frame: the median colour of its outermost two pixels all round.
2. Contrast of a pixel: its Euclidean RGB distance from the background. The frame's peak is the 97th
   percentile of the contrast; below 40 the frame shows nothing.
3. The object: pixels with contrast above half the peak, of which only the largest connected component
   (4-neighbours).
4. Colour: median over the frames of the mean colour of object pixels above 0.8 of the peak, then the nearest
   of the palette; likewise the background.
5. Direction: centroid of the object, mean of the last three frames minus mean of the first three (fewer in
   short clips). The larger axis decides; under 12 % of the picture's size, or less than 1.5 times the
   other axis, it is None.
6. Shape: ideal circle, square and triangle are drawn into the object's bounding box and compared by
   intersection over union; the sum over all frames decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLORS = {
    "red": (222, 42, 40),
    "green": (44, 190, 76),
    "blue": (52, 108, 245),
    "yellow": (243, 213, 48),
    "purple": (165, 62, 205),
    "white": (245, 245, 245),
}
BACKGROUNDS = {"black": (8, 8, 10), "gray": (112, 112, 116), "navy": (12, 18, 78)}
SHAPES = ("circle", "square", "triangle")

LEAST_CONTRAST = 40.0
LEAST_PIXELS = 12
LEAST_SHIFT = 0.12
AXIS_RATIO = 1.5


@dataclass(frozen=True)
class Measured:
    color: str | None
    shape: str | None
    direction: str | None
    background: str | None
    rgb: tuple[float, float, float]
    displacement: tuple[float, float]
    # Share of frames in which the object could be seen.
    visible: float
    # Mean intersection over union with the ideal of each shape.
    overlap: tuple[float, float, float]


def nearest(rgb: np.ndarray, table: dict) -> str:
    return min(table, key=lambda name: float(np.sum((np.asarray(table[name]) - rgb) ** 2)))


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected component, by spreading the highest label through the mask."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        spread = np.maximum.reduce(
            [labels, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        )
        spread = np.where(mask, spread, 0)
        if np.array_equal(spread, labels):
            break
        labels = spread
    if not labels.any():
        return mask
    names, counts = np.unique(labels[labels > 0], return_counts=True)
    return labels == names[np.argmax(counts)]


def ideal(shape: str, height: int, width: int) -> np.ndarray:
    """The shape that fills a bounding box of this many pixels, as coverage in 0..1 (4 by 4 samples a pixel)."""
    y = ((np.arange(height * 4) + 0.5) / (height * 4))[:, None]
    x = ((np.arange(width * 4) + 0.5) / (width * 4))[None, :]
    if shape == "circle":
        inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    elif shape == "square":
        inside = np.ones((height * 4, width * 4), bool)
    else:
        inside = np.abs(x - 0.5) <= y / 2
    return inside.reshape(height, 4, width, 4).mean((1, 3))


def overlaps(mask: np.ndarray) -> np.ndarray:
    """Intersection over union of the object with each ideal shape in its bounding box."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
    scores = []
    for shape in SHAPES:
        model = ideal(shape, *box.shape)
        scores.append(np.minimum(box, model).sum() / np.maximum(box, model).sum())
    return np.array(scores)


def look(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Background colour, object mask and object colour of one frame; no mask if there is no contrast."""
    pixels = frame.astype(np.float64)
    border = np.concatenate(
        [pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)]
    )
    background = np.median(border, 0)
    contrast = np.sqrt(((pixels - background) ** 2).sum(-1))
    peak = np.percentile(contrast, 97)
    if peak < LEAST_CONTRAST:
        return background, None, None
    mask = largest_part(contrast > peak / 2)
    if mask.sum() < LEAST_PIXELS:
        return background, None, None
    core = mask & (contrast > 0.8 * peak)
    return background, mask, pixels[core if core.any() else mask].mean(0)


def measure(frames: np.ndarray) -> Measured:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"expected frames [T, H, W, 3], got {frames.shape}")
    height, width = frames.shape[1:3]
    backgrounds, colors, centers, scores = [], [], [], []
    for frame in frames:
        background, mask, color = look(frame)
        backgrounds.append(background)
        if mask is None:
            continue
        colors.append(color)
        y, x = np.nonzero(mask)
        centers.append((x.mean(), y.mean()))
        scores.append(overlaps(mask))
    ground = nearest(np.median(backgrounds, 0), BACKGROUNDS)
    visible = len(centers) / len(frames)
    if not centers:
        return Measured(None, None, None, ground, (0.0, 0.0, 0.0), (0.0, 0.0), 0.0, (0.0, 0.0, 0.0))
    rgb = np.median(colors, 0)
    overlap = np.mean(scores, 0)
    ends = min(3, max(1, len(centers) // 3))
    dx, dy = np.mean(centers[-ends:], 0) - np.mean(centers[:ends], 0)
    return Measured(
        color=nearest(rgb, COLORS),
        shape=SHAPES[int(np.argmax(overlap))],
        direction=direction_of(dx / width, dy / height),
        background=ground,
        rgb=tuple(float(c) for c in rgb),
        displacement=(float(dx), float(dy)),
        visible=visible,
        overlap=tuple(float(o) for o in overlap),
    )


def direction_of(dx: float, dy: float) -> str | None:
    """The direction of a displacement given in shares of the picture's size."""
    large, small = max(abs(dx), abs(dy)), min(abs(dx), abs(dy))
    if large < LEAST_SHIFT or large < AXIS_RATIO * small:
        return None
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def wanted(prompt: str) -> dict[str, str | None]:
    """What a prompt specifies: colour, shape, direction, background (None if it does not)."""
    words = prompt.lower().replace("grey", "gray").replace(".", " ").replace(",", " ").split()

    def first(table):
        return next((w for w in words if w in table), None)

    return {
        "color": first(COLORS),
        "shape": first(SHAPES),
        "direction": first(("left", "right", "up", "down")),
        "background": first(BACKGROUNDS),
    }
