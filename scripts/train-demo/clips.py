"""Synthetic clips: one coloured shape that moves over a plain background.

Everything is drawn with signed distances, so edges are anti-aliased, a whole batch is one tensor
expression, and a clip may be rendered directly as a crop (which is all the VAE needs for training).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from measure import BACKGROUNDS, COLORS, SHAPES

SIZE = 64
FRAMES = 17
FPS = 8

DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}

# The radius of the circle; the other shapes are scaled to look equally large.
RADIUS = (8.0, 11.5)
# How far the centre travels from the first frame to the last one, in pixels.
TRAVEL = (26.0, 34.0)
# Pixels that always stay free between the shape and the border.
MARGIN = 2.0
SQUARE_HALF = 0.92
TRIANGLE_CIRCUM = 1.28


@dataclass(frozen=True)
class Spec:
    """What a prompt says."""

    color: str
    shape: str
    direction: str
    background: str

    @property
    def prompt(self) -> str:
        return f"a {self.color} {self.shape} moving {self.direction} on a {self.background} background"


ALL_SPECS = [Spec(*words) for words in itertools.product(COLORS, SHAPES, DIRECTIONS, BACKGROUNDS)]
PROMPTS = [spec.prompt for spec in ALL_SPECS]
# Still pictures have no direction: their prompts leave the motion out.
STILL_PROMPTS = {
    (c, s, b): f"a {c} {s} on a {b} background" for c, s, b in itertools.product(COLORS, SHAPES, BACKGROUNDS)
}


def extents(shape: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """How far each shape reaches from its centre: left/right, up, down."""
    side = torch.stack([radius, radius * SQUARE_HALF, radius * TRIANGLE_CIRCUM * 0.8660254])
    up = torch.stack([radius, radius * SQUARE_HALF, radius * TRIANGLE_CIRCUM])
    down = torch.stack([radius, radius * SQUARE_HALF, radius * TRIANGLE_CIRCUM * 0.5])
    pick = shape.unsqueeze(0)
    return tuple(table.gather(0, pick).squeeze(0) for table in (side, up, down))


def distance(shape: torch.Tensor, radius: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """Signed distance to the outline (negative inside); `shape` and `radius` broadcast over the grid."""
    circle = torch.sqrt(dx * dx + dy * dy) - radius
    square = torch.maximum(dx.abs(), dy.abs()) - radius * SQUARE_HALF
    inner = radius * (TRIANGLE_CIRCUM * 0.5)
    triangle = torch.maximum(dy - inner, dx.abs() * 0.8660254 - dy * 0.5 - inner)
    return torch.where(shape == 0, circle, torch.where(shape == 1, square, triangle))


def _uniform(n: int, low, high, generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def sample_motion(shape: torch.Tensor, direction: torch.Tensor, generator=None):
    """Radius, start and velocity (pixels a frame) such that the shape stays in view for the whole clip."""
    n = len(shape)
    radius = _uniform(n, *RADIUS, generator)
    travel = _uniform(n, *TRAVEL, generator)
    unit = torch.tensor(list(DIRECTIONS.values()))[direction]
    side, up, down = extents(shape, radius)
    low_x, high_x = side + MARGIN, SIZE - side - MARGIN
    low_y, high_y = up + MARGIN, SIZE - down - MARGIN
    # A start from which the whole way fits between the borders.
    shift = unit * travel.unsqueeze(1)
    x0 = _uniform(n, torch.maximum(low_x, low_x - shift[:, 0]), torch.minimum(high_x, high_x - shift[:, 0]), generator)
    y0 = _uniform(n, torch.maximum(low_y, low_y - shift[:, 1]), torch.minimum(high_y, high_y - shift[:, 1]), generator)
    return radius, torch.stack([x0, y0], 1), shift / (FRAMES - 1)


def render(shape, radius, start, velocity, color, background, frames=FRAMES, size=SIZE, origin=None, first=0):
    """Clips as float [N, 3, T, H, W] in -1..1. `origin` [N, 2] and `first` cut a window out of the full clip."""
    n = len(shape)
    if origin is None:
        origin = torch.zeros(n, 2)
    time = torch.arange(frames, dtype=torch.float32) + torch.as_tensor(first, dtype=torch.float32).reshape(-1, 1)
    center = start.unsqueeze(1) + velocity.unsqueeze(1) * time.unsqueeze(-1) - origin.unsqueeze(1)
    grid = torch.arange(size, dtype=torch.float32) + 0.5
    dx = grid.view(1, 1, 1, size) - center[:, :, 0].view(n, frames, 1, 1)
    dy = grid.view(1, 1, size, 1) - center[:, :, 1].view(n, frames, 1, 1)
    dx, dy = torch.broadcast_tensors(dx, dy)
    outline = distance(shape.view(n, 1, 1, 1), radius.view(n, 1, 1, 1), dx, dy)
    mask = (0.5 - outline).clamp(0, 1).unsqueeze(1)
    color = color.view(n, 3, 1, 1, 1)
    background = background.view(n, 3, 1, 1, 1)
    return background + (color - background) * mask


def palette(table: dict) -> torch.Tensor:
    return torch.tensor(list(table.values()), dtype=torch.float32) / 127.5 - 1


def spec_indices(specs: list[Spec]) -> tuple[torch.Tensor, ...]:
    colors, shapes, directions, backgrounds = list(COLORS), list(SHAPES), list(DIRECTIONS), list(BACKGROUNDS)
    rows = [
        (colors.index(s.color), shapes.index(s.shape), directions.index(s.direction), backgrounds.index(s.background))
        for s in specs
    ]
    return tuple(torch.tensor(rows).unbind(1))


def clips(specs: list[Spec], generator=None) -> torch.Tensor:
    """Full clips of the given specifications."""
    color, shape, direction, background = spec_indices(specs)
    radius, start, velocity = sample_motion(shape, direction, generator)
    return render(shape, radius, start, velocity, palette(COLORS)[color], palette(BACKGROUNDS)[background])


def random_crops(n: int, size: int, frames: int, generator=None) -> torch.Tensor:
    """Crops for the VAE: any spec, a window that sees the shape most of the time, slightly varied colours."""

    def draw(count):
        return torch.randint(count, (n,), generator=generator)

    shape, direction = draw(len(SHAPES)), draw(len(DIRECTIONS))
    radius, start, velocity = sample_motion(shape, direction, generator)
    first = torch.randint(FRAMES - frames + 1, (n,), generator=generator)
    middle = start + velocity * (first + frames / 2).unsqueeze(1)
    jitter = (torch.rand(n, 2, generator=generator) - 0.5) * size * 0.8
    origin = (middle + jitter - size / 2).round().clamp(0, SIZE - size)

    def tint(table, spread):
        chosen = palette(table)[draw(len(table))]
        return (chosen + (torch.rand(n, 3, generator=generator) - 0.5) * spread).clamp(-1, 1)

    return render(
        shape, radius, start, velocity, tint(COLORS, 0.12), tint(BACKGROUNDS, 0.08), frames, size, origin, first
    )


def to_uint8(clip: torch.Tensor):
    """[3, T, H, W] in -1..1 to numpy uint8 [T, H, W, 3]."""
    return ((clip.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()
